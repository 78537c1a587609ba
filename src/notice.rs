//! Telling people of holds: which holds a channel shows, whether it has, and what to do when it could not.
//!
//! A channel is a [`Board`]; one [`Notifier`] brings it every hold that concerns it, each change that people can see,
//! reminders and escalations. What a board shows is always taken from the gate at the moment it is sent, so that a
//! slow board skips what is no longer true. No decision passes here: a board's buttons call the gate, and a hold
//! waits, expires and runs whether or not any board can be reached.
//!
//! Where a hold was shown is kept in a file beside the state database, so that after a restart it is changed there
//! and not shown twice. A crash between a message and that file shows it twice; it never loses one.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::gate::{Gate, HoldView};
use crate::hold::HoldState;
use crate::id::{GroupId, HoldId};
use crate::telemetry::Metrics;
use crate::time::{Clock, Timestamp};

/// A place where people see holds: a channel of Slack or Teams, a webhook.
pub(crate) trait Board: Send + Sync + 'static {
    /// Shows what is to be told. `place` is where it stands already: what the last call for this hold gave.
    fn show<'a>(&'a self, notice: Notice<'a>, place: Option<&'a str>) -> Showing<'a>;
}

/// A message on its way: where it stands now, or why not.
pub(crate) type Showing<'a> = Pin<Box<dyn Future<Output = Result<String, Failure>> + Send + 'a>>;

/// What a board is to tell.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Notice<'a> {
    /// A hold as it is now; told for the first time where it stands nowhere yet.
    Hold(&'a HoldView, News),
    /// A hold that stands somewhere and that nobody knows any more: it ended while nothing ran.
    Gone(&'a HoldId),
}

/// Why a hold is told now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// It is there, or something about it that people see is new. It may be over.
    State,
    /// Nobody has decided for a while.
    Reminder,
    /// More people are asked than before.
    Escalated,
}

/// Why a message did not get through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It may get through later: no sooner than `after`, when the board said so; nothing else does either until then.
    Later { after: Option<Duration>, why: String },
    /// It never will: the board refuses it for what it is.
    Never { why: String },
}

/// What a channel is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// In messages, metrics and the name of its file.
    pub(crate) name: String,
    /// Holds that members of any of these may decide; empty: all holds.
    pub(crate) groups: BTreeSet<GroupId>,
    /// Time after which it is told again while nobody has decided, over and over; `None`: never.
    pub(crate) remind: Option<Duration>,
}

/// Keeps one board up to date.
pub(crate) struct Notifier {
    options: Options,
    board: Arc<dyn Board>,
    gate: Arc<Gate>,
    clock: Clock,
    metrics: Arc<Metrics>,
    file: PathBuf,
    known: BTreeMap<HoldId, Known>,
    /// The board asked to be left alone until then.
    quiet_until: Timestamp,
}

/// What is known of one hold at one board.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Where it stands; `None` before the first message.
    place: Option<String>,
    /// What people saw of it last.
    shown: Option<u64>,
    /// What they are to see.
    wanted: Option<u64>,
    news: Option<News>,
    /// Whether it waited for verdicts when it was last noted.
    is_pending: bool,
    is_running: bool,
    failures: u32,
    /// No sooner than then.
    due: Timestamp,
    /// Moments at which it is to be told again.
    remind_at: Option<Timestamp>,
    escalate_at: Vec<Timestamp>,
}

/// The stored form of [`Known`]: where a hold that may still change stands.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    place: String,
}

impl Notifier {
    /// A notifier that goes on where the last one of that name stopped. A file that cannot be read is left out, with a
    /// word in the log: holds are then told once more.
    pub(crate) fn open(
        options: Options,
        board: Arc<dyn Board>,
        gate: Arc<Gate>,
        clock: Clock,
        metrics: Arc<Metrics>,
        data: &Path,
    ) -> Self {
        let file = data.join(format!("notices-{}.json", options.name));
        let stored = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice::<BTreeMap<String, Stored>>(&bytes).unwrap_or_else(|error| {
                tracing::warn!(file = %file.display(), %error, "cannot be read: open holds are told once more");
                BTreeMap::new()
            }),
            Err(_) => BTreeMap::new(),
        };
        let known = stored
            .into_iter()
            .map(|(id, stored)| (HoldId::new(id), Known { place: Some(stored.place), ..Known::default() }))
            .collect();
        Self { options, board, gate, clock, metrics, file, known, quiet_until: Timestamp::default() }
    }

    /// Runs until `stop`. What is on its way then has a moment to arrive.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut changes = self.gate.changes();
        let mut running: JoinSet<Sent> = JoinSet::new();
        let mut since = 0;
        loop {
            changes.mark_unchanged();
            let (holds, last) = self.gate.holds_since(since);
            let is_first = since == 0;
            since = last;
            let now = self.clock.now();
            holds.iter().for_each(|hold| self.note(hold, now));
            if is_first {
                self.note_gone(now);
            }
            self.remind(now);
            self.start_due(&mut running, now);
            let pause = self.pause(now);
            tokio::select! {
                _ = changes.changed() => {}
                Some(sent) = running.join_next(), if !running.is_empty() => {
                    if let Ok(sent) = sent {
                        self.sent(sent);
                    }
                }
                () = tokio::time::sleep(pause) => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        let rest = async {
            while let Some(sent) = running.join_next().await {
                if let Ok(sent) = sent {
                    self.sent(sent);
                }
            }
        };
        if tokio::time::timeout(LAST_MESSAGES, rest).await.is_err() {
            tracing::warn!(channel = self.options.name, "messages were on their way when the process ended");
        }
    }

    /// Takes note of a hold as it is now.
    fn note(&mut self, hold: &HoldView, now: Timestamp) {
        let is_known = self.known.contains_key(&hold.id);
        // What was never shown needs no end.
        if !is_known && (hold.state != HoldState::Pending || !self.concerns(hold)) {
            return;
        }
        let wanted = fingerprint(hold);
        let remind = self.options.remind;
        let known = self.known.entry(hold.id.clone()).or_default();
        // Also one that stands from the last run, and one whose approval was for another change.
        let is_pending = hold.state == HoldState::Pending;
        match (known.is_pending, is_pending) {
            (false, true) => {
                (known.remind_at, known.escalate_at) = (remind.map(|after| now.plus(after)), escalations(hold, now));
            }
            (_, false) => (known.remind_at, known.escalate_at, known.news) = (None, Vec::new(), None),
            (true, true) => {}
        }
        known.is_pending = is_pending;
        known.wanted = Some(wanted);
    }

    /// Holds of the last run that the gate does not know any more.
    fn note_gone(&mut self, now: Timestamp) {
        for (id, known) in &mut self.known {
            if known.wanted.is_none() && self.gate.hold(id).is_none() {
                (known.wanted, known.due) = (Some(GONE), now);
            }
        }
    }

    /// Whether anybody whom this board is for may decide it, now or later.
    fn concerns(&self, hold: &HoldView) -> bool {
        let asked = hold.ruling.requirements.iter().flat_map(|it| {
            let of_stages = it.stages.iter().flat_map(|stage| &stage.approvers);
            of_stages.chain(it.escalations.iter().flat_map(|it| &it.approvers)).chain(&it.deniers)
        });
        self.options.groups.is_empty() || asked.into_iter().any(|group| self.options.groups.contains(group))
    }

    fn remind(&mut self, now: Timestamp) {
        for known in self.known.values_mut().filter(|known| known.place.is_some()) {
            if known.escalate_at.iter().any(|at| *at <= now) {
                known.escalate_at.retain(|at| *at > now);
                known.news = Some(News::Escalated);
            } else if known.remind_at.is_some_and(|at| at <= now) {
                known.remind_at = self.options.remind.map(|after| now.plus(after));
                known.news = known.news.or(Some(News::Reminder));
            }
        }
    }

    fn start_due(&mut self, running: &mut JoinSet<Sent>, now: Timestamp) {
        if now < self.quiet_until {
            return;
        }
        let mut lost = Vec::new();
        for (id, known) in &mut self.known {
            if running.len() >= AT_ONCE {
                break;
            }
            if known.is_running || !known.has_news() || known.due > now {
                continue;
            }
            let hold = self.gate.hold(id);
            if hold.is_none() && known.place.is_none() {
                lost.push(id.clone());
                continue;
            }
            if let Some(hold) = &hold {
                // Who may decide changes with time, too: what is shown now is all there is to show.
                known.wanted = Some(fingerprint(hold));
            }
            known.is_running = true;
            let news = known.news.take().unwrap_or(News::State);
            let (board, id, place) = (Arc::clone(&self.board), id.clone(), known.place.clone());
            running.spawn(async move {
                let (shown, over, notice) = match &hold {
                    Some(hold) => (fingerprint(hold), hold.state.is_over(), Notice::Hold(hold, news)),
                    None => (GONE, true, Notice::Gone(&id)),
                };
                let outcome = tokio::time::timeout(LONGEST, board.show(notice, place.as_deref())).await;
                let outcome = outcome.unwrap_or_else(|_| {
                    Err(Failure::Later { after: None, why: format!("no answer within {} s", LONGEST.as_secs()) })
                });
                Sent { id, shown, over, news, outcome }
            });
        }
        lost.iter().for_each(|id| drop(self.known.remove(id)));
    }

    fn sent(&mut self, sent: Sent) {
        let now = self.clock.now();
        let channel = self.options.name.as_str();
        let Some(known) = self.known.get_mut(&sent.id) else { return };
        known.is_running = false;
        match sent.outcome {
            Ok(place) => {
                self.metrics.notices.increment();
                (known.place, known.shown, known.failures) = (Some(place), Some(sent.shown), 0);
                known.due = now;
                if sent.over {
                    self.known.remove(&sent.id);
                }
                self.save();
            }
            Err(Failure::Later { after, why }) => {
                self.metrics.notice_errors.increment();
                known.failures += 1;
                let wait = after.unwrap_or_default().max(backoff(known.failures));
                known.due = now.plus(wait);
                if sent.news != News::State {
                    known.news = known.news.or(Some(sent.news));
                }
                if after.is_some() {
                    self.quiet_until = self.quiet_until.max(known.due);
                }
                tracing::warn!(channel, hold = %sent.id, why, wait_s = wait.as_secs(), "a message did not get through yet");
                if sent.over && known.failures > TRIES_AFTER_THE_END {
                    tracing::error!(channel, hold = %sent.id, "the end of this hold was never told");
                    self.known.remove(&sent.id);
                    self.save();
                }
            }
            Err(Failure::Never { why }) => {
                self.metrics.notice_errors.increment();
                tracing::error!(channel, hold = %sent.id, why, "a message is refused: people may not know of this hold here");
                // Not the same thing again; what changes is tried.
                known.shown = Some(sent.shown);
                if sent.over || known.place.is_none() {
                    self.known.remove(&sent.id);
                }
            }
        }
    }

    /// Time until something falls due.
    fn pause(&self, now: Timestamp) -> Duration {
        let waiting = self.known.values().filter(|known| !known.is_running && known.has_news()).map(|it| it.due);
        let later = self.known.values().flat_map(|known| known.remind_at.iter().chain(&known.escalate_at)).copied();
        let next = waiting.map(|due| due.max(self.quiet_until)).chain(later).min();
        // The clock may be one that is moved by hand: a second is soon enough to look again.
        next.map_or(Duration::from_secs(1), |at| at.since(now)).clamp(Duration::from_millis(5), Duration::from_secs(1))
    }

    fn save(&self) {
        let stored: BTreeMap<&str, Stored> = self
            .known
            .iter()
            .filter_map(|(id, known)| Some((id.as_str(), Stored { place: known.place.clone()? })))
            .collect();
        if let Err(error) = replace(&self.file, &stored) {
            tracing::warn!(file = %self.file.display(), %error, "cannot be written: after a restart holds are told twice");
        }
    }
}

impl Known {
    fn has_news(&self) -> bool {
        self.news.is_some() || self.wanted.is_some_and(|wanted| self.shown != Some(wanted))
    }
}

/// What became of one message.
struct Sent {
    id: HoldId,
    shown: u64,
    over: bool,
    news: News,
    outcome: Result<String, Failure>,
}

/// What of a hold people see change. Whether its client is connected at the moment is not told each time.
fn fingerprint(hold: &HoldView) -> u64 {
    let mut hasher = DefaultHasher::new();
    (hold.state, hold.digest, &hold.progress, &hold.eligible, hold.modified.len(), hold.upstream_status)
        .hash(&mut hasher);
    hold.votes.iter().for_each(|vote| (&vote.person, vote.word, vote.void).hash(&mut hasher));
    // Never the number that stands for a hold which is gone.
    hasher.finish() | 1
}

const GONE: u64 = 0;

fn escalations(hold: &HoldView, now: Timestamp) -> Vec<Timestamp> {
    let all = hold.ruling.requirements.iter().flat_map(|it| &it.escalations);
    all.map(|it| hold.opened.plus(it.after)).filter(|at| *at > now && *at < hold.expires).collect()
}

/// 1 s, 2 s, 4 s… up to a minute.
fn backoff(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.saturating_sub(1).min(6)).min(Duration::from_secs(60))
}

fn replace(file: &Path, stored: &BTreeMap<&str, Stored>) -> std::io::Result<()> {
    let mut fresh = tempfile::NamedTempFile::new_in(file.parent().unwrap_or(Path::new(".")))?;
    serde_json::to_writer(&mut fresh, stored)?;
    fresh.flush()?;
    fresh.persist(file)?;
    Ok(())
}

/// Messages that one board gets at the same time.
const AT_ONCE: usize = 4;
/// Longest time for one message.
const LONGEST: Duration = Duration::from_secs(20);
/// Tries to tell the end of a hold, before it is left.
const TRIES_AFTER_THE_END: u32 = 20;
/// Time for what is on its way when the process ends.
const LAST_MESSAGES: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests;
