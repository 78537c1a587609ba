//! Rules and people while the server runs: a good new set takes the old one's place, a bad one is
//! reported and changes nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Interval, MissedTickBehavior, interval};

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
    pace: Interval,
}

impl Reload {
    pub(super) fn new(config_file: PathBuf, config: &Config, gate: Arc<Gate>, metrics: Arc<Metrics>) -> Self {
        let mut pace = interval(Duration::from_secs(1));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let rules = config.rules.clone();
        let seen = stamps(&rules);
        Self { config_file, data: config.data.clone(), rules, gate, metrics, seen, pace }
    }

    /// Returns when it is time to look again. Cancel safe.
    pub(super) async fn tick(&mut self) {
        self.pace.tick().await;
    }

    /// Puts the rules in force when a file of theirs changed.
    pub(super) fn changed_rules(&mut self) {
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
                if self.put_in_force() {
                    self.gate.set_people(config.people.as_ref().clone());
                    tracing::info!(data = %self.data.display(), "people and rules were read again");
                }
            }
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
    rules
        .files()
        .unwrap_or_default()
        .into_iter()
        .map(|file| {
            let metadata = std::fs::metadata(&file).ok();
            let modified = metadata.as_ref().and_then(|metadata| metadata.modified().ok());
            (file, modified, metadata.map_or(0, |metadata| metadata.len()))
        })
        .collect()
}
