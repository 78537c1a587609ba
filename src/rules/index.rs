//! Which rules may match a request, without looking at each rule.
//!
//! Each rule stands under one of its fields: action, resource, agent or owner, whichever spreads
//! the rules best. There it stands under the literal beginnings of its globs; a request looks up
//! the beginnings of its own names. So a request meets the few rules that start like it, however
//! many there are. Resource globs that begin with a wildcard stand under the longest literal piece
//! inside them, and one automaton finds all pieces in one pass over a resource. Rules that can be
//! told by none of these are tried always.
//!
//! Resources are looked up without regard to case, since restricting rules match them so.
//!
//! INVARIANT: every rule that matches a request is among its candidates; the model-based test of
//! `rules` compares with trying all of them.

use std::collections::{BTreeMap, HashMap};

use aho_corasick::AhoCorasick;
use smallvec::SmallVec;

use super::criteria::{Criteria, literal_prefix};
use super::{Rule, Subject};
use crate::action::Action;
use crate::pattern::Glob;

/// Numbers of the rules that may match, ascending.
pub(super) type Candidates = SmallVec<[u32; 24]>;

#[derive(Debug, Default)]
pub(super) struct Index {
    always: Vec<u32>,
    tables: [Table; 4],
    pieces: Pieces,
}

/// Fields by which a rule can be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Action,
    Resource,
    Agent,
    Owner,
    /// A resource by a piece inside its name.
    Piece,
}

const KEYS: [Key; 5] = [Key::Action, Key::Resource, Key::Agent, Key::Owner, Key::Piece];

impl Key {
    fn globs(self, criteria: &Criteria) -> &[Glob] {
        match self {
            Self::Action => &criteria.action,
            Self::Resource | Self::Piece => &criteria.resource,
            Self::Agent => &criteria.agent,
            Self::Owner => &criteria.owner,
        }
    }

    /// The beginnings under which the rule would stand; `None` when one of its globs has none.
    fn beginnings(self, criteria: &Criteria) -> Option<Vec<String>> {
        let globs = self.globs(criteria);
        let spelled = |glob: &Glob| match self {
            Self::Resource => literal_prefix(glob.as_str()).to_ascii_lowercase(),
            Self::Piece => longest_piece(glob.as_str()).to_ascii_lowercase(),
            Self::Action | Self::Agent | Self::Owner => literal_prefix(glob.as_str()).to_owned(),
        };
        let mut beginnings: Vec<_> = globs.iter().map(spelled).collect();
        beginnings.sort_unstable();
        beginnings.dedup();
        (!beginnings.is_empty() && !beginnings.contains(&String::new())).then_some(beginnings)
    }
}

impl Index {
    /// Of the rules that are `wanted`; their numbers are those in `rules`.
    pub(super) fn build(rules: &[Rule], wanted: impl Fn(&Rule) -> bool) -> Self {
        let mut crowd: [HashMap<String, usize>; KEYS.len()] = Default::default();
        for rule in rules.iter().filter(|rule| wanted(rule)) {
            for (key, crowd) in KEYS.into_iter().zip(&mut crowd) {
                for beginning in key.beginnings(&rule.criteria).into_iter().flatten() {
                    *crowd.entry(beginning).or_default() += 1;
                }
            }
        }
        let mut always = Vec::new();
        let mut buckets: [BTreeMap<String, Vec<u32>>; KEYS.len()] = Default::default();
        for (number, rule) in (0..).zip(rules).filter(|(_, rule)| wanted(rule)) {
            // The field whose fullest beginning is shared with the fewest other rules.
            let best = KEYS
                .into_iter()
                .zip(&crowd)
                .zip(&mut buckets)
                .filter_map(|((key, crowd), bucket)| {
                    let beginnings = key.beginnings(&rule.criteria)?;
                    let fullest = beginnings.iter().filter_map(|it| crowd.get(it)).max().copied()?;
                    Some((fullest, beginnings, bucket))
                })
                .min_by_key(|(fullest, ..)| *fullest);
            match best {
                Some((_, beginnings, bucket)) => {
                    for beginning in beginnings {
                        bucket.entry(beginning).or_default().push(number);
                    }
                }
                None => always.push(number),
            }
        }
        let [actions, resources, agents, owners, pieces] = buckets;
        let tables = [actions, resources, agents, owners].map(Table::build);
        Self { always, tables, pieces: Pieces::build(pieces) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.always.is_empty() && self.tables.iter().all(Table::is_empty) && self.pieces.rules.is_empty()
    }

    pub(super) fn candidates(&self, subject: &Subject<'_>, action: &Action) -> Candidates {
        let mut found = Candidates::from_slice(&self.always);
        let [actions, resources, agents, owners] = &self.tables;
        actions.look_up(&action.name, &mut found);
        agents.look_up(subject.agent.id.as_str(), &mut found);
        if !owners.is_empty() {
            owners.look_up(&subject.agent.owner.to_string(), &mut found);
        }
        if !resources.is_empty() || !self.pieces.rules.is_empty() {
            for resource in &action.resources {
                let resource = resource.to_ascii_lowercase();
                resources.look_up(&resource, &mut found);
                self.pieces.look_in(&resource, &mut found);
                // A name with a `*` of its own may turn out to be anything that starts alike.
                if let Some((known, _)) = resource.split_once('*')
                    && resource != "*"
                {
                    resources.look_under(known, &mut found);
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// Rules by a literal piece that a resource must hold.
#[derive(Debug, Default)]
struct Pieces {
    automaton: Option<AhoCorasick>,
    /// The rules of each pattern of the automaton.
    rules: Vec<Box<[u32]>>,
}

impl Pieces {
    fn build(buckets: BTreeMap<String, Vec<u32>>) -> Self {
        if buckets.is_empty() {
            return Self::default();
        }
        let automaton = AhoCorasick::new(buckets.keys()).ok();
        let mut rules: Vec<Box<[u32]>> = buckets.into_values().map(Vec::into_boxed_slice).collect();
        if automaton.is_none() {
            // Too many patterns for an automaton: then each of these rules is tried, none is lost.
            rules = vec![rules.concat().into()];
        }
        Self { automaton, rules }
    }

    fn look_in(&self, resource: &str, found: &mut Candidates) {
        match &self.automaton {
            // A name with a `*` of its own may turn out to hold any piece.
            Some(automaton) if resource == "*" || !resource.contains('*') => {
                for hit in automaton.find_overlapping_iter(resource) {
                    found.extend(self.rules.get(hit.pattern().as_usize()).into_iter().flatten().copied());
                }
            }
            _ => found.extend(self.rules.iter().flatten().copied()),
        }
    }
}

/// The longest part of a glob between wildcards.
fn longest_piece(glob: &str) -> &str {
    glob.split(['*', '?']).max_by_key(|piece| piece.len()).unwrap_or_default()
}

/// Rules by literal beginning, sorted, each entry knowing the next shorter one that it starts with.
#[derive(Debug, Default)]
struct Table(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    beginning: Box<str>,
    rules: Box<[u32]>,
    /// The longest other entry that is a beginning of this one.
    shorter: Option<usize>,
}

impl Table {
    fn build(buckets: BTreeMap<String, Vec<u32>>) -> Self {
        let mut entries: Vec<Entry> = Vec::with_capacity(buckets.len());
        for (beginning, rules) in buckets {
            let mut shorter = entries.len().checked_sub(1);
            while let Some(entry) = shorter.and_then(|at| entries.get(at)) {
                if beginning.starts_with(&*entry.beginning) {
                    break;
                }
                shorter = entry.shorter;
            }
            entries.push(Entry { beginning: beginning.into(), rules: rules.into(), shorter });
        }
        Self(entries)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the rules of every entry that `text` starts with. The greatest entry not above `text`
    /// starts with all of them, so they are that entry and those it leads to.
    fn look_up(&self, text: &str, found: &mut Candidates) {
        let mut at = self.0.partition_point(|entry| &*entry.beginning <= text).checked_sub(1);
        while let Some(entry) = at.and_then(|at| self.0.get(at)) {
            if text.starts_with(&*entry.beginning) {
                found.extend_from_slice(&entry.rules);
            }
            at = entry.shorter;
        }
    }

    /// Adds the rules of every entry that starts with `text`, or that `text` starts with.
    fn look_under(&self, text: &str, found: &mut Candidates) {
        self.look_up(text, found);
        let from = self.0.partition_point(|entry| &*entry.beginning < text);
        for entry in self.0.iter().skip(from).take_while(|entry| entry.beginning.starts_with(text)) {
            found.extend_from_slice(&entry.rules);
        }
    }
}
