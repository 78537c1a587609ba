//! What a hold demands: who must agree and in how much time, as rules write it.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::syntax::{plain_name, sorted};
use super::{Decision, HoldTerms, InTransaction, Options};
use crate::id::GroupId;
use crate::people::{Escalation, Stage};
use crate::yaml::{Diagnostic, Fields, Kind, Node, Problems, nearest};

/// Longest and shortest time a hold may wait.
const LONGEST_HOLD: Duration = Duration::from_secs(7 * 24 * 3600);
const SHORTEST_HOLD: Duration = Duration::from_secs(1);
/// More approvals than this are a mistake of the pen.
const HIGHEST_QUORUM: u64 = 20;

/// Reads what a rule says about its holds; the rest comes from the configuration.
pub(super) fn read(fields: &mut Fields<'_>, decision: Option<Decision>, options: &Options) -> HoldTerms {
    let problems = fields.problems();
    for key in ["approvers", "quorum", "stages", "deniers", "escalate", "signed", "expires", "in_transaction"] {
        if let (Some(Decision::Allow | Decision::Deny), Some(entry)) = (decision, fields.entry(key)) {
            problems.error(entry.key_span, format!("only a hold rule has `{key}`"));
        }
    }
    let defaults = &options.hold;
    let groups = |node: &Node, problems: &Problems| read_groups(node, problems, options);
    let place = ["stages", "approvers", "quorum", "id"].into_iter().find_map(|key| fields.node(key));
    let staged = fields.typed("stages", |node, problems| match &node.kind {
        Kind::List(_) => node.list_of(problems, |item, problems| read_stage(item, problems, options)),
        _ => {
            problems.error(node.span, format!("`stages` must be a list, not {}", node.noun()));
            None
        }
    });
    if let Some(entry) = fields.entry("stages") {
        for key in ["approvers", "quorum"] {
            if fields.entry(key).is_some() {
                problems.error(entry.key_span, format!("`stages` says who must agree, so `{key}` has no meaning"));
            }
        }
    }
    let approvers = fields.typed("approvers", groups);
    let quorum = fields.integer("quorum", 1, HIGHEST_QUORUM).and_then(|quorum| u32::try_from(quorum).ok());
    let stages = match (staged, defaults.stages.as_slice()) {
        (Some(stages), _) => stages,
        (None, [only]) => {
            let approvers = approvers.unwrap_or_else(|| only.approvers.clone());
            vec![Stage { approvers, quorum: quorum.unwrap_or(only.quorum) }]
        }
        (None, _) => defaults.stages.clone(),
    };
    let expires = fields.typed("expires", |node, problems| {
        let expires = node.duration(problems)?;
        if (SHORTEST_HOLD..=LONGEST_HOLD).contains(&expires) {
            return Some(expires);
        }
        problems.error(node.span, "a hold waits between 1s and 7d");
        None
    });
    let terms = HoldTerms {
        stages,
        deniers: fields.typed("deniers", groups).unwrap_or_else(|| defaults.deniers.clone()),
        escalations: fields
            .typed("escalate", |node, problems| read_escalations(node, problems, options))
            .unwrap_or_else(|| defaults.escalations.clone()),
        signed: fields.typed("signed", Node::boolean).unwrap_or(defaults.signed),
        expires: expires.unwrap_or(defaults.expires),
        in_transaction: fields.typed("in_transaction", read_in_transaction).or(defaults.in_transaction),
    };
    if let (Some(Decision::Hold), Some(place)) = (decision, place) {
        check_members(place, &terms, options, problems);
    }
    terms
}

/// Reports a stage that could never be met. Groups nobody is in were reported already.
fn check_members(place: &Node, terms: &HoldTerms, options: &Options, problems: &Problems) {
    let Some(people) = &options.people else { return };
    for stage in &terms.stages {
        let is_default = options.hold.stages.iter().any(|it| it.approvers == stage.approvers);
        if stage.approvers.is_empty() || !(is_default || stage.approvers.iter().all(|group| people.has_group(group))) {
            continue;
        }
        let is_member = |group| people.persons().filter(move |person| person.groups.contains(group));
        let members: BTreeSet<_> = stage.approvers.iter().flat_map(is_member).map(|person| &person.id).collect();
        if members.len() < stage.quorum as usize {
            let groups: Vec<_> = stage.approvers.iter().map(GroupId::as_str).collect();
            let message =
                format!("quorum {}, but {} in the groups: {}", stage.quorum, members.len(), groups.join(", "));
            problems.push(
                Diagnostic::error(problems.source(), place.span, message).help("such a hold could never be approved"),
            );
        }
    }
}

fn read_stage(node: &Node, problems: &Problems, options: &Options) -> Option<Stage> {
    let mut fields = Fields::read(node, "a stage", problems)?;
    let approvers = fields.required("approvers").and_then(|node| read_groups(node, problems, options));
    let quorum = fields.integer("quorum", 1, HIGHEST_QUORUM).and_then(|quorum| u32::try_from(quorum).ok());
    fields.finish();
    Some(Stage { approvers: approvers?, quorum: quorum.unwrap_or(1) })
}

fn read_escalations(node: &Node, problems: &Problems, options: &Options) -> Option<Vec<Escalation>> {
    node.list_of(problems, |item, problems| {
        read_escalation(item, problems, &|node, problems| read_groups(node, problems, options))
    })
}

/// `{after: 10m, approvers: managers}`; `groups` reads who that is.
pub(crate) fn read_escalation(
    node: &Node,
    problems: &Problems,
    groups: &dyn Fn(&Node, &Problems) -> Option<Vec<GroupId>>,
) -> Option<Escalation> {
    let mut fields = Fields::read(node, "an escalation", problems)?;
    let after = fields.required("after").and_then(|node| node.duration(problems));
    let approvers = fields.required("approvers").and_then(|node| groups(node, problems));
    fields.finish();
    Some(Escalation { after: after?, approvers: approvers? })
}

fn read_groups(node: &Node, problems: &Problems, options: &Options) -> Option<Vec<GroupId>> {
    node.list_of(problems, |item, problems| read_group(item, problems, options))
}

/// What a hold may do inside of a transaction: the time it waits there, or `refuse`.
pub(crate) fn read_in_transaction(node: &Node, problems: &Problems) -> Option<InTransaction> {
    if matches!(&node.kind, Kind::Scalar { text, .. } if text == InTransaction::REFUSE) {
        return Some(InTransaction::Refuse);
    }
    if matches!(&node.kind, Kind::Scalar { text, .. } if !text.starts_with(|it: char| it.is_ascii_digit())) {
        let message = "`in_transaction` is the time that a hold may wait inside of a transaction, or `refuse`";
        problems.error(node.span, message);
        return None;
    }
    let time = node.duration(problems)?;
    if (SHORTEST_HOLD..=LONGEST_HOLD).contains(&time) {
        return Some(InTransaction::Wait(time));
    }
    problems
        .error(node.span, "a hold waits between 1s and 7d; to let it not wait inside of a transaction, say `refuse`");
    None
}

pub(super) fn read_group(node: &Node, problems: &Problems, options: &Options) -> Option<GroupId> {
    let group = GroupId::new(plain_name(node, problems)?);
    if let Some(people) = &options.people
        && !people.has_group(&group)
    {
        let known: BTreeSet<&str> = people.persons().flat_map(|person| &person.groups).map(GroupId::as_str).collect();
        let mut diagnostic =
            Diagnostic::error(problems.source(), node.span, format!("no person is in a group `{group}`"));
        if let Some(near) = nearest(group.as_str(), known.iter().copied()) {
            diagnostic = diagnostic.label(format!("did you mean `{near}`?"));
        }
        problems.push(diagnostic.help(format!("groups: {}", known.into_iter().collect::<Vec<_>>().join(", "))));
        return None;
    }
    Some(group)
}

/// One spelling of it, for the digest of rules. Absent where nothing is asked, so that rules keep their digest.
pub(super) fn canonical(terms: &HoldTerms) -> Value {
    let groups = |groups: &[GroupId]| sorted(groups.iter().map(GroupId::as_str));
    let millis = |it: Duration| json!(u64::try_from(it.as_millis()).unwrap_or(u64::MAX));
    let stage = |it: &Stage| json!({ "approvers": groups(&it.approvers), "quorum": it.quorum });
    let mut value = match terms.stages.as_slice() {
        [only] => stage(only),
        stages => json!({ "stages": stages.iter().map(stage).collect::<Vec<_>>() }),
    };
    let Some(members) = value.as_object_mut() else { return value };
    members.insert("expires_ms".to_owned(), millis(terms.expires));
    match terms.in_transaction {
        None => {}
        Some(InTransaction::Refuse) => drop(members.insert("in_transaction".to_owned(), InTransaction::REFUSE.into())),
        Some(InTransaction::Wait(time)) => drop(members.insert("in_transaction".to_owned(), millis(time))),
    }
    if !terms.deniers.is_empty() {
        members.insert("deniers".to_owned(), groups(&terms.deniers));
    }
    if !terms.escalations.is_empty() {
        let one = |it: &Escalation| json!({ "after_ms": millis(it.after), "approvers": groups(&it.approvers) });
        members.insert("escalate".to_owned(), terms.escalations.iter().map(one).collect());
    }
    if terms.signed {
        members.insert("signed".to_owned(), true.into());
    }
    value
}
