//! The question whether an answer may go on past the limits of rules.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::asking::{Asker, Deciding, Named};
use super::ending;
use super::narrowing::Standing;
use super::settings::Settings;
use crate::action::Crossed;
use crate::catalog::postgres::facts_digest;
use crate::digest::{Digest, Hasher};
use crate::gate::{Admission, Ask, Meter};
use crate::id::{ActionId, HoldId, RuleId};
use crate::rules::{Count, Limit};

/// The question, on its way to an answer.
pub(super) struct Rest {
    pub(super) deciding: Deciding,
    pub(super) hold: Arc<OnceLock<HoldId>>,
    pub(super) digest: Digest,
}

impl Asker {
    /// The time by which answers are counted.
    pub(super) fn uptime(&self) -> Duration {
        self.plane.gate.uptime()
    }

    pub(super) fn meter(&self, named: &Named) -> Meter {
        self.plane.gate.meter(&self.agent, self.context_of(named), &named.actions)
    }

    /// Asks whether an answer may go on past limits; `None` when the rules that set them stand no more.
    pub(super) fn admit_rest(
        &self,
        named: &Named,
        settings: &Settings,
        standing: &Standing,
        limits: &[Arc<Limit>],
        passed: Count,
    ) -> Option<Rest> {
        let rules: Vec<RuleId> = limits.iter().map(|limit| limit.rule.clone()).collect();
        let ruling = self.plane.gate.crossed(&self.agent, self.context_of(named), &named.actions, &rules)?;
        let mut hasher = Hasher::new();
        hasher.update(b"the rest of an answer");
        hasher.update(self.digest_of(named).hex().as_bytes());
        for rule in &rules {
            hasher.update(&[0]);
            hasher.update(rule.as_str().as_bytes());
        }
        let (digest, now, held_at) = (hasher.finish(), self.plane.clock.now(), Arc::new(OnceLock::new()));
        let mut shown = self.shown(named.sql(), settings, standing);
        shown.headers.insert("passed so far".to_owned(), passed.to_string());
        let told: Vec<String> = limits.iter().map(|limit| format!("{}: {}", limit.rule, limit.volume)).collect();
        shown.headers.insert("volume limit".to_owned(), told.join("; "));
        let Count { rows, bytes } = passed;
        shown.crossed = Some(Crossed { action_id: named.action_id.clone(), rules, rows, bytes });
        let action_id = ActionId::fresh(self.plane.clock.now());
        let ask = Ask {
            agent: Arc::clone(&self.agent),
            context: self.context_of(named).clone(),
            peer: self.peer,
            key_id: self.credential.id().to_owned(),
            actions: Arc::clone(&named.actions),
            facts: facts_digest(),
            follows_rules: false,
            digest,
            retry_id: None,
            signature: crate::digest::sha256(action_id.as_str().as_bytes()),
            signature_expires: now,
            in_transaction: standing.is_in_transaction,
            // The server is at work: what ends a session that does nothing does not end this one.
            upstream_limit: None,
            shown: Arc::new(shown),
            // What runs already cannot be changed.
            narrow: None,
            look: None,
            held_at: Arc::clone(&held_at),
            action_id,
            wording: Some(Arc::new(named.worded.wording.clone())),
        };
        let gate = Arc::clone(&self.plane.gate);
        let openings = self.plane.words.openings(&named.action_id, named.sql(), &named.worded);
        let asker = self.copy();
        let deciding: Deciding = Box::pin(async move {
            if let Err(error) = asker.plane.words.keep(openings).await {
                return Admission::Ended(ending::unprovable(&error));
            }
            gate.admit(Arc::new(ask), ruling).await
        });
        Some(Rest { deciding, hold: held_at, digest })
    }
}
