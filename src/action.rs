//! The normalised request: what every plane turns its wire into, and what rules, cards and
//! records speak about.
//!
//! An [`Action`] is made by `classify` alone. It says what the request would do, never whether it
//! may. What could not be named without doubt carries [`Trait::Unknown`] and the reason, so that
//! doubt is data that rules must face and no caller can drop.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value, json};

use crate::digest::Digest;
use crate::id::{ActionId, AgentId, GroupId, PersonId, RuleId};

/// One normalised request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Action {
    /// `aws:iam:CreateAccessKey`: plane, IAM service prefix, operation as the API reference spells it.
    pub(crate) name: Cow<'static, str>,
    pub(crate) access: Access,
    pub(crate) traits: Traits,
    /// Full names of everything the request touches (ARNs on AWS); `*` when it is not about one thing.
    pub(crate) resources: Vec<String>,
    /// Region the request runs in; `None` for a global service.
    pub(crate) region: Option<Cow<'static, str>>,
    /// Account of the upstream identity; `None` while that is not known.
    pub(crate) account: Option<String>,
    /// Input members by the names of the service's model.
    pub(crate) parameters: Map<String, Value>,
    /// Names of top-level parameters whose values are secret (passwords, SecretString); never shown.
    pub(crate) sensitive: Vec<String>,
    /// IAM actions the request needs, `s3:ListBucket`; the first is the main one.
    pub(crate) iam_actions: Vec<Cow<'static, str>>,
    /// Tags that the operator gave to what it touches (`pii`).
    pub(crate) tags: Vec<String>,
    /// Why the request could not be named without doubt; set exactly when [`Trait::Unknown`] is.
    pub(crate) unknown: Option<String>,
}

impl Action {
    /// The action as people and records are given it: secrets replaced.
    pub(crate) fn shown_json(&self) -> Value {
        let mut shown = json!({
            "action": self.name,
            "access": self.access.as_str(),
            "traits": self.traits.names(),
            "resources": self.resources,
            "region": self.region,
            "account": self.account,
            "parameters": self.shown_parameters(),
            "iam_actions": self.iam_actions,
            "unknown": self.unknown,
        });
        if let (false, Some(members)) = (self.tags.is_empty(), shown.as_object_mut()) {
            members.insert("tags".to_owned(), json!(self.tags));
        }
        shown
    }

    /// The parameters with every secret value replaced by its size, for cards, records and logs.
    pub(crate) fn shown_parameters(&self) -> Map<String, Value> {
        self.parameters
            .iter()
            .map(|(name, value)| {
                let shown = if self.sensitive.iter().any(|s| s == name) { redacted(value) } else { value.clone() };
                (name.clone(), shown)
            })
            .collect()
    }
}

/// The name of a tunnel through the forward proxy; its resource is `tunnel:host:port`.
pub(crate) const TUNNEL: &str = "tunnel:connect";

/// Access level, in the order of strength that the service authorization reference implies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Access {
    List,
    Read,
    Tagging,
    Write,
    Permissions,
}

impl Access {
    pub(crate) const ALL: [Self; 5] = [Self::List, Self::Read, Self::Tagging, Self::Write, Self::Permissions];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Read => "read",
            Self::Tagging => "tagging",
            Self::Write => "write",
            Self::Permissions => "permissions",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|access| access.as_str() == text)
    }
}

/// A property of an action that rules can match across planes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Trait {
    /// Hands out access that works outside the proxy: the answer carries a credential or signed URL, or the request
    /// registers a key or password that its sender knows.
    Credential,
    /// The resource belongs to an account other than the upstream identity's.
    CrossAccount,
    /// Destroys data or resources, or blinds the ones who watch.
    Destructive,
    /// Runs code or commands on something that exists.
    Exec,
    /// Moves data in bulk.
    Export,
    /// Gives someone rights, or the means to get them.
    Privilege,
    /// Changes the shape of a database.
    Schema,
    /// Changes as whom a database session acts, or how the server reads what comes after.
    Session,
    /// Opens something to others: policies, ACLs, sharing, ingress.
    Sharing,
    /// Could not be named without doubt.
    Unknown,
    /// Changes something, and no IAM action is known for it: what it takes, and how far it reaches, is a guess.
    Unmapped,
}

impl Trait {
    pub(crate) const ALL: [Self; 11] = [
        Self::Credential,
        Self::CrossAccount,
        Self::Destructive,
        Self::Exec,
        Self::Export,
        Self::Privilege,
        Self::Schema,
        Self::Session,
        Self::Sharing,
        Self::Unknown,
        Self::Unmapped,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Credential => "credential",
            Self::CrossAccount => "cross-account",
            Self::Destructive => "destructive",
            Self::Exec => "exec",
            Self::Export => "export",
            Self::Privilege => "privilege",
            Self::Schema => "schema",
            Self::Session => "session",
            Self::Sharing => "sharing",
            Self::Unknown => "unknown",
            Self::Unmapped => "unmapped",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == text)
    }
}

/// A set of [`Trait`]s.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Traits(u16);

impl Traits {
    pub(crate) const EMPTY: Self = Self(0);

    pub(crate) const fn with(self, it: Trait) -> Self {
        Self(self.0 | 1 << it as u16)
    }

    pub(crate) const fn contains(self, it: Trait) -> bool {
        self.0 & 1 << it as u16 != 0
    }

    pub(crate) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn is_subset(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Trait> {
        Trait::ALL.into_iter().filter(move |it| self.contains(*it))
    }

    pub(crate) fn names(self) -> Vec<&'static str> {
        self.iter().map(Trait::as_str).collect()
    }
}

impl FromIterator<Trait> for Traits {
    fn from_iter<I: IntoIterator<Item = Trait>>(traits: I) -> Self {
        traits.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl fmt::Debug for Traits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// The authenticated client, as its virtual credential says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Agent {
    pub(crate) id: AgentId,
    pub(crate) owner: Owner,
}

/// Who answers for an agent. A team as owner means that each of its members counts as owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Group(GroupId),
    Person(PersonId),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(group) => write!(f, "group:{group}"),
            Self::Person(person) => write!(f, "{person}"),
        }
    }
}

/// What the agent says about itself. Every field is a claim: it is shown as untrusted, it may bar
/// a person from deciding, and it never entitles anyone to anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Context {
    pub(crate) model: Option<String>,
    pub(crate) session: Option<String>,
    pub(crate) task: Option<String>,
    pub(crate) reason: Option<String>,
    /// The human on whose behalf the agent says it works: a person id or an e-mail address.
    pub(crate) initiator: Option<String>,
    /// W3C trace id, to find the request in the agent's own traces.
    pub(crate) trace: Option<String>,
}

/// Longest claim that is kept, in characters.
pub(crate) const CLAIM_LIMIT_CHARS: usize = 300;

impl Context {
    /// Where the claim of that name is kept; the trace has no name of its own.
    pub(crate) fn slot(&mut self, name: &str) -> Option<&mut Option<String>> {
        Some(match name {
            "initiator" => &mut self.initiator,
            "model" => &mut self.model,
            "reason" => &mut self.reason,
            "session" => &mut self.session,
            "task" => &mut self.task,
            _ => return None,
        })
    }

    /// The task of the credential, which nothing that an agent says can change.
    pub(crate) fn bind(&mut self, task: Option<String>) {
        if task.is_some() {
            self.task = task;
        }
    }

    /// What this says, and what `other` says where this is silent.
    pub(crate) fn or(&self, other: &Self) -> Self {
        let or = |own: &Option<String>, other: &Option<String>| own.as_ref().or(other.as_ref()).cloned();
        Self {
            model: or(&self.model, &other.model),
            session: or(&self.session, &other.session),
            task: or(&self.task, &other.task),
            reason: or(&self.reason, &other.reason),
            initiator: or(&self.initiator, &other.initiator),
            trace: or(&self.trace, &other.trace),
        }
    }
}

/// A claim as it is kept: cut at [`CLAIM_LIMIT_CHARS`], and control characters as escapes, `\u{1b}`.
pub(crate) fn claimed(text: &str) -> Option<String> {
    let mut kept = String::new();
    for character in text.trim().chars().take(CLAIM_LIMIT_CHARS) {
        match character.is_control() {
            true => kept.extend(character.escape_unicode()),
            false => kept.push(character),
        }
    }
    (!kept.is_empty()).then_some(kept)
}

/// The trace id of a `traceparent` (W3C Trace Context, section 3.2.2).
pub(crate) fn trace_id(traceparent: &str) -> Option<String> {
    let id = traceparent.trim().split('-').nth(1)?;
    let is_id = id.len() == 32
        && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        && id.bytes().any(|b| b != b'0');
    is_id.then(|| id.to_owned())
}

/// The exact request, for people: all of it, secrets replaced, nothing cut without saying so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) method: String,
    /// Host and path of the upstream, as it will be called.
    pub(crate) url: String,
    /// Header fields that bear meaning, sorted by name.
    pub(crate) headers: BTreeMap<String, String>,
    /// Size of the body in bytes, and its SHA-256 in hexadecimal.
    pub(crate) body_bytes: u64,
    pub(crate) body_sha256: String,
    /// How far it is estimated to reach: what each line is about, and what it says. Nothing decides by it.
    pub(crate) reach: Vec<(String, String)>,
    /// What it changes in policies and access lists. Nothing decides by it.
    pub(crate) deltas: Vec<Delta>,
    /// The request already runs: its answer came to more than rules let pass.
    pub(crate) crossed: Option<Crossed>,
}

/// What a request adds to a policy or an access list and removes from it. All texts are for people, hold
/// words from outside, and are bounded in number and length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Delta {
    /// Which policy.
    pub(crate) about: String,
    pub(crate) before: Before,
    pub(crate) added: Vec<String>,
    pub(crate) removed: Vec<String>,
    /// Statements that stay and differ in one part.
    pub(crate) changed: Vec<String>,
    /// What of the new state that the change brings is dangerous.
    pub(crate) dangers: Vec<String>,
    /// Why the new state could not be made out.
    pub(crate) doubt: Option<String>,
}

/// The state that a change is against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Before {
    /// There is none.
    #[default]
    Absent,
    /// SHA-256 of the document as it was read, or of a list's entries, one a line.
    Read(Digest),
    /// Why it is not known.
    Unread(String),
}

impl Delta {
    /// Whether people who were shown `shown` were shown this, too. What is known of the state that it is against
    /// may be more by now, not less.
    pub(crate) fn is_as_shown(&self, shown: &Self) -> bool {
        let is_lost = matches!(self.before, Before::Unread(_)) && !matches!(shown.before, Before::Unread(_));
        !is_lost && *shown == Self { before: shown.before.clone(), ..self.clone() }
    }

    /// As the API and records spell it.
    pub(crate) fn json(&self) -> Value {
        let (sha256, unread) = match &self.before {
            Before::Absent => (None, None),
            Before::Read(digest) => (Some(digest.hex()), None),
            Before::Unread(why) => (None, Some(why)),
        };
        json!({
            "about": self.about,
            "before_sha256": sha256,
            "before_unread": unread,
            "added": self.added,
            "removed": self.removed,
            "changed": self.changed,
            "dangers": self.dangers,
            "doubt": self.doubt,
        })
    }
}

/// An answer that crossed limits of rules, and what of it had passed by then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Crossed {
    /// The request whose answer it is.
    pub(crate) action_id: ActionId,
    pub(crate) rules: Vec<RuleId>,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

fn redacted(value: &Value) -> Value {
    let size = match value {
        Value::String(text) => text.len(),
        other => other.to_string().len(),
    };
    Value::String(format!("[redacted, {size} bytes]"))
}
