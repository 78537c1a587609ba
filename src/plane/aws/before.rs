//! What a change of a policy or an access list is against: read at the upstream before people are asked.
//!
//! These requests are countersign's own, with its own credential. There are just those of this file, each
//! of them reads, and of the agent's request they hold names alone. They take a bounded time, and what they
//! could not find out is said.

mod change;
mod look;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Plane;
use super::arrive::{Body, Exchange, Request};
use super::naming::{Naming, Original};
use crate::action::{Action, Agent, Delta};
use crate::classify::aws::Route;
use crate::gate::{Attempt, LookFn, Looked};
use crate::id::{ActionId, HoldId};
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

/// What looking takes of a request.
pub(super) struct Scene {
    plane: Arc<Plane>,
    naming: Arc<Naming>,
    route: Route,
    path: String,
    action: ActionId,
    agent: Arc<Agent>,
}

impl Plane {
    /// Looks at what the request would change; `None` where it changes no policy. What was seen for an earlier
    /// attempt of the same call is not looked at again: this one gets its answer, or waits with it.
    pub(super) async fn look_before(
        self: &Arc<Self>,
        exchange: &Exchange,
        request: &Request,
        retry_id: Option<&str>,
    ) -> Option<(Found, Scene)> {
        let Request { naming, agent, context, head, named, presented, body, .. } = request;
        if !named.actions.iter().any(|action| Subject::of(action).is_some()) {
            return None;
        }
        let scene = Scene {
            plane: Arc::clone(self),
            naming: Arc::clone(naming),
            route: named.route.clone(),
            path: head.path.clone(),
            action: exchange.action.clone(),
            agent: Arc::clone(agent),
        };
        let call = naming.call(head.clone(), named.route.clone()).ok()?;
        let (digest, signature) = (naming.digest(&call, body.identity()), presented.replay_key());
        let has_seen = self.gate.has_seen(&Attempt { agent, context, digest, retry_id, signature });
        let found = match has_seen {
            true => scene.unread(&named.actions, "an earlier attempt of the same call was looked at"),
            false => scene.look(&named.actions, None).await,
        };
        Some((found, scene))
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

impl Scene {
    /// What the actions would change, as it is now.
    async fn look(&self, actions: &[Action], hold: Option<&HoldId>) -> Found {
        if !self.plane.options.reads_before_hold {
            return self.unread(actions, "reading it is switched off (upstream.aws.read_before_hold)");
        }
        let mut found = Found::default();
        for action in actions {
            let Some(subject) = Subject::of(action) else { continue };
            let work = async {
                let _turn = self.plane.reads.acquire().await;
                Looking { scene: self, hold }.present(&subject, action).await
            };
            let late = || Present::unread(&format!("no answer within {} s", LIMIT.as_secs()));
            let present = tokio::time::timeout(LIMIT, work).await.unwrap_or_else(|_| late());
            found.0.push(Seen { present, own_account: self.naming.front.account.clone() });
        }
        found
    }

    fn unread(&self, actions: &[Action], why: &str) -> Found {
        let subjects = actions.iter().filter(|action| Subject::of(action).is_some());
        let seen = |_| Seen { present: Present::unread(why), own_account: self.naming.front.account.clone() };
        Found(subjects.map(seen).collect())
    }

    /// As the gate needs it, to look again before an approval is used.
    pub(super) fn look_fn(
        self,
        actions: Arc<[Action]>,
        body: Option<Bytes>,
        original: Option<Arc<Original>>,
    ) -> Option<LookFn> {
        if !self.plane.options.reads_before_hold {
            return None;
        }
        let scene = Arc::new(self);
        Some(Arc::new(move |hold, parameters| {
            let (scene, actions, body, original) =
                (Arc::clone(&scene), Arc::clone(&actions), body.clone(), original.clone());
            Box::pin(async move {
                let narrowed = parameters.and_then(|it| original.as_ref()?.narrow(&it).ok());
                let (actions, body) = match &narrowed {
                    Some(narrowed) => (&*narrowed.actions, Some(&*narrowed.body)),
                    None => (&*actions, body.as_deref()),
                };
                let found = scene.look(actions, Some(&hold)).await;
                let deltas = found.deltas(actions, body);
                Looked { deltas, narrow: original.map(|original| original.narrow_fn(found)) }
            })
        }))
    }
}

impl Found {
    /// What the actions would change, `body` being that of the request.
    pub(super) fn deltas(&self, actions: &[Action], body: Option<&[u8]>) -> Vec<Delta> {
        let subjects = actions.iter().filter_map(|action| Some((action, Subject::of(action)?)));
        let deltas = subjects.zip(&self.0).map(|((action, subject), seen)| {
            change::delta(action, &subject, &seen.present, body, seen.own_account.as_deref())
        });
        deltas.collect()
    }
}
