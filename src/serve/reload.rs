//! Rules, people and facts while the server runs: a good new set takes the old one's place, a bad one
//! is reported and changes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::catalog::aws::{Table, built_in};
use crate::config::facts::{FactsError, load_from, path_in};
use crate::config::{Config, ConfigError, Rules};
use crate::gate::Gate;
use crate::rules::{Options, RuleSet};
use crate::telemetry::Metrics;

/// Compiles the rules as they stand on disk, to be in force with those facts.
///
/// # Errors
/// When a file cannot be read or a rule is wrong.
pub(super) fn compile(rules: &Rules, facts: &'static Table, metrics: &Metrics) -> Result<Arc<RuleSet>, ConfigError> {
    let options = Options { facts, ..rules.options.clone() };
    let set = crate::rules::compile(&rules.sources()?, &options).map_err(ConfigError::Invalid)?;
    if set.len() == 0 {
        tracing::warn!("there are no rules: the defaults decide everything");
    }
    metrics.rules.set(i64::try_from(set.len()).unwrap_or(i64::MAX));
    Ok(Arc::new(set))
}

/// The table of the data directory, or the built-in one where there is none.
///
/// # Errors
/// When there is one that cannot be read whole.
pub(super) fn load_facts(data: &Path) -> Result<&'static Table, FactsError> {
    let table = load_from(data)?.unwrap_or_else(built_in);
    if table.is_older_than(built_in()) {
        tracing::warn!(
            file = table.origin,
            version = table.version(),
            built_in = built_in().version(),
            "the table of AWS facts is older than the built-in one: `countersign facts update --built-in` goes back to that"
        );
    }
    tracing::info!(digest = %table.digest, version = table.version(), "AWS facts read");
    Ok(table)
}

/// What of a rule file tells that it changed.
type Stamp = (PathBuf, Option<SystemTime>, u64);

/// Keeps the gate's rules and people those of the files.
pub(super) struct Reload {
    config_file: PathBuf,
    data: PathBuf,
    rules: Rules,
    gate: Arc<Gate>,
    metrics: Arc<Metrics>,
    /// The files at the last attempt, so that a bad set is reported once and not every second.
    seen: Vec<Stamp>,
    seen_facts: Option<Stamp>,
    pace: Interval,
}

impl Reload {
    pub(super) fn new(config_file: PathBuf, config: &Config, gate: Arc<Gate>, metrics: Arc<Metrics>) -> Self {
        let mut pace = interval(Duration::from_secs(1));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let rules = config.rules.clone();
        let seen = stamps(&rules);
        let data = config.data.clone();
        let seen_facts = stamp(path_in(&data));
        Self { config_file, data, rules, gate, metrics, seen, seen_facts, pace }
    }

    /// Returns when it is time to look again. Cancel safe.
    pub(super) async fn tick(&mut self) {
        self.pace.tick().await;
    }

    /// Puts in force what of rules and facts changed.
    pub(super) fn changed(&mut self) {
        let (stamp, stamps) = (stamp(path_in(&self.data)), stamps(&self.rules));
        let facts = match stamp != self.seen_facts {
            true => self.read_facts(),
            false if stamps != self.seen => self.gate.facts(),
            false => return,
        };
        (self.seen, self.seen_facts) = (stamps, stamp);
        self.put_in_force(facts);
    }

    /// Reads the configuration again and puts its people and rules in force.
    pub(super) fn all(&mut self) {
        match Config::load(&self.config_file) {
            Err(error) => {
                self.metrics.rule_reload_errors.increment();
                tracing::error!("the configuration is refused, the one before stays in force:\n{error}");
            }
            Ok(config) => {
                self.rules = config.rules.clone();
                self.seen = stamps(&self.rules);
                self.seen_facts = stamp(path_in(&self.data));
                if self.put_in_force(self.read_facts()) {
                    self.gate.set_people(config.people.as_ref().clone());
                    tracing::info!(data = %self.data.display(), "people and rules were read again");
                }
            }
        }
    }

    /// Reads the facts; those in force where they are bad.
    fn read_facts(&self) -> &'static Table {
        load_facts(&self.data).unwrap_or_else(|error| {
            self.metrics.rule_reload_errors.increment();
            tracing::error!("the facts are refused, those before stay in force: {error}");
            self.gate.facts()
        })
    }

    /// Puts rules and facts in force at one stroke: the rules name actions of these facts, and judge what is
    /// named by them. False when the rules are bad; then both stay as they were.
    fn put_in_force(&self, facts: &'static Table) -> bool {
        match compile(&self.rules, facts, &self.metrics) {
            Ok(set) => {
                tracing::info!(rules = set.len(), digest = %set.digest(), facts = %facts.digest, "rules in force");
                self.gate.set_rules(set);
                true
            }
            Err(error) => {
                self.metrics.rule_reload_errors.increment();
                tracing::error!("the rules are refused, those before stay in force:\n{error}");
                if facts.digest != self.gate.facts().digest {
                    tracing::error!("the facts before stay in force: the rules name what these do not have");
                }
                false
            }
        }
    }
}

/// A file that cannot be looked at has a stamp too: the attempt to read it says why.
fn stamps(rules: &Rules) -> Vec<Stamp> {
    let files = rules.files().unwrap_or_default();
    files.into_iter().map(|file| stamp(file.clone()).unwrap_or((file, None, 0))).collect()
}

/// `None` for a file that is not there.
fn stamp(file: PathBuf) -> Option<Stamp> {
    let metadata = std::fs::metadata(&file).ok()?;
    Some((file, metadata.modified().ok(), metadata.len()))
}
