//! What is said about people: who they are, when they are on call, who stands in for whom.

use std::collections::BTreeMap;

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;

use super::page::{Page, spelled, spelled_duration};
use super::schema::{PLAIN_NAME, group};
use crate::id::{GroupId, PersonId, is_plain_name};
use crate::people::rota::{Rota, StandIn, Turns, When, Window};
use crate::people::{Account, Escalation, People, PeopleError, Person};
use crate::time::Timestamp;
use crate::yaml::{Diagnostic, Entry, Fields, Node, Problems, nearest};

/// Reads `people`, `on_call` and `stand_ins`.
///
/// # Errors
/// When two persons cannot be told apart.
pub(super) fn read(page: &mut Page<'_>) -> Result<People, PeopleError> {
    let persons = page.named("people", "a person", person);
    let known: Vec<&str> = persons.iter().map(|person| person.id.as_str()).collect();
    let turns = page.named("on_call", "a group on call", |page, entry| turns(page, entry, &known));
    let stand_ins = page.items("stand_ins", |item, problems| stand_in(item, problems, &known), spell_stand_in);
    People::new(persons, Rota { turns: turns.into_iter().collect::<BTreeMap<_, _>>(), stand_ins })
}

fn person(page: &mut Page<'_>, entry: &Entry) -> Option<Person> {
    let problems = page.problems();
    if !is_plain_name(&entry.key) {
        problems.error(entry.key_span, format!("`{}` is no name for a person: {PLAIN_NAME}", entry.key));
    }
    let email = |node: &Node, problems: &Problems, text: &str| {
        let is_address = text.split_once('@').is_some_and(|(local, host)| !local.is_empty() && host.contains('.'))
            && text.bytes().all(|b| b.is_ascii_graphic());
        if !is_address {
            problems.error(node.span, format!("`{text}` is no e-mail address"));
        }
        is_address.then(|| text.to_ascii_lowercase())
    };
    let emails = page.list("emails", &[], email, str::to_owned).into_iter().collect();
    let groups = page.list("groups", &[], group, |text| GroupId::new(text)).into_iter().collect();
    let slack = page.list("slack", &[], slack, |_| None);
    let teams = page.list("teams", &[], teams, |_| None);
    let oidc = page.items("oidc", oidc, spell_oidc);
    let alias = |_: &Node, _: &Problems, text: &str| Some(text.trim().to_lowercase());
    Some(Person {
        id: PersonId::new(&entry.key),
        emails,
        groups,
        accounts: slack.into_iter().chain(teams).flatten().chain(oidc).collect(),
        aliases: page.list("aliases", &[], alias, str::to_owned).into_iter().collect(),
    })
}

/// `T0123ABCD/U0456EFGH`, as Slack writes them in `team.id` and `user.id`.
fn slack(node: &Node, problems: &Problems, text: &str) -> Option<Option<Account>> {
    let is_id =
        |id: &str| (2..=32).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    match text.split_once('/') {
        Some((team, user))
            if is_id(team) && is_id(user) && team.starts_with(['T', 'E']) && user.starts_with(['U', 'W']) =>
        {
            Some(Some(Account::Slack { team: team.to_owned(), user: user.to_owned() }))
        }
        _ => {
            let finding = Diagnostic::error(problems.source(), node.span, format!("`{text}` is no Slack member"));
            problems.push(finding.help("the workspace's id, a slash and the member's id: `T0123ABCD/U0456EFGH`"));
            None
        }
    }
}

/// `TENANT/OBJECT`, both as the GUIDs that Entra gives.
fn teams(node: &Node, problems: &Problems, text: &str) -> Option<Option<Account>> {
    let is_guid = |id: &str| {
        let parts: Vec<&str> = id.split('-').collect();
        parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12])
            && parts.iter().all(|part| part.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    match text.split_once('/') {
        Some((tenant, object)) if is_guid(tenant) && is_guid(object) => {
            Some(Some(Account::Teams { tenant: tenant.to_ascii_lowercase(), object: object.to_ascii_lowercase() }))
        }
        _ => {
            let finding = Diagnostic::error(problems.source(), node.span, format!("`{text}` is no member of Teams"));
            problems.push(finding.help("the tenant's id, a slash and the user's object id, as Entra shows them"));
            None
        }
    }
}

fn oidc(node: &Node, problems: &Problems) -> Option<Account> {
    let mut fields = Fields::read(node, "an account at an OpenID provider", problems)?;
    let issuer = fields.required("issuer").and_then(|node| node.text(problems)).map(str::to_owned);
    let subject = fields.required("subject").and_then(|node| node.text(problems)).map(str::to_owned);
    fields.finish();
    Some(Account::Oidc { issuer: issuer?, subject: subject? })
}

fn spell_oidc(account: &Account) -> String {
    match account {
        Account::Oidc { issuer, subject } => format!("{{issuer: {}, subject: {}}}", spelled(issuer), spelled(subject)),
        other => spelled(&other.to_string()),
    }
}

fn turns(page: &mut Page<'_>, entry: &Entry, known: &[&str]) -> Option<(GroupId, Turns)> {
    if !is_plain_name(&entry.key) {
        page.problems().error(entry.key_span, format!("`{}` is no name for a group: {PLAIN_NAME}", entry.key));
    }
    let zone = page.value("timezone", TimeZone::UTC, zone, |it| spelled(it.iana_name().unwrap_or("UTC")));
    let windows = page.items("windows", |item, problems| window(item, problems, known), spell_window);
    Some((GroupId::new(&entry.key), Turns { zone, windows }))
}

fn zone(node: &Node, problems: &Problems) -> Option<TimeZone> {
    let text = node.text(problems)?;
    let zone = TimeZone::get(text).ok();
    if zone.is_none() {
        let finding = Diagnostic::error(problems.source(), node.span, format!("`{text}` is no time zone"));
        problems.push(finding.help("a name of the IANA database, such as `Europe/Berlin` or `UTC`"));
    }
    zone
}

fn window(node: &Node, problems: &Problems, known: &[&str]) -> Option<Window> {
    let mut fields = Fields::read(node, "a window", problems)?;
    let who = fields
        .required("who")
        .and_then(|node| node.list_of(problems, |item, problems| known_person(item, problems, known)));
    let is_once = fields.entry("since").is_some() || fields.entry("until").is_some();
    let when = if is_once {
        let since = fields.required("since").and_then(|node| moment(node, problems));
        let until = fields.required("until").and_then(|node| moment(node, problems));
        if let (Some(since), Some(until)) = (since, until)
            && since >= until
        {
            problems.error(node.span, "it ends before it begins");
        }
        since.zip(until).map(|(since, until)| When::Between { since, until })
    } else {
        let days = fields
            .typed("days", |node, problems| {
                node.list_of(problems, |item, problems| item.one_of(problems, "day", &DAYS))
            })
            .unwrap_or_else(|| DAYS.map(|(_, day)| day).to_vec());
        let from = fields.required("from").and_then(|node| hour(node, problems));
        let to = fields.required("to").and_then(|node| hour(node, problems));
        from.zip(to).map(|(from, to)| When::Weekly { days, from, to })
    };
    fields.finish();
    Some(Window { who: who?, when: when? })
}

fn spell_window(window: &Window) -> String {
    let who: Vec<_> = window.who.iter().map(|person| spelled(person.as_str())).collect();
    let when = match &window.when {
        When::Between { since, until } => format!("since: {}, until: {}", since.rfc3339(), until.rfc3339()),
        When::Weekly { days, from, to } => {
            let name = |day: &Weekday| DAYS.iter().find(|(_, it)| it == day).map_or("", |(name, _)| *name);
            let days: Vec<_> = days.iter().map(name).collect();
            format!(
                "days: [{}], from: \"{}\", to: \"{}\"",
                days.join(", "),
                from.strftime("%H:%M"),
                to.strftime("%H:%M")
            )
        }
    };
    format!("{{who: [{}], {when}}}", who.join(", "))
}

fn stand_in(node: &Node, problems: &Problems, known: &[&str]) -> Option<StandIn> {
    let mut fields = Fields::read(node, "a stand-in", problems)?;
    let from = fields.required("from").and_then(|node| known_person(node, problems, known));
    let to = fields.required("to").and_then(|node| known_person(node, problems, known));
    let groups = fields.typed("groups", |node, problems| {
        node.list_of(problems, |item, problems| item.text(problems).and_then(|text| group(item, problems, text)))
    });
    let since = fields.required("since").and_then(|node| moment(node, problems));
    let until = fields.required("until").and_then(|node| moment(node, problems));
    fields.finish();
    let it = StandIn { from: from?, to: to?, groups: groups.unwrap_or_default(), since: since?, until: until? };
    if it.since >= it.until {
        problems.error(node.span, "it ends before it begins");
    }
    if it.from == it.to {
        problems.error(node.span, "nobody stands in for themselves");
    }
    Some(it)
}

fn spell_stand_in(it: &StandIn) -> String {
    let groups: Vec<_> = it.groups.iter().map(|group| spelled(group.as_str())).collect();
    let groups = if groups.is_empty() { String::new() } else { format!("groups: [{}], ", groups.join(", ")) };
    let (from, to) = (spelled(it.from.as_str()), spelled(it.to.as_str()));
    format!("{{from: {from}, to: {to}, {groups}since: {}, until: {}}}", it.since.rfc3339(), it.until.rfc3339())
}

pub(super) fn spell_escalation(it: &Escalation) -> String {
    let groups: Vec<_> = it.approvers.iter().map(|group| spelled(group.as_str())).collect();
    format!("{{after: {}, approvers: [{}]}}", spelled_duration(it.after), groups.join(", "))
}

fn known_person(node: &Node, problems: &Problems, known: &[&str]) -> Option<PersonId> {
    let text = node.text(problems)?;
    if known.contains(&text) {
        return Some(PersonId::new(text));
    }
    let mut finding = Diagnostic::error(problems.source(), node.span, format!("there is no person `{text}`"));
    if let Some(near) = nearest(text, known.iter().copied()) {
        finding = finding.label(format!("did you mean `{near}`?"));
    }
    problems.push(finding.help("the id of a person under `people`"));
    None
}

fn moment(node: &Node, problems: &Problems) -> Option<Timestamp> {
    let text = node.text(problems)?;
    let moment = Timestamp::parse_rfc3339(text);
    if moment.is_none() {
        let finding = Diagnostic::error(problems.source(), node.span, format!("`{text}` is no moment"));
        problems.push(finding.help("date, time and offset: `2026-12-01T08:00:00+01:00`, or with `Z` for UTC"));
    }
    moment
}

fn hour(node: &Node, problems: &Problems) -> Option<Time> {
    let text = node.text(problems)?;
    let hour = Time::strptime("%H:%M", text).ok();
    if hour.is_none() {
        let finding = Diagnostic::error(problems.source(), node.span, format!("`{text}` is no time of day"));
        problems.push(finding.help("hours and minutes in quotes: `\"08:30\"`"));
    }
    hour
}

const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];
