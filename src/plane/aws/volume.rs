//! Answers against the limits of rules: counted as their bytes flow, paused where they cross one, and broken
//! off where nobody lets them go on. A call for which nothing is left is asked about before it is sent.
//!
//! A paused answer is not read on: the upstream waits. One that is broken off ends without its last bytes
//! and with a reset, so that no client takes what it has for the whole.

mod count;
mod metered;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use http::{Response, header};

use super::answer::request_id;
use super::arrive::{Body, Exchange, Request};
use super::dialect::Fault;
use super::patience;
use super::{Plane, retry_id};
use crate::action::{Action, Agent, Context, Crossed, Shown};
use crate::digest::{Digest, Hasher, sha256};
use crate::gate::{Admission, Ask, Ended, Meter, Outcome, Receipt};
use crate::hold::Ending;
use crate::id::{ActionId, RuleId};
use crate::net::body::{AnswerBody, Outgoing};
use crate::rules::{Count, Limit, Ruling};
use crate::time::Timestamp;
use count::Counter;
use metered::Metered;

/// The count of one answer, before there is one.
pub(super) struct Volume {
    meter: Meter,
    asker: Arc<Asker>,
    /// Of the hold that let it be sent though nothing was left.
    receipt: Option<Receipt>,
}

/// Asks whether an answer may go on.
struct Asker {
    plane: Arc<Plane>,
    action_id: ActionId,
    agent: Arc<Agent>,
    context: Context,
    peer: IpAddr,
    key_id: String,
    actions: Arc<[Action]>,
    facts: Digest,
    digest: Digest,
    retry_id: Option<String>,
    shown: Shown,
}

/// Why an answer does not go on.
struct Stopped(Ended);

impl Plane {
    /// Begins to count the answer to a request, and asks first where nothing is left for it; `None` where no
    /// rule limits it. What people approve before it runs is counted and not stopped.
    pub(super) async fn volume(
        self: &Arc<Self>,
        exchange: &Exchange,
        request: &mut Request,
        is_held: bool,
    ) -> Result<Option<Box<Volume>>, Fault> {
        let mut meter = self.gate.meter(&request.agent, &request.context, &request.named.actions);
        if meter.is_unlimited() || exchange.is_head {
            return Ok(None);
        }
        if is_held {
            meter.lift_all();
        }
        let now = self.gate.uptime();
        let next = Count { rows: Counter::first(&request.named.actions), bytes: 1 };
        let limits = meter.crossed_by(next, now);
        if !limits.is_empty() && matches!(request.body, Body::Streaming { .. }) {
            self.see(request).await?;
        }
        let asker = Arc::new(Asker::new(self, exchange, request)?);
        let mut volume = Box::new(Volume { meter, asker: Arc::clone(&asker), receipt: None });
        if limits.is_empty() {
            return Ok(Some(volume));
        }
        let rules: Vec<RuleId> = limits.iter().map(|limit| limit.rule.clone()).collect();
        if let Some(ruling) = asker.ruling(&rules) {
            // Its own name for the same bytes, so that they can be asked about once and run once.
            let signature = sha256(format!("volume {}", request.presented.replay_key()).as_bytes());
            let ask = asker.ask(&limits, Count::default(), signature, request.presented.not_after);
            let digest = ask.digest;
            let user_agent = request.head.header(header::USER_AGENT);
            let patience = self.options.interims.patience(&request.agent.id, user_agent, ruling.expires);
            let admission = Box::pin(self.gate.admit(Arc::new(ask), ruling));
            let admission = match patience {
                Some(patience) => {
                    patience::kept_waiting(admission, patience, |interim| exchange.line.interim(interim)).await
                }
                None => admission.await,
            };
            volume.receipt = Some(asker.allowed(admission, digest).map_err(|Stopped(ended)| Fault::from(ended))?);
        }
        volume.meter.lift(&rules, self.gate.uptime());
        Ok(Some(volume))
    }
}

impl Volume {
    /// The answer with its body counted. Only what succeeded has anything to count.
    pub(super) async fn count(
        self,
        response: Result<Response<AnswerBody>, Fault>,
    ) -> Result<Response<AnswerBody>, Fault> {
        let Self { meter, asker, receipt } = self;
        if let Some(receipt) = receipt {
            let outcome = match &response {
                Ok(response) => answered(response),
                Err(_) => Outcome::Unknown { reason: format!("see the outcome of {}", asker.action_id.as_str()) },
            };
            asker.plane.gate.complete(receipt, outcome, None).await?;
        }
        let response = response?;
        if !response.status().is_success() {
            return Ok(response);
        }
        let counter = Counter::new(&asker.actions, response.headers());
        let outcome = answered(&response);
        Ok(response.map(|body| Outgoing::boxed(Metered::new(body, meter, counter, asker, outcome))))
    }
}

fn answered<B>(response: &Response<B>) -> Outcome {
    Outcome::Answered {
        status: response.status().as_u16(),
        upstream_request_id: request_id(response.headers()),
        body_bytes: None,
        body_sha256: None,
    }
}

impl Asker {
    fn new(plane: &Arc<Plane>, exchange: &Exchange, request: &Request) -> Result<Self, Fault> {
        let mut head = request.head.clone();
        head.detach();
        let retry_id = retry_id(&head);
        let call = request.naming.call(head, request.named.route.clone())?;
        let identity = request.body.identity();
        Ok(Self {
            plane: Arc::clone(plane),
            action_id: exchange.action.clone(),
            agent: Arc::clone(&request.agent),
            context: request.context.clone(),
            peer: exchange.peer,
            key_id: request.presented.key_id().to_owned(),
            actions: request.named.actions.clone().into(),
            facts: request.naming.front.facts.digest,
            digest: request.naming.digest(&call, identity),
            retry_id,
            shown: call.shown(identity, &request.named.actions),
        })
    }

    /// The ruling on what crossed the limits of these rules; `None` when none of them stands any more.
    fn ruling(&self, rules: &[RuleId]) -> Option<Ruling> {
        self.plane.gate.crossed(&self.agent, &self.context, &self.actions, rules)
    }

    /// The same question for each attempt of a call, before it is sent and within its answer: a retry then
    /// finds the hold, or the denial, of the attempt before it.
    fn ask(&self, limits: &[Arc<Limit>], passed: Count, signature: Digest, signature_expires: Timestamp) -> Ask {
        let rules: Vec<RuleId> = limits.iter().map(|limit| limit.rule.clone()).collect();
        let mut hasher = Hasher::new();
        hasher.update(b"the rest of an answer");
        hasher.update(self.digest.hex().as_bytes());
        let mut shown = self.shown.clone();
        for rule in &rules {
            hasher.update(&[0]);
            hasher.update(rule.as_str().as_bytes());
        }
        shown.headers.insert("passed so far".to_owned(), passed.to_string());
        let told: Vec<String> = limits.iter().map(|limit| format!("{}: {}", limit.rule, limit.volume)).collect();
        shown.headers.insert("volume limit".to_owned(), told.join("; "));
        let Count { rows, bytes } = passed;
        shown.crossed = Some(Crossed { action_id: self.action_id.clone(), rules, rows, bytes });
        Ask {
            action_id: ActionId::fresh(self.plane.clock.now()),
            agent: Arc::clone(&self.agent),
            context: self.context.clone(),
            peer: self.peer,
            key_id: self.key_id.clone(),
            actions: Arc::clone(&self.actions),
            facts: self.facts,
            // Its names are those of what runs already.
            follows_rules: false,
            digest: hasher.finish(),
            retry_id: self.retry_id.clone(),
            signature,
            signature_expires,
            in_transaction: false,
            upstream_limit: None,
            shown: Arc::new(shown),
            // What runs already cannot be changed.
            narrow: None,
            look: None,
            held_at: Arc::new(OnceLock::new()),
            wording: None,
        }
    }

    fn allowed(&self, admission: Admission, digest: Digest) -> Result<Receipt, Stopped> {
        let stopped =
            |ending: Ending, message: &str| Stopped(Ended { ending, hold: None, message: message.to_owned() });
        match admission {
            Admission::Permitted(permit) => {
                if self.plane.check_still_holds(&self.agent, &self.key_id, self.peer).is_err() {
                    return Err(stopped(Ending::Superseded, "the credential of this request was revoked meanwhile."));
                }
                permit.spend(digest).map_err(|drift| stopped(Ending::Superseded, &format!("{drift}.")))
            }
            Admission::Ended(ended) => Err(Stopped(ended)),
            Admission::Answered(_) => {
                Err(stopped(Ending::AnswerLost, "an earlier attempt of this call had the answer."))
            }
        }
    }

    /// Asks within an answer; `Ok` once it may go on.
    async fn go_on(self: Arc<Self>, limits: Vec<Arc<Limit>>, passed: Count, outcome: Outcome) -> Result<(), Stopped> {
        let rules: Vec<RuleId> = limits.iter().map(|limit| limit.rule.clone()).collect();
        let Some(ruling) = self.ruling(&rules) else { return Ok(()) };
        let now = self.plane.clock.now();
        // No bytes of the agent's stand behind this question: it has a signature of its own.
        let signature = sha256(ActionId::fresh(now).as_str().as_bytes());
        let ask = self.ask(&limits, passed, signature, now);
        let digest = ask.digest;
        let receipt = self.allowed(self.plane.gate.admit(Arc::new(ask), ruling).await, digest)?;
        self.plane.gate.complete(receipt, outcome, None).await.map_err(Stopped)
    }
}
