//! Sends what was decided, once, and brings the answer back.
//!
//! INVARIANT (once): a permit is spent before the first byte, each receipt is completed, and nothing
//! is sent twice. A client that leaves after the approval of a matched request was spent no longer
//! stops it. Its outcome is durable before its client hears of it.

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};

use super::Plane;
use super::answer::{Gathered, again, body_error, gather, kept, mark, request_id};
use super::arrive::{self, Body, Exchange};
use super::call::{BodyIdentity, Call};
use super::dialect::{Cause, Fault};
use super::incoming::part_fault;
use super::naming::{Naming, Original};
use super::talk::Talk;
use crate::action::Action;
use crate::credential::assume::{Session, Task};
use crate::digest::sha256;
use crate::gate::{Drift, OVERDUE_AFTER, Outcome, Permit, Receipt};
use crate::hold::Ending;
use crate::id::{ActionId, AgentId, HoldId};
use crate::net::body::{AnswerBody, BodyError, Outgoing};
use crate::net::upstream::{Endpoint, Overdue, SendError, UpstreamBody};
use crate::rules::Assume;
use crate::wire::aws::events::EVENT_STREAM;
use crate::wire::sigv4::{Payload, SigError};

/// What would be sent, while the decision is awaited.
pub(super) struct Sending {
    pub(super) action: ActionId,
    pub(super) naming: Arc<Naming>,
    pub(super) call: Call,
    pub(super) body: Body,
    pub(super) payload: Payload,
    /// What a modification starts from.
    pub(super) original: Option<Arc<Original>>,
    pub(super) is_head: bool,
    /// Whose it is, and what it needs in a role.
    pub(super) agent: AgentId,
    pub(super) actions: Arc<[Action]>,
}

/// What went wrong on the way to the upstream or back.
struct Failure {
    fault: Fault,
    outcome: Outcome,
}

/// A signed request and where it goes.
pub(super) struct Ready {
    endpoint: Endpoint,
    /// Both bodies flow at once.
    is_duplex: bool,
    request: Box<Request<Outgoing>>,
}

impl Plane {
    /// What would be sent of a request that no rule matched.
    pub(super) fn ready_unmatched(&self, request: arrive::Request, session: Option<&Session>) -> Result<Ready, Fault> {
        let arrive::Request { naming, head, named, presented, body, .. } = request;
        let payload = body.payload(presented.payload);
        self.ready(naming.call(head, named.route)?, payload, body, session)
    }

    /// A session for a request that no rule matched.
    pub(super) async fn session_unmatched(
        &self,
        assume: &Assume,
        exchange: &Exchange,
        request: &arrive::Request,
    ) -> Result<Session, Fault> {
        let account = request.naming.front.account.as_deref();
        let actions = &request.named.actions;
        self.session(assume, &Task { agent: &request.agent.id, id: exchange.action.as_str(), actions, account }).await
    }

    async fn session(&self, assume: &Assume, task: &Task<'_>) -> Result<Session, Fault> {
        self.real.session(assume, task, self.clock.now()).await.map_err(|error| {
            tracing::error!(%error, "no session of a role to forward with");
            if error.is_for_now() {
                // As a service that is asked too often: SDKs wait before they ask again.
                return Fault::new(Cause::Ended(Ending::Overloaded), SESSIONS_TAKEN);
            }
            internal(
                "there is no session of the role that this call would run in; nothing was sent. Tell the operator of \
                 countersign, whose log says why.",
            )
        })
    }

    /// Sends a request that no rule matched.
    pub(super) async fn forward_unmatched(
        &self,
        permit: Permit,
        action: &ActionId,
        ready: Ready,
    ) -> Result<Response<AnswerBody>, Fault> {
        let mut receipt = permit.spend_unmatched().map_err(drifted)?;
        // A client that leaves now drops the receipt, which is recorded as an unknown outcome.
        let mut tell = || receipt.overdue();
        let overdue = Overdue { after: OVERDUE_AFTER, tell: &mut tell };
        let sent = self.send(ready, Some(overdue)).await;
        self.answer_unmatched(receipt, action, sent)
    }

    fn answer_unmatched(
        &self,
        receipt: Receipt,
        action: &ActionId,
        sent: Result<Response<UpstreamBody>, SendError>,
    ) -> Result<Response<AnswerBody>, Fault> {
        match sent {
            Ok(mut response) => {
                self.gate.passed(receipt, &answered(response.status(), response.headers(), None));
                mark(response.headers_mut(), action, None, None);
                Ok(streamed(response))
            }
            Err(error) => {
                let Failure { fault, outcome } = send_failure(&error);
                self.gate.passed(receipt, &outcome);
                Err(fault)
            }
        }
    }

    /// Sends a request that a rule matched. To be run [`Unstopped`](crate::net::unstopped::Unstopped): dropped
    /// in the middle, it leaves an unknown outcome behind.
    pub(super) async fn forward_matched(
        &self,
        permit: Permit,
        sending: Box<Sending>,
    ) -> Result<Response<AnswerBody>, Fault> {
        let hold = permit.hold().cloned();
        self.forward_and_record(permit, sending).await.map_err(|fault| fault.with_hold(hold))
    }

    async fn forward_and_record(
        &self,
        mut permit: Permit,
        sending: Box<Sending>,
    ) -> Result<Response<AnswerBody>, Fault> {
        let hold = permit.hold().cloned();
        let Sending { action, naming, mut call, mut body, mut payload, original, is_head, agent, mut actions } =
            *sending;
        let mut difference = None;
        if let Some(parameters) = permit.modified() {
            let original =
                original.ok_or_else(|| internal("the modified request cannot be made; nothing was sent."))?;
            let narrowed = original
                .narrow(parameters)
                .map_err(|error| internal(&format!("the modification cannot be made: {error}; nothing was sent.")))?;
            difference = Some(original.difference(&narrowed));
            payload = Payload::Sha256(sha256(&narrowed.body));
            actions = narrowed.actions.into();
            call = narrowed.call;
            body = Body::Whole(narrowed.body);
        }
        let session = match permit.role().or(self.options.assume.as_ref()).cloned() {
            Some(assume) => {
                let id = hold.as_ref().map_or(action.as_str(), HoldId::as_str);
                let account = naming.front.account.as_deref();
                Some(self.session(&assume, &Task { agent: &agent, id, actions: &actions, account }).await?)
            }
            None => None,
        };
        // Taken from what will be sent, not from what was asked: this is the check that they are one.
        let digest = naming.digest(&call, body.identity());
        let ready = self.ready(call, payload, body, session.as_ref())?;
        if let Some(session) = session {
            permit.set_session(session);
        }
        let receipt = permit.spend(digest).map_err(drifted)?;
        let response = match self.send(ready, None).await {
            Ok(response) => response,
            Err(error) => return Err(Box::pin(self.failed(receipt, send_failure(&error))).await),
        };
        let (mut head, body) = response.into_parts();
        mark(&mut head.headers, &action, hold.as_ref(), difference.as_deref());
        if is_event_stream(&head.headers) {
            // It flows while it is made, and whoever talks waits for its first events.
            let outcome = answered(head.status, &head.headers, None);
            if self.gate.complete(receipt, outcome, None).await.is_err() {
                return Err(Fault::new(Cause::Ended(Ending::OutcomeUnknown), UNRECORDED));
            }
            return Ok(streamed(Response::from_parts(head, body)));
        }
        let (outcome, reply, large) = match gather(body, self.options.reply_limit_bytes).await {
            Ok(Gathered::Whole(bytes)) => {
                let outcome = answered(head.status, &head.headers, Some(&bytes));
                (outcome, Some(Arc::new(kept(head.status, &head.headers, bytes))), None)
            }
            Ok(Gathered::Large(large)) => (answered(head.status, &head.headers, None), None, Some(large)),
            Err(error) => return Err(Box::pin(self.failed(receipt, broken_off(&error))).await),
        };
        if self.gate.complete(receipt, outcome, reply.clone()).await.is_err() {
            return Err(Fault::new(Cause::Ended(Ending::OutcomeUnknown), UNRECORDED));
        }
        Ok(match (reply, large) {
            (Some(reply), _) => again(&reply, is_head),
            (None, Some(large)) => Response::from_parts(head, Outgoing::boxed(large)),
            (None, None) => Response::from_parts(head, Outgoing::Empty),
        })
    }

    async fn send(&self, ready: Ready, overdue: Option<Overdue<'_>>) -> Result<Response<UpstreamBody>, SendError> {
        let Ready { endpoint, is_duplex, request } = ready;
        match is_duplex {
            false => self.pool.send_telling(&endpoint, request, overdue).await,
            // Boxed, as the rare case: every request would carry the room for it.
            true => Box::pin(self.pool.converse(&endpoint, request, overdue)).await,
        }
    }

    /// Signs with the real credential, or in a session of a role. Nothing has left when this fails: the permit
    /// is still whole.
    fn ready(&self, call: Call, payload: Payload, body: Body, session: Option<&Session>) -> Result<Ready, Fault> {
        let now = self.clock.now();
        let key = match session {
            Some(session) => Ok(Arc::clone(&session.key)),
            None => self.real.current(now),
        };
        let key = key.map_err(|error| {
            tracing::error!(%error, "no real credential to forward with");
            internal(
                "there is no real credential to send this with; nothing was sent. Tell the operator of countersign.",
            )
        })?;
        let endpoint = call.endpoint.clone();
        let (mut request, behind) = call.sign(payload, &key, now).map_err(|error| {
            tracing::error!(%error, "a request cannot be signed");
            internal("the request cannot be signed for the upstream; nothing was sent.")
        })?;
        let is_duplex = matches!(body, Body::Events(_));
        let body = body.outgoing(payload, behind).map_err(|_| SigError::BodyDiffers)?;
        // hyper sends no length for no body, and S3 does not take a PUT without one.
        if matches!(body, Outgoing::Empty) && matches!(*request.method(), Method::PATCH | Method::POST | Method::PUT) {
            request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        Ok(Ready { endpoint, is_duplex, request: Box::new(request.map(|()| body)) })
    }

    /// Records the failure of a matched request; gives what the client is told.
    async fn failed(&self, receipt: Receipt, failure: Failure) -> Fault {
        let is_unknown = matches!(failure.outcome, Outcome::Unknown { .. });
        let recorded = self.gate.complete(receipt, failure.outcome, None).await;
        // A body that was cut short, or was another one than signed, is the client's own doing.
        if is_unknown && !failure.fault.is_refusal() {
            // What may have run must not look retryable: the SDK would ask for the same again at once.
            let text = format!("{} {MAY_HAVE_RUN}", failure.fault.message());
            return Fault::new(Cause::Ended(Ending::OutcomeUnknown), text);
        }
        if is_unknown { failure.fault } else { recorded.map_or_else(Fault::from, |()| failure.fault) }
    }
}

fn send_failure(error: &SendError) -> Failure {
    let reason = match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    let outcome = if error.was_sent() { Outcome::Unknown { reason } } else { Outcome::NotSent { reason } };
    let fault = match body_error(error) {
        Some(BodyError::HashDiffers | BodyError::LengthDiffers) => Fault::from(SigError::BodyDiffers),
        Some(error @ (BodyError::ChunkSignature | BodyError::Chunks(_))) => part_fault(error),
        Some(error @ (BodyError::EventSignature(_) | BodyError::Events(_))) => part_fault(error).recorded(),
        Some(BodyError::AgentCut) => Fault::new(Cause::BodyTimeout, "the body of the request did not arrive whole."),
        _ => match error {
            SendError::AnswerTimeout => Fault::new(Cause::GatewayTimeout, "the upstream did not answer in time."),
            _ if error.was_sent() => Fault::new(Cause::BadGateway, "the upstream broke off without an answer."),
            _ => Fault::new(Cause::BadGateway, "the upstream cannot be reached; nothing was sent."),
        },
    };
    Failure { fault, outcome }
}

/// The answer as it comes.
fn streamed(response: Response<UpstreamBody>) -> Response<AnswerBody> {
    match response.body().is_duplex() {
        false => response.map(Outgoing::Upstream),
        true => {
            let is_events = is_event_stream(response.headers());
            response.map(|body| Outgoing::boxed(Talk::new(body, is_events)))
        }
    }
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(EVENT_STREAM.as_bytes()))
}

fn broken_off(error: &BodyError) -> Failure {
    let fault = Fault::new(Cause::BadGateway, "the upstream's answer broke off.");
    Failure { fault, outcome: Outcome::Unknown { reason: error.to_string() } }
}

fn answered(status: StatusCode, headers: &HeaderMap, body: Option<&[u8]>) -> Outcome {
    let BodyIdentity { size, sha256 } = body.map(BodyIdentity::of).unwrap_or_default();
    let upstream_request_id = request_id(headers);
    Outcome::Answered { status: status.as_u16(), upstream_request_id, body_bytes: size, body_sha256: sha256 }
}

fn drifted(drift: Drift) -> Fault {
    internal(&format!("{drift}."))
}

fn internal(text: &str) -> Fault {
    Fault::new(Cause::Internal, text)
}

const SESSIONS_TAKEN: &str = "STS gives countersign no more sessions of the role that this call would run in for \
                              now; nothing was sent. Ask for less at once, or wait a little.";
const MAY_HAVE_RUN: &str = "It may have run and is never sent again: read the state of the resource.";
const UNRECORDED: &str = "it ran, but its outcome could not be recorded, so its answer is withheld. Read the state \
                          of the resource, and tell the operator of countersign.";
