//! What a change of a policy or an access list is against: read at the upstream before people are asked.
//!
//! These requests are countersign's own, with its own credential. There are just those of this file, each
//! of them reads, and of the agent's request they hold names alone. They take a bounded time, and what they
//! could not find out is said.

mod change;
mod look;

use std::time::Duration;

use bytes::Bytes;

use super::Plane;
use super::arrive::{Body, Request};
use crate::action::{Action, Delta};
use change::Subject;
use look::{Looking, Present};

/// For all reads of one request.
const LIMIT: Duration = Duration::from_secs(3);
/// Requests that are read for at once.
pub(super) const MOST_AT_ONCE: usize = 8;
/// Longest body that is compared.
const BODY_LIMIT_BYTES: u64 = 256 << 10;

/// What was found before a request that changes policies; one for each of its actions that does.
#[derive(Clone, Debug, Default)]
pub(super) struct Found(Vec<Seen>);

#[derive(Clone, Debug)]
struct Seen {
    present: Present,
    own_account: Option<String>,
}

impl Plane {
    /// Looks at what the request would change; empty where it changes no policy.
    pub(super) async fn look_before(&self, request: &Request) -> Found {
        let mut found = Found::default();
        for action in &request.named.actions {
            let Some(subject) = Subject::of(action) else { continue };
            let own_account = request.naming.front.account.clone();
            let present = match self.options.reads_before_hold {
                false => Present::unread("reading it is switched off (upstream.aws.read_before_hold)"),
                true => {
                    let work = async {
                        let _turn = self.reads.acquire().await;
                        Looking::new(self, request).present(&subject, action).await
                    };
                    let late = || Present::unread(&format!("no answer within {} s", LIMIT.as_secs()));
                    tokio::time::timeout(LIMIT, work).await.unwrap_or_else(|_| late())
                }
            };
            found.0.push(Seen { present, own_account });
        }
        found
    }

    /// The body that is a policy itself.
    pub(super) async fn policy_body(&self, request: &Request) -> Option<Bytes> {
        if !request.named.actions.iter().any(change::is_in_body) {
            return None;
        }
        match (&request.look, &request.body) {
            (Some(bytes), _) | (None, Body::Whole(bytes)) => Some(bytes.clone()),
            (None, Body::Spooled(spooled)) if spooled.len() <= BODY_LIMIT_BYTES => spooled.bytes().await.ok(),
            (None, _) => None,
        }
    }
}

impl Found {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the actions would change, `body` being that of the request.
    pub(super) fn deltas(&self, actions: &[Action], body: Option<&[u8]>) -> Vec<Delta> {
        let subjects = actions.iter().filter_map(|action| Some((action, Subject::of(action)?)));
        let deltas = subjects.zip(&self.0).map(|((action, subject), seen)| {
            change::delta(action, &subject, &seen.present, body, seen.own_account.as_deref())
        });
        deltas.collect()
    }
}
