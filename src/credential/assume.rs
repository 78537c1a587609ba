//! Just-in-time credentials: a session of a role, asked for at STS for one request, that can do no more
//! than this request needs (AWS STS API reference, AssumeRole; IAM user guide, session policies).
//!
//! INVARIANT (fair): STS is asked once for equal requests that may share a session, and for so many at once
//! that no agent takes the turns of the others.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::operation::assume_role::builders::AssumeRoleFluentBuilder;
use dashmap::{DashMap, Entry};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::real::with_causes;
use crate::action::{Action, Trait};
use crate::digest::{Digest, sha256};
use crate::id::AgentId;
use crate::rules::{Assume, Cut};
use crate::secret::Secret;
use crate::time::Timestamp;
use crate::wire::sigv4::Key;

mod turns;

use turns::Turns;

/// The shortest life that STS gives a session, in seconds.
const LIFE_SECONDS: i32 = 900;
/// The longest session policy that STS takes, in characters.
const POLICY_LIMIT_CHARS: usize = 2048;
/// The longest name of a session, in characters.
const NAME_LIMIT_CHARS: usize = 64;
/// Sessions that are kept for equal requests, at most.
const KEPT_LIMIT: usize = 10_000;
/// The codes by which STS says that it is asked too often (AWS SDKs reference guide, retry behavior).
const THROTTLES: [&str; 5] =
    ["RequestLimitExceeded", "RequestThrottled", "Throttling", "ThrottlingException", "TooManyRequestsException"];

/// What a session is wanted for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task<'a> {
    pub(crate) agent: &'a AgentId,
    /// The hold's id, else the action's: CloudTrail names it with each event of the session.
    pub(crate) id: &'a str,
    pub(crate) actions: &'a [Action],
    /// The account that the actions were named for.
    pub(crate) account: Option<&'a str>,
}

/// A session of a role, and what an auditor finds it by.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) key: Arc<Key>,
    pub(crate) role: Arc<str>,
    pub(crate) name: Arc<str>,
}

/// Why there is no session to sign a request with. Nothing was sent.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum AssumeError {
    #[error(
        "the role {role} is in another account than the upstream's credential, {account}, by which the request was named"
    )]
    Account { role: String, account: String },
    #[error("no IAM action is known that `{0}` needs, so that no session can be cut to it")]
    NoIamAction(String),
    #[error("the session policy of this request would have {0} characters, and STS takes {POLICY_LIMIT_CHARS}")]
    TooLong(usize),
    #[error("STS gives no session of {role}: {why}")]
    Refused { role: String, why: String },
    #[error("STS gives no more sessions for now: {0}")]
    Throttled(String),
    #[error("STS cannot be reached for a session: {0}")]
    Unreachable(String),
}

impl AssumeError {
    /// Whether the same request may have its session a little later.
    pub(crate) fn is_for_now(&self) -> bool {
        matches!(self, Self::Throttled(_))
    }
}

type Answer = BoxFuture<'static, Result<Session, AssumeError>>;

/// Sessions of roles.
pub(super) struct Sessions {
    sts: aws_sdk_sts::Client,
    turns: Arc<Turns>,
    /// For equal requests of an agent, as long as a rule lets them be: by role, agent and policy.
    kept: DashMap<Digest, (Session, Timestamp)>,
    /// Those that STS is being asked for, as long as somebody waits.
    asked: DashMap<Digest, WeakShared<Answer>>,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sessions({} kept)", self.kept.len())
    }
}

impl Sessions {
    pub(super) fn new(sts: aws_sdk_sts::Client) -> Self {
        Self { sts, turns: Arc::default(), kept: DashMap::new(), asked: DashMap::new() }
    }

    pub(super) async fn session(
        &self,
        assume: &Assume,
        task: &Task<'_>,
        now: Timestamp,
    ) -> Result<Session, AssumeError> {
        if task.account != Some(assume.account()) {
            let account = task.account.unwrap_or("not known yet").to_owned();
            return Err(AssumeError::Account { role: assume.role.clone(), account });
        }
        let policy = policy(task.actions, assume)?;
        let Some(cache) = assume.cache else {
            return self.fresh(assume, task, policy, name(task.agent, Some(task.id))).await;
        };
        let parts = [assume.role.as_str(), assume.external_id.as_deref().unwrap_or_default(), task.agent.as_str()];
        let place = sha256([parts.join("\0"), policy.clone()].join("\0").as_bytes());
        if let Some(session) = self.kept(place, now) {
            return Ok(session);
        }
        let answer = match self.asked.entry(place) {
            Entry::Occupied(mut known) => match known.get().upgrade() {
                Some(answer) => answer,
                None => {
                    let answer = self.shared(assume, task, policy);
                    if let Some(weak) = answer.downgrade() {
                        known.insert(weak);
                    }
                    answer
                }
            },
            Entry::Vacant(free) => {
                // Whoever asked for it may have got it since.
                if let Some(session) = self.kept(place, now) {
                    return Ok(session);
                }
                let answer = self.shared(assume, task, policy);
                if let Some(weak) = answer.downgrade() {
                    free.insert(weak);
                }
                answer
            }
        };
        let result = answer.await;
        if let Ok(session) = &result {
            self.keep(place, session, now.plus(cache), now);
        }
        self.asked.remove_if(&place, |_, of| of.upgrade().is_none_or(|it| it.peek().is_some()));
        result
    }

    fn kept(&self, place: Digest, now: Timestamp) -> Option<Session> {
        self.kept.get(&place).filter(|kept| now < kept.1).map(|kept| kept.0.clone())
    }

    fn keep(&self, place: Digest, session: &Session, until: Timestamp, now: Timestamp) {
        let until = session.key.expires.map_or(until, |expires| until.min(expires));
        if self.kept.len() >= KEPT_LIMIT {
            self.kept.retain(|_, (_, until)| now < *until);
            self.asked.retain(|_, of| of.upgrade().is_some());
        }
        if self.kept.len() < KEPT_LIMIT {
            self.kept.insert(place, (session.clone(), until));
        }
    }

    /// A session that several requests wait for. It serves all of them: none of them gives it its name.
    fn shared(&self, assume: &Assume, task: &Task<'_>, policy: String) -> Shared<Answer> {
        self.fresh(assume, task, policy, name(task.agent, None)).shared()
    }

    fn fresh(&self, assume: &Assume, task: &Task<'_>, policy: String, called: String) -> Answer {
        let asked = self
            .sts
            .assume_role()
            .role_arn(&assume.role)
            .role_session_name(&called)
            .source_identity(name(task.agent, None))
            .set_external_id(assume.external_id.clone())
            .policy(policy)
            .duration_seconds(LIFE_SECONDS);
        let (turns, agent, role) = (Arc::clone(&self.turns), task.agent.clone(), assume.role.as_str().into());
        Box::pin(async move {
            let busy = || AssumeError::Throttled(format!("other requests of {agent} or of all agents wait for it"));
            let _turn = turns.next(&agent).await.ok_or_else(busy)?;
            ask(asked, role, called.into()).await
        })
    }
}

async fn ask(asked: AssumeRoleFluentBuilder, role: Arc<str>, name: Arc<str>) -> Result<Session, AssumeError> {
    let answer = asked.send().await.map_err(|error| match error {
        SdkError::ServiceError(error) => {
            let error = error.into_err();
            let code = error.code().unwrap_or("no code");
            let why = format!("{code}: {}", error.message().unwrap_or("no message"));
            match THROTTLES.contains(&code) {
                true => AssumeError::Throttled(why),
                false => AssumeError::Refused { role: role.as_ref().to_owned(), why },
            }
        }
        error => AssumeError::Unreachable(with_causes(&error)),
    })?;
    let missing = || AssumeError::Unreachable("its answer holds no credential".to_owned());
    let given = answer.credentials().ok_or_else(missing)?;
    let expires = Timestamp::from_micros(given.expiration().secs().saturating_mul(1_000_000));
    let token = Some(Secret::new(given.session_token()));
    let key = Key::new(given.access_key_id(), Secret::new(given.secret_access_key()), token, Some(expires));
    Ok(Session { key: Arc::new(key), role, name })
}

/// Agent first, since operators look for it; both are made of characters that STS takes.
fn name(agent: &AgentId, id: Option<&str>) -> String {
    let Some(id) = id else {
        // STS takes no name of one character.
        return if agent.as_str().len() > 1 { agent.as_str().to_owned() } else { format!("agent-{agent}") };
    };
    let room = NAME_LIMIT_CHARS.saturating_sub(id.len() + 1);
    let agent: String = agent.as_str().chars().take(room).collect();
    format!("{agent}-{id}")
}

/// A policy that allows what these actions need and nothing else.
fn policy(actions: &[Action], assume: &Assume) -> Result<String, AssumeError> {
    let mut statements: Vec<(BTreeSet<&str>, BTreeSet<String>)> = Vec::new();
    for action in actions {
        if action.iam_actions.is_empty() || action.traits.contains(Trait::Unknown) {
            return Err(AssumeError::NoIamAction(action.name.to_string()));
        }
        let verbs = action.iam_actions.iter().map(AsRef::as_ref).collect();
        let resources = match assume.cut {
            Cut::Resources => resources(action),
            Cut::Actions => BTreeSet::from(["*".to_owned()]),
        };
        match statements.iter_mut().find(|(_, of)| *of == resources) {
            Some((known, _)) => known.extend::<BTreeSet<&str>>(verbs),
            None => statements.push((verbs, resources)),
        }
    }
    let any = || BTreeSet::from(["*".to_owned()]);
    let also = (assume.also.iter().map(String::as_str).collect(), any());
    let statements: Vec<Value> = statements
        .into_iter()
        .chain((!assume.also.is_empty()).then_some(also))
        .map(|(verbs, resources)| json!({ "Effect": "Allow", "Action": verbs, "Resource": resources }))
        .collect();
    let policy = json!({ "Version": "2012-10-17", "Statement": statements }).to_string();
    let length = policy.chars().count();
    if length > POLICY_LIMIT_CHARS { Err(AssumeError::TooLong(length)) } else { Ok(policy) }
}

/// The resources of an action as a policy names them. A name that an agent chose may hold what a policy would
/// read as a pattern or a variable: it then stands for itself (IAM user guide, policy variables for special
/// characters).
fn resources(action: &Action) -> BTreeSet<String> {
    if action.resources.iter().any(|it| !it.starts_with("arn:")) {
        return BTreeSet::from(["*".to_owned()]);
    }
    // Also where a name stands encoded in the request: a copy source.
    let has_patterns = action.parameters.values().any(|value| {
        let text = value.to_string();
        percent_decode_str(&text).any(|byte| matches!(byte, b'*' | b'?' | b'$'))
    });
    let escaped = |resource: &String| {
        let mut text = String::with_capacity(resource.len());
        for character in resource.chars() {
            match character {
                '*' | '?' | '$' => text.extend(["${", character.encode_utf8(&mut [0; 4]), "}"]),
                _ => text.push(character),
            }
        }
        text
    };
    action.resources.iter().map(|it| if has_patterns { escaped(it) } else { it.clone() }).collect()
}

#[cfg(test)]
mod tests;
