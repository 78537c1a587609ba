//! Rules, people and facts while the server runs: a good new set takes the old one's place, a bad one
//! is reported and changes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::catalog::aws as facts;
use crate::config::facts::{FactsError, load_from, path_in};
use crate::config::{Config, ConfigError, Rules};
use crate::gate::Gate;
use crate::rules::RuleSet;
use crate::telemetry::Metrics;

/// Compiles the rules as they stand on disk.
///
/// # Errors
/// When a file cannot be read or a rule is wrong.
pub(super) fn compile(rules: &Rules, metrics: &Metrics) -> Result<Arc<RuleSet>, ConfigError> {
    let set = crate::rules::compile(&rules.sources()?, &rules.options).map_err(ConfigError::Invalid)?;
    if set.len() == 0 {
        tracing::warn!("there are no rules: the defaults decide everything");
    }
    metrics.rules.set(i64::try_from(set.len()).unwrap_or(i64::MAX));
    Ok(Arc::new(set))
}

/// Puts the table of the data directory in force, or the built-in one where there is none.
///
/// # Errors
/// When there is one that cannot be read whole; then the one before stays.
pub(super) fn load_facts(data: &Path) -> Result<(), FactsError> {
    let table = load_from(data)?.unwrap_or_else(facts::built_in);
    if table.is_older_than(facts::built_in()) {
        tracing::warn!(
            file = table.origin,
            version = table.version(),
            built_in = facts::built_in().version(),
            "the table of AWS facts is older than the built-in one: `countersign facts update --built-in` goes back to that"
        );
    }
    facts::put_in_force(table);
    tracing::info!(digest = %table.digest, version = table.version(), "AWS facts in force");
    Ok(())
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
        let stamp = stamp(path_in(&self.data));
        if stamp != self.seen_facts {
            self.seen_facts = stamp;
            self.read_facts();
        }
        let stamps = stamps(&self.rules);
        if stamps != self.seen {
            self.seen = stamps;
            self.put_in_force();
        }
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
                self.read_facts();
                if self.put_in_force() {
                    self.gate.set_people(config.people.as_ref().clone());
                    tracing::info!(data = %self.data.display(), "people and rules were read again");
                }
            }
        }
    }

    /// The rules name actions of the facts, so both change together or not at all.
    fn read_facts(&self) {
        let before = facts::in_force();
        if let Err(error) = load_facts(&self.data) {
            self.metrics.rule_reload_errors.increment();
            tracing::error!("the facts are refused, those before stay in force: {error}");
            return;
        }
        let after = facts::in_force();
        if std::ptr::eq(before, after) {
            return;
        }
        if self.put_in_force() {
            self.gate.note_facts(after.digest, &after.version());
        } else {
            facts::put_in_force(before);
            tracing::error!("the facts before stay in force: the rules name what these do not have");
        }
    }

    /// False when the rules are bad; then those before stay.
    fn put_in_force(&self) -> bool {
        match compile(&self.rules, &self.metrics) {
            Ok(set) => {
                tracing::info!(rules = set.len(), digest = %set.digest(), "rules in force");
                self.gate.set_rules(set);
                true
            }
            Err(error) => {
                self.metrics.rule_reload_errors.increment();
                tracing::error!("the rules are refused, those before stay in force:\n{error}");
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
