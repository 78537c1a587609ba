//! When members of a group decide: on-call windows, and who stands in for whom.

use std::collections::BTreeMap;

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::id::{GroupId, PersonId};
use crate::time::Timestamp;

/// The windows of groups that are on call by turns, and the stand-ins.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rota {
    /// A group that is not here has all its members on call at all times.
    pub(crate) turns: BTreeMap<GroupId, Turns>,
    pub(crate) stand_ins: Vec<StandIn>,
}

/// The windows of one group. Outside of all of them nobody decides as a member of it.
#[derive(Clone, Debug)]
pub(crate) struct Turns {
    /// The zone in which hours of windows are meant.
    pub(crate) zone: TimeZone,
    pub(crate) windows: Vec<Window>,
}

/// When some members are on call.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    pub(crate) who: Vec<PersonId>,
    pub(crate) when: When,
}

/// A stretch of time, its end not included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// On these days from one hour to another; one that ends no later than it begins ends on the next day.
    Weekly {
        days: Vec<Weekday>,
        from: Time,
        to: Time,
    },
    Between {
        since: Timestamp,
        until: Timestamp,
    },
}

/// One person who decides in another's place for a while. It is not passed on further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StandIn {
    pub(crate) from: PersonId,
    pub(crate) to: PersonId,
    /// For what the absent one decides as a member of these; empty: of any group.
    pub(crate) groups: Vec<GroupId>,
    pub(crate) since: Timestamp,
    pub(crate) until: Timestamp,
}

impl StandIn {
    pub(super) fn covers(&self, group: &GroupId) -> bool {
        self.groups.is_empty() || self.groups.contains(group)
    }
}

impl Rota {
    /// Whether that person decides as a member of that group at that moment.
    pub(super) fn is_on_call(&self, person: &PersonId, group: &GroupId, at: Timestamp) -> bool {
        let Some(turns) = self.turns.get(group) else { return true };
        let windows = || turns.windows.iter().filter(|window| window.who.contains(person));
        if windows().next().is_none() {
            return false;
        }
        let local = civil(&turns.zone, at);
        windows().any(|window| window.when.contains(at, local))
    }

    /// Those for whom this person stands in at that moment.
    pub(super) fn stands_in_for(&self, person: &PersonId, at: Timestamp) -> impl Iterator<Item = &StandIn> {
        self.stand_ins.iter().filter(move |it| it.to == *person && (it.since..it.until).contains(&at))
    }

    /// The moments in that stretch of time at which somebody comes on call or begins to stand in.
    pub(super) fn begins(&self, from: Timestamp, until: Timestamp) -> Vec<Timestamp> {
        let mut moments: Vec<Timestamp> = self.stand_ins.iter().map(|it| it.since).collect();
        for turns in self.turns.values() {
            for window in &turns.windows {
                window.when.starts(&turns.zone, from, until, &mut moments);
            }
        }
        moments.retain(|at| *at > from && *at < until);
        moments.sort_unstable();
        moments.dedup();
        moments
    }
}

impl Rota {
    /// As records hold it.
    pub(crate) fn json(&self) -> Value {
        let groups = self.turns.iter().map(|(group, turns)| {
            let windows = turns.windows.iter().map(|it| {
                let mut value = it.when.json();
                let who: Value = it.who.iter().map(PersonId::as_str).collect();
                value.as_object_mut().and_then(|members| members.insert("who".to_owned(), who));
                value
            });
            let zone = turns.zone.iana_name().unwrap_or("UTC");
            (group.to_string(), json!({ "timezone": zone, "windows": windows.collect::<Vec<_>>() }))
        });
        let stand_ins = self.stand_ins.iter().map(|it| {
            let groups: Vec<&str> = it.groups.iter().map(GroupId::as_str).collect();
            let (since, until) = (it.since.rfc3339(), it.until.rfc3339());
            json!({ "from": it.from.as_str(), "to": it.to.as_str(), "groups": groups, "since": since, "until": until })
        });
        json!({ "on_call": groups.collect::<serde_json::Map<_, _>>(), "stand_ins": stand_ins.collect::<Vec<_>>() })
    }
}

impl When {
    fn json(&self) -> Value {
        match self {
            Self::Between { since, until } => json!({ "since": since.rfc3339(), "until": until.rfc3339() }),
            Self::Weekly { days, from, to } => {
                let days: Vec<i8> = days.iter().map(|day| day.to_monday_one_offset()).collect();
                let hour = |time: &Time| time.strftime("%H:%M").to_string();
                // Monday is 1 (ISO 8601).
                json!({ "days": days, "from": hour(from), "to": hour(to) })
            }
        }
    }

    fn contains(&self, at: Timestamp, local: DateTime) -> bool {
        match self {
            Self::Between { since, until } => (*since..*until).contains(&at),
            Self::Weekly { days, from, to } => {
                let (day, time) = (local.date(), local.time());
                let begun_today = days.contains(&day.weekday()) && time >= *from && (time < *to || to <= from);
                let begun_yesterday = to <= from
                    && time < *to
                    && day.yesterday().is_ok_and(|yesterday| days.contains(&yesterday.weekday()));
                begun_today || begun_yesterday
            }
        }
    }

    fn starts(&self, zone: &TimeZone, from: Timestamp, until: Timestamp, moments: &mut Vec<Timestamp>) {
        match self {
            Self::Between { since, .. } => moments.push(*since),
            Self::Weekly { days, from: hour, .. } => {
                let (mut day, last) = (civil(zone, from).date(), civil(zone, until).date());
                // A hold lasts a week at most.
                for _ in 0..=LONGEST_DAYS {
                    if days.contains(&day.weekday()) {
                        moments.extend(instant(zone, day, *hour));
                    }
                    match day.tomorrow() {
                        Ok(next) if next <= last => day = next,
                        _ => break,
                    }
                }
            }
        }
    }
}

const LONGEST_DAYS: usize = 8;

fn civil(zone: &TimeZone, at: Timestamp) -> DateTime {
    let moment = jiff::Timestamp::from_microsecond(at.as_micros()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    zone.to_datetime(moment)
}

fn instant(zone: &TimeZone, day: Date, hour: Time) -> Option<Timestamp> {
    let moment = zone.to_ambiguous_timestamp(day.to_datetime(hour)).compatible().ok()?;
    Some(Timestamp::from_micros(moment.as_microsecond()))
}
