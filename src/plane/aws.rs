//! The AWS plane: an HTTP/1.1 server to the agent, a client to AWS.
//!
//! One request goes through the files of this module in this order: `arrive` (authenticate and
//! name), `context` (what the agent claims), `call` (what exactly would be sent), `patience` (what
//! the client hears while people decide), `forward`, `answer`; `dialect` writes every error.
//!
//! Invariants: nothing is judged before its signature holds, nothing is forwarded without a permit,
//! nothing that people decide has an unread body, and no received bytes are sent on but the body's.

mod answer;
mod arrive;
mod before;
mod call;
mod context;
mod dialect;
mod forward;
mod incoming;
mod naming;
mod patience;
mod talk;
mod volume;

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Response, header};
use tokio::sync::{Semaphore, watch};

pub(crate) use call::Endpoints;
pub(crate) use patience::{InterimOptions, Sign};

use arrive::{Body, Exchange, Opened, Request};
use before::{Found, Scene};
use dialect::{Cause, Fault};
use forward::Sending;
use naming::{Naming, Original, unseen};

use crate::action::{Action, Agent, Shown};
use crate::classify::aws::Front;
use crate::credential::agent::{Agents, LookupError};
use crate::credential::real::RealCredentials;
use crate::gate::{Admission, Ask, Gate, Passing, Refusal};
use crate::hold::Ending;
use crate::net::body::{AnswerBody, Outgoing};
use crate::net::listen::Arrived;
use crate::net::spool::Spool;
use crate::net::unstopped::Unstopped;
use crate::net::upstream::Pool;
use crate::rules::{Assume, Decision, Ruling};
use crate::telemetry::Metrics;
use crate::time::Clock;
use crate::wire::head::{Head, fields};
use crate::wire::sigv4::SigError;

/// What an operator may set.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Largest body that is read to name a request; a larger one makes it unknown.
    pub(crate) look_limit_bytes: u64,
    /// Largest body that is kept for a decision.
    pub(crate) spool_limit_bytes: u64,
    /// Largest answer of a matched request that is kept for a client that comes back for it.
    pub(crate) reply_limit_bytes: usize,
    pub(crate) endpoints: Endpoints,
    /// Host names by which agents reach this plane when they set an endpoint URL.
    pub(crate) endpoint_hosts: Vec<String>,
    pub(crate) interims: InterimOptions,
    /// The role that requests are sent in for which no rule names another.
    pub(crate) assume: Option<Arc<Assume>>,
    /// Whether those that no rule matched are, too.
    pub(crate) assumes_unmatched: bool,
    /// Whether what a held request would change is read at the upstream first.
    pub(crate) reads_before_hold: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            look_limit_bytes: 16 << 20,
            spool_limit_bytes: 64 << 20,
            reply_limit_bytes: 1 << 20,
            endpoints: Endpoints::default(),
            endpoint_hosts: Vec::new(),
            interims: InterimOptions::default(),
            assume: None,
            assumes_unmatched: false,
            reads_before_hold: true,
        }
    }
}

/// What the plane works with; all of it is shared with the rest of the process.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) agents: Arc<Agents>,
    pub(crate) real: Arc<RealCredentials>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) spool: Arc<Spool>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
}

/// The plane of one process.
pub(crate) struct Plane {
    options: Options,
    /// A request takes it once, so that its digest has one account from the question to the sending.
    naming: ArcSwap<Naming>,
    agents: Arc<Agents>,
    real: Arc<RealCredentials>,
    pool: Arc<Pool>,
    spool: Arc<Spool>,
    gate: Arc<Gate>,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// Turns of reading what held requests would change.
    reads: Semaphore,
    /// How many matched requests are on their way to their outcome.
    forwarding: watch::Sender<usize>,
}

impl Plane {
    pub(crate) fn new(options: Options, parts: Parts) -> Arc<Self> {
        let Parts { agents, real, pool, spool, gate, clock, metrics } = parts;
        let front =
            Front { endpoint_hosts: options.endpoint_hosts.clone(), account: real.account(), ..Front::default() };
        let naming = ArcSwap::from_pointee(Naming { front, endpoints: options.endpoints.clone() });
        Arc::new(Self {
            options,
            naming,
            agents,
            real,
            pool,
            spool,
            gate,
            clock,
            metrics,
            reads: Semaphore::new(before::MOST_AT_ONCE),
            forwarding: watch::Sender::new(0),
        })
    }

    /// What requests are named by from now on. STS may have told the account only after the start.
    fn naming(&self) -> Arc<Naming> {
        let naming = self.naming.load_full();
        let facts = self.gate.facts();
        let is_current = std::ptr::eq(naming.front.facts, facts);
        if is_current && naming.front.account.is_some() {
            return naming;
        }
        let account = naming.front.account.clone().or_else(|| self.real.account());
        if is_current && account.is_none() {
            return naming;
        }
        let front = Front { facts, account, ..naming.front.clone() };
        let naming = Arc::new(Naming { front, endpoints: naming.endpoints.clone() });
        self.naming.store(Arc::clone(&naming));
        naming
    }

    /// Returns once every matched request that was sent has its outcome, also where the client left.
    pub(crate) async fn settled(&self) {
        // The sender lives as long as this borrow, so there is always a next value.
        drop(self.forwarding.subscribe().wait_for(|running| *running == 0).await);
    }

    /// Answers one request. Dropping the future means that its client has left.
    pub(crate) async fn respond(self: Arc<Self>, arrived: Arrived) -> Response<AnswerBody> {
        self.metrics.requests.increment();
        let (mut exchange, parts) = Exchange::open(arrived, self.clock.now());
        match self.answer(&mut exchange, parts).await {
            Ok(response) => response,
            Err(fault) => self.refuse(&exchange, &fault),
        }
    }

    /// The boxed parts are what few requests need: each future is as large as the largest thing it may wait for.
    async fn answer(
        self: &Arc<Self>,
        exchange: &mut Exchange,
        parts: arrive::Parts,
    ) -> Result<Response<AnswerBody>, Fault> {
        let request = match self.open(exchange, parts)? {
            Opened::Named(request) => request,
            Opened::Unread(unread) => Box::pin(self.read(exchange, unread)).await?,
        };
        let ruling = self.judge(&request)?;
        if ruling.is_unmatched_allow() {
            self.pass(exchange, request, &ruling).await
        } else {
            Box::pin(self.decide(exchange, request, ruling)).await
        }
    }

    /// Judges a request by the rules that came with the facts it was named by. Where those were replaced since,
    /// while its body came in, it has no name that the rules in force were made for: its next attempt has.
    fn judge(&self, request: &Request) -> Result<Ruling, Fault> {
        let Request { naming, agent, context, named, .. } = request;
        let ruling = self.gate.judge_named(naming.front.facts.digest, agent, context, &named.actions);
        ruling.ok_or_else(|| Fault::new(Cause::Ended(Ending::Superseded), FACTS_REPLACED))
    }

    /// Lets a request through that no rule matched; both bodies stream.
    async fn pass(
        self: &Arc<Self>,
        exchange: &Exchange,
        mut request: Box<Request>,
        ruling: &Ruling,
    ) -> Result<Response<AnswerBody>, Fault> {
        let volume = match self.gate.has_volumes() {
            true => Box::pin(self.volume(exchange, &mut request, false)).await?,
            false => None,
        };
        let passing = Passing {
            action_id: &exchange.action,
            agent: &request.agent,
            key_id: request.presented.key_id(),
            peer: exchange.peer,
            actions: &request.named.actions,
            facts: request.naming.front.facts.digest,
            wording: None,
        };
        let mut permit = self.gate.pass(&passing, ruling).await?;
        let session = match self.options.assume.as_ref().filter(|_| self.options.assumes_unmatched) {
            Some(assume) => Some(Box::pin(self.session_unmatched(assume, exchange, &request)).await?),
            None => None,
        };
        let ready = self.ready_unmatched(*request, session.as_ref())?;
        if let Some(session) = session {
            permit.set_session(session);
        }
        let response = self.forward_unmatched(permit, &exchange.action, ready).await;
        match volume {
            Some(volume) => Box::pin(volume.count(response)).await,
            None => response,
        }
    }

    /// Brings a matched request to its decision, and forwards it when that is yes.
    async fn decide(
        self: &Arc<Self>,
        exchange: &Exchange,
        mut request: Box<Request>,
        mut ruling: Ruling,
    ) -> Result<Response<AnswerBody>, Fault> {
        if Self::must_be_seen(&request, &ruling) {
            if request.body.size().is_some_and(|size| size > self.options.spool_limit_bytes) {
                request.named.actions = unseen(&request.named.actions, self.options.spool_limit_bytes);
                ruling = self.judge(&request)?;
                if ruling.is_unmatched_allow() {
                    return Box::pin(self.pass(exchange, request, &ruling)).await;
                }
                if ruling.decision != Decision::Deny {
                    return Err(arrive::too_large(self.options.spool_limit_bytes));
                }
            } else {
                self.see(&mut request).await?;
                // The client chose how long that took; the rules may be others by now.
                ruling = self.judge(&request)?;
            }
        }
        if matches!(request.body, Body::Streaming { .. } | Body::Events(_)) && ruling.decision == Decision::Deny {
            // Its body stays unread, so that nothing can follow it on this connection.
            exchange.line.close_after();
        }
        let patience = match ruling.decision {
            Decision::Hold => {
                let user_agent = request.head.header(header::USER_AGENT);
                self.options.interims.patience(&request.agent.id, user_agent, ruling.expires)
            }
            Decision::Allow | Decision::Deny => None,
        };
        let found = match ruling.decision {
            // What was sent before and ran is refused below, and costs the upstream nothing here.
            Decision::Hold if !self.gate.is_spent(request.presented.replay_key(), request.presented.not_after) => {
                let retry_id = retry_id(&request.head);
                Box::pin(self.look_before(exchange, &request, retry_id.as_deref())).await
            }
            Decision::Hold | Decision::Allow | Decision::Deny => None,
        };
        let body = if found.is_none() { None } else { self.policy_body(&request).await };
        let volume = match ruling.decision {
            Decision::Allow | Decision::Hold if self.gate.has_volumes() => {
                Box::pin(self.volume(exchange, &mut request, ruling.decision == Decision::Hold)).await?
            }
            _ => None,
        };
        let (ask, sending) = Self::ask(exchange, *request, found, body)?;
        let (agent, key_id) = (ask.agent.clone(), ask.key_id.clone());
        let admission = Box::pin(self.gate.admit(ask, ruling));
        let admission = match patience {
            Some(patience) => {
                patience::kept_waiting(admission, patience, |interim| exchange.line.interim(interim)).await
            }
            None => admission.await,
        };
        match admission {
            Admission::Answered(reply) => Ok(answer::again(&reply, exchange.is_head)),
            Admission::Ended(ended) => Err(Fault::from(ended)),
            Admission::Permitted(permit) => {
                self.check_still_holds(&agent, &key_id, exchange.peer)?;
                // From here on the client's leaving stops nothing: no await may come before.
                let running = Running::new(self.clone());
                let forwarded = Unstopped::new(async move { running.0.forward_matched(permit, sending).await });
                let broken = |_| {
                    Fault::new(
                        Cause::Internal,
                        "the request broke off inside countersign; look for its outcome in the audit log.",
                    )
                };
                let response = forwarded.await.map_err(broken)?;
                match volume {
                    Some(volume) => Box::pin(volume.count(response)).await,
                    None => response,
                }
            }
        }
    }

    /// The credential again, since people take their time: one that was revoked meanwhile, or an agent
    /// that was given to somebody else, runs nothing. That a key's time ran out in between is no fault.
    fn check_still_holds(&self, agent: &Agent, key_id: &str, peer: IpAddr) -> Result<(), Fault> {
        match self.agents.lookup(key_id, peer, self.clock.now()) {
            Ok(found) if *found.agent == *agent => Ok(()),
            Err(LookupError::Expired) => Ok(()),
            Ok(_) | Err(_) => Err(SigError::UnknownKey.into()),
        }
    }

    /// Splits a request into what the gate is asked and what would be sent.
    fn ask(
        exchange: &Exchange,
        request: Request,
        found: Option<(Found, Scene)>,
        policy: Option<Bytes>,
    ) -> Result<(Arc<Ask>, Box<Sending>), Fault> {
        let Request { naming, agent, context, mut head, named, presented, body, look } = request;
        head.detach();
        let identity = body.identity();
        let payload = body.payload(presented.payload);
        let retry_id = retry_id(&head);
        // Only a body has parameters that can be written anew.
        let original = look
            .filter(|bytes| (1..=MODIFIABLE_LIMIT_BYTES).contains(&bytes.len()))
            .map(|body| Arc::new(Original { naming: naming.clone(), head: head.clone(), body }));
        let call = naming.call(head, named.route)?;
        let (found, scene) = found.unzip();
        let found = found.unwrap_or_default();
        let deltas = found.deltas(&named.actions, policy.as_deref());
        let actions: Arc<[Action]> = named.actions.into();
        let ask = Ask {
            action_id: exchange.action.clone(),
            agent,
            context,
            peer: exchange.peer,
            facts: naming.front.facts.digest,
            follows_rules: true,
            digest: naming.digest(&call, identity),
            retry_id,
            signature: presented.replay_key(),
            signature_expires: presented.not_after,
            key_id: presented.key_id().to_owned(),
            in_transaction: false,
            upstream_limit: None,
            shown: Arc::new(Shown { deltas, ..call.shown(identity, &actions) }),
            look: scene.and_then(|scene| scene.look_fn(Arc::clone(&actions), policy, original.clone())),
            actions,
            narrow: original.clone().map(|original| original.narrow_fn(found)),
            held_at: Arc::default(),
            wording: None,
        };
        let (action, is_head) = (exchange.action.clone(), exchange.is_head);
        let (agent, actions) = (ask.agent.id.clone(), Arc::clone(&ask.actions));
        Ok((
            Arc::new(ask),
            Box::new(Sending { action, naming, call, body, payload, original, is_head, agent, actions }),
        ))
    }

    /// Records that a connection ended over what was sent on it, before there was a request.
    pub(crate) fn unreadable(&self, peer: IpAddr, status: &'static str, reason: &'static str) {
        self.gate.refused(Refusal { peer, agent: None, code: status, reason: reason.to_owned() });
    }

    fn refuse(&self, exchange: &Exchange, fault: &Fault) -> Response<AnswerBody> {
        if fault.is_refusal() {
            exchange.line.close_after();
        }
        if fault.is_unrecorded_refusal() {
            self.gate.refused(Refusal {
                peer: exchange.peer,
                agent: exchange.agent.clone(),
                code: fault.code(exchange.shape),
                reason: fault.message().to_owned(),
            });
        }
        fault.render(exchange.shape, &exchange.action, exchange.is_head).map(Outgoing::whole)
    }
}

/// One matched request on its way to its outcome.
struct Running(Arc<Plane>);

impl Running {
    fn new(plane: Arc<Plane>) -> Self {
        plane.forwarding.send_modify(|running| *running += 1);
        Self(plane)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.forwarding.send_modify(|running| *running = running.saturating_sub(1));
    }
}

/// The SDK's id of a call, the same over its attempts.
fn retry_id(head: &Head) -> Option<String> {
    head.header(&fields::AMZ_SDK_INVOCATION_ID).map(|id| id.chars().take(RETRY_ID_LIMIT_CHARS).collect())
}

const FACTS_REPLACED: &str = "the facts by which countersign names requests were replaced while this one came in; \
                             nothing was sent. Send it again.";
/// Longest body whose parameters an approver may change.
const MODIFIABLE_LIMIT_BYTES: usize = 64 << 10;
/// SDKs send a UUID.
const RETRY_ID_LIMIT_CHARS: usize = 128;
