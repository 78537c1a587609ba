//! The stored form of a hold, version 1. Separate from the domain types on purpose: a renamed
//! field there must not make yesterday's holds unreadable.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::action::{Access, Action, Agent, Before, Context, Crossed, Delta, Owner, Shown, Trait};
use crate::digest::Digest;
use crate::hold::{Change, Ending, HoldState, Vote, Word};
use crate::id::{ActionId, AgentId, GroupId, HoldId, PersonId, RuleId};
use crate::people::{Escalation, Requirement, Stage};
use crate::rules::{Decision, Ruling};
use crate::time::Timestamp;

/// Everything about a hold that outlives the process.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SavedHold {
    pub(crate) id: HoldId,
    pub(crate) action_id: ActionId,
    pub(crate) agent: Arc<Agent>,
    pub(crate) context: Context,
    pub(crate) peer: IpAddr,
    pub(crate) key_id: String,
    /// Written with secrets replaced; a retry brings them back.
    pub(crate) actions: Arc<[Action]>,
    pub(crate) shown: Arc<Shown>,
    /// Digest of the request as the agent sent it: what a retry must have to join.
    pub(crate) request: Digest,
    /// Digest of what would run; differs from `request` after a modification.
    pub(crate) effective: Digest,
    /// Digest of the rule set it was opened under.
    pub(crate) rule_set: Digest,
    pub(crate) retry_id: Option<String>,
    pub(crate) ruling: Arc<Ruling>,
    pub(crate) opened: Timestamp,
    pub(crate) state: HoldState,
    pub(crate) deadline: Timestamp,
    pub(crate) ended: Option<Timestamp>,
    pub(crate) votes: Vec<Vote>,
    /// The members an approver put in, when modified.
    pub(crate) patch: Option<Map<String, Value>>,
    pub(crate) changes: Vec<Change>,
    pub(crate) upstream_status: Option<u16>,
    /// Counts the states of this process's holds as they are taken; not stored. An older one never
    /// takes a newer one's place, in whatever order they come to be saved.
    pub(crate) revision: u64,
}

impl SavedHold {
    pub(super) fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&HoldForm::from(self))
    }

    /// # Errors
    /// Says what could not be read.
    pub(super) fn from_json(text: &str) -> Result<Self, String> {
        let form: HoldForm = serde_json::from_str(text).map_err(|e| e.to_string())?;
        if form.v != VERSION {
            return Err(format!("it has version {}, this program reads version {VERSION}", form.v));
        }
        form.into_saved().ok_or_else(|| "a field holds an unknown word".to_owned())
    }
}

const VERSION: u32 = 2;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HoldForm {
    v: u32,
    id: String,
    action_id: String,
    agent: String,
    owner_group: Option<String>,
    owner_person: Option<String>,
    context: ContextForm,
    peer: IpAddr,
    key_id: String,
    actions: Vec<ActionForm>,
    shown: ShownForm,
    request: String,
    effective: String,
    rule_set: String,
    retry_id: Option<String>,
    ruling: RulingForm,
    opened: i64,
    state: String,
    deadline: i64,
    ended: Option<i64>,
    votes: Vec<VoteForm>,
    patch: Option<Map<String, Value>>,
    changes: Vec<ChangeForm>,
    upstream_status: Option<u16>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ContextForm {
    model: Option<String>,
    session: Option<String>,
    task: Option<String>,
    reason: Option<String>,
    initiator: Option<String>,
    trace: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ActionForm {
    name: String,
    access: String,
    traits: Vec<String>,
    resources: Vec<String>,
    region: Option<String>,
    account: Option<String>,
    parameters: Map<String, Value>,
    sensitive: Vec<String>,
    iam_actions: Vec<String>,
    #[serde(default)]
    tags: Vec<String>,
    unknown: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShownForm {
    method: String,
    url: String,
    headers: BTreeMap<String, String>,
    body_bytes: u64,
    body_sha256: String,
    #[serde(default)]
    reach: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    deltas: Vec<DeltaForm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crossed: Option<CrossedForm>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeltaForm {
    about: String,
    before_sha256: Option<String>,
    before_unread: Option<String>,
    added: Vec<String>,
    removed: Vec<String>,
    changed: Vec<String>,
    dangers: Vec<String>,
    doubt: Option<String>,
}

impl From<Delta> for DeltaForm {
    fn from(delta: Delta) -> Self {
        let Delta { about, before, added, removed, changed, dangers, doubt } = delta;
        let (before_sha256, before_unread) = match before {
            Before::Absent => (None, None),
            Before::Read(digest) => (Some(digest.hex()), None),
            Before::Unread(why) => (None, Some(why)),
        };
        Self { about, before_sha256, before_unread, added, removed, changed, dangers, doubt }
    }
}

impl DeltaForm {
    fn into_delta(self) -> Option<Delta> {
        let Self { about, before_sha256, before_unread, added, removed, changed, dangers, doubt } = self;
        let before = match (before_sha256, before_unread) {
            (None, None) => Before::Absent,
            (Some(digest), _) => Before::Read(Digest::parse(&digest)?),
            (None, Some(why)) => Before::Unread(why),
        };
        Some(Delta { about, before, added, removed, changed, dangers, doubt })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CrossedForm {
    action_id: String,
    rules: Vec<String>,
    rows: u64,
    bytes: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RulingForm {
    rules: Vec<String>,
    requirements: Vec<RequirementForm>,
    expires_us: u64,
    message: Option<String>,
    controls: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RequirementForm {
    rule: String,
    stages: Vec<StageForm>,
    deniers: Vec<String>,
    escalations: Vec<EscalationForm>,
    signed: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StageForm {
    approvers: Vec<String>,
    quorum: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EscalationForm {
    after_us: u64,
    approvers: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VoteForm {
    person: String,
    word: String,
    reason: String,
    at: i64,
    void: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeForm {
    pointer: String,
    before: Option<Value>,
    after: Option<Value>,
}

impl From<&SavedHold> for HoldForm {
    fn from(hold: &SavedHold) -> Self {
        let (owner_group, owner_person) = match &hold.agent.owner {
            Owner::Group(group) => (Some(group.to_string()), None),
            Owner::Person(person) => (None, Some(person.to_string())),
        };
        let context = hold.context.clone();
        let shown = (*hold.shown).clone();
        Self {
            v: VERSION,
            id: hold.id.to_string(),
            action_id: hold.action_id.to_string(),
            agent: hold.agent.id.to_string(),
            owner_group,
            owner_person,
            context: ContextForm {
                model: context.model,
                session: context.session,
                task: context.task,
                reason: context.reason,
                initiator: context.initiator,
                trace: context.trace,
            },
            peer: hold.peer,
            key_id: hold.key_id.clone(),
            actions: hold.actions.iter().map(ActionForm::from).collect(),
            shown: ShownForm {
                method: shown.method,
                url: shown.url,
                headers: shown.headers,
                body_bytes: shown.body_bytes,
                body_sha256: shown.body_sha256,
                reach: shown.reach,
                deltas: shown.deltas.into_iter().map(DeltaForm::from).collect(),
                crossed: shown.crossed.map(|it| CrossedForm {
                    action_id: it.action_id.to_string(),
                    rules: it.rules.iter().map(ToString::to_string).collect(),
                    rows: it.rows,
                    bytes: it.bytes,
                }),
            },
            request: hold.request.hex(),
            effective: hold.effective.hex(),
            rule_set: hold.rule_set.hex(),
            retry_id: hold.retry_id.clone(),
            ruling: RulingForm::from(&*hold.ruling),
            opened: hold.opened.as_micros(),
            state: hold.state.as_str().to_owned(),
            deadline: hold.deadline.as_micros(),
            ended: hold.ended.map(Timestamp::as_micros),
            votes: hold.votes.iter().map(VoteForm::from).collect(),
            patch: hold.patch.clone(),
            changes: hold
                .changes
                .iter()
                .cloned()
                .map(|Change { pointer, before, after }| ChangeForm { pointer, before, after })
                .collect(),
            upstream_status: hold.upstream_status,
        }
    }
}

impl HoldForm {
    fn into_saved(self) -> Option<SavedHold> {
        let owner = match (self.owner_group, self.owner_person) {
            (Some(group), None) => Owner::Group(GroupId::new(group)),
            (None, Some(person)) => Owner::Person(PersonId::new(person)),
            _ => return None,
        };
        let context = self.context;
        let shown = self.shown;
        Some(SavedHold {
            id: HoldId::new(self.id),
            action_id: ActionId::new(self.action_id),
            agent: Arc::new(Agent { id: AgentId::new(self.agent), owner }),
            context: Context {
                model: context.model,
                session: context.session,
                task: context.task,
                reason: context.reason,
                initiator: context.initiator,
                trace: context.trace,
            },
            peer: self.peer,
            key_id: self.key_id,
            actions: self.actions.into_iter().map(ActionForm::into_action).collect::<Option<_>>()?,
            shown: Arc::new(Shown {
                method: shown.method,
                url: shown.url,
                headers: shown.headers,
                body_bytes: shown.body_bytes,
                body_sha256: shown.body_sha256,
                reach: shown.reach,
                deltas: shown.deltas.into_iter().map(DeltaForm::into_delta).collect::<Option<_>>()?,
                crossed: shown.crossed.map(|it| Crossed {
                    action_id: ActionId::new(it.action_id),
                    rules: it.rules.into_iter().map(RuleId::new).collect(),
                    rows: it.rows,
                    bytes: it.bytes,
                }),
            }),
            request: Digest::parse(&self.request)?,
            effective: Digest::parse(&self.effective)?,
            rule_set: Digest::parse(&self.rule_set)?,
            retry_id: self.retry_id,
            ruling: Arc::new(self.ruling.into_ruling()),
            opened: Timestamp::from_micros(self.opened),
            state: parse_state(&self.state)?,
            deadline: Timestamp::from_micros(self.deadline),
            ended: self.ended.map(Timestamp::from_micros),
            votes: self.votes.into_iter().map(VoteForm::into_vote).collect::<Option<_>>()?,
            patch: self.patch,
            changes: self
                .changes
                .into_iter()
                .map(|ChangeForm { pointer, before, after }| Change { pointer, before, after })
                .collect(),
            upstream_status: self.upstream_status,
            revision: 0,
        })
    }
}

impl From<&Action> for ActionForm {
    fn from(action: &Action) -> Self {
        Self {
            name: action.name.to_string(),
            access: action.access.as_str().to_owned(),
            traits: action.traits.names().into_iter().map(str::to_owned).collect(),
            resources: action.resources.clone(),
            region: action.region.as_deref().map(str::to_owned),
            account: action.account.clone(),
            parameters: action.shown_parameters(),
            sensitive: action.sensitive.clone(),
            iam_actions: action.iam_actions.iter().map(|it| it.to_string()).collect(),
            tags: action.tags.clone(),
            unknown: action.unknown.clone(),
        }
    }
}

impl ActionForm {
    fn into_action(self) -> Option<Action> {
        Some(Action {
            name: self.name.into(),
            access: Access::parse(&self.access)?,
            traits: self.traits.iter().map(|name| Trait::parse(name)).collect::<Option<_>>()?,
            resources: self.resources,
            region: self.region.map(Into::into),
            account: self.account,
            parameters: self.parameters,
            sensitive: self.sensitive,
            iam_actions: self.iam_actions.into_iter().map(Into::into).collect(),
            tags: self.tags,
            unknown: self.unknown,
        })
    }
}

impl From<&Ruling> for RulingForm {
    fn from(ruling: &Ruling) -> Self {
        Self {
            rules: ruling.rules.iter().map(RuleId::to_string).collect(),
            requirements: ruling.requirements.iter().map(Into::into).collect(),
            expires_us: u64::try_from(ruling.expires.as_micros()).unwrap_or(u64::MAX),
            message: ruling.message.clone(),
            controls: ruling.controls.clone(),
        }
    }
}

impl From<&Requirement> for RequirementForm {
    fn from(it: &Requirement) -> Self {
        let names = |groups: &[GroupId]| groups.iter().map(GroupId::to_string).collect();
        let stage = |it: &Stage| StageForm { approvers: names(&it.approvers), quorum: it.quorum };
        let escalation = |it: &Escalation| {
            let after_us = u64::try_from(it.after.as_micros()).unwrap_or(u64::MAX);
            EscalationForm { after_us, approvers: names(&it.approvers) }
        };
        Self {
            rule: it.rule.to_string(),
            stages: it.stages.iter().map(stage).collect(),
            deniers: names(&it.deniers),
            escalations: it.escalations.iter().map(escalation).collect(),
            signed: it.signed,
        }
    }
}

impl RequirementForm {
    fn into_requirement(self) -> Requirement {
        let groups = |names: Vec<String>| names.iter().map(GroupId::new).collect();
        let stage = |it: StageForm| Stage { approvers: groups(it.approvers), quorum: it.quorum };
        let escalation = |it: EscalationForm| Escalation {
            after: Duration::from_micros(it.after_us),
            approvers: groups(it.approvers),
        };
        Requirement {
            rule: RuleId::new(self.rule),
            stages: self.stages.into_iter().map(stage).collect(),
            deniers: groups(self.deniers),
            escalations: self.escalations.into_iter().map(escalation).collect(),
            signed: self.signed,
        }
    }
}

impl RulingForm {
    fn into_ruling(self) -> Ruling {
        Ruling {
            decision: Decision::Hold,
            rules: self.rules.iter().map(RuleId::new).collect(),
            requirements: self.requirements.into_iter().map(RequirementForm::into_requirement).collect(),
            expires: Duration::from_micros(self.expires_us),
            // What its session's transaction allowed ended with that session.
            in_transaction: None,
            message: self.message,
            controls: self.controls,
            faults: Vec::new(),
        }
    }
}

impl From<&Vote> for VoteForm {
    fn from(vote: &Vote) -> Self {
        Self {
            person: vote.person.to_string(),
            word: vote.word.as_str().to_owned(),
            reason: vote.reason.clone(),
            at: vote.at.as_micros(),
            void: vote.void,
        }
    }
}

impl VoteForm {
    fn into_vote(self) -> Option<Vote> {
        Some(Vote {
            person: PersonId::new(self.person),
            word: Word::parse(&self.word)?,
            reason: self.reason,
            at: Timestamp::from_micros(self.at),
            void: self.void,
        })
    }
}

fn parse_state(word: &str) -> Option<HoldState> {
    [HoldState::Pending, HoldState::Approved, HoldState::Forwarding, HoldState::Executed]
        .into_iter()
        .find(|state| state.as_str() == word)
        .or_else(|| Ending::parse(word).map(HoldState::Ended))
}
