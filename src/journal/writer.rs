//! The one thread that writes the log.
//!
//! One turn: take what has queued, write it in one piece, sync, answer who waits. There is no
//! timer between a waiting caller and the disk; what queues during a sync, or while the writer lets
//! others have the core, is the next batch.
//!
//! | a crash between | leaves | and then |
//! |---|---|---|
//! | write and sync | a torn or unacknowledged tail | cut, or kept when whole; nobody was answered |
//! | sync and answer | records nobody acted on | a forward among them becomes an unknown outcome |
//! | sync and checkpoint | records not yet covered | covered at the next start |
//! | checkpoint and next segment | a trimmed last segment | gone on with |
//! | next segment and its first records | an incomplete last segment | removed; the one before is whole |
//!
//! INVARIANT (fail-stop): after any error of a write or a sync nothing is ever written again by
//! this process. A failed sync may have dropped what it should have written, so that a second one
//! that succeeds proves nothing.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::carry::Carry;
use super::disk::{Disk, DiskFile, is_full};
use super::queue::{Item, Queue, Turn, Waiter};
use super::{Durable, JournalError, Limits};
use crate::audit::chain::Chain;
use crate::audit::checkpoint::SigningKey;
use crate::audit::line::segment_name;
use crate::audit::record::{Kind, Place, Record};
use crate::audit::spelling::write_decimal;
use crate::audit::tree::{LEAF_MARK, marked_leaf_hash};
use crate::telemetry::Metrics;
use crate::time::{Clock, Timestamp};

/// How long a record may be without a checkpoint.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// Zeros are written this far ahead: syncing into them needs no new blocks and no new file size.
const ZERO_AHEAD: u64 = 4 << 20;

/// Read again and again, since memory that is fresh costs more than the copy.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The last steps on a full disk are small.
const ZERO_STEP_FULL: u64 = 64 << 10;

pub(super) struct Writer {
    pub(super) disk: Disk,
    pub(super) dir: PathBuf,
    pub(super) limits: Limits,
    pub(super) key: SigningKey,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) queue: Arc<Queue>,
    pub(super) segment: Segment,
    pub(super) chain: Chain,
    pub(super) carry: Carry,
    /// Records under the last checkpoint.
    pub(super) covered: u64,
    pub(super) covered_at: Instant,
    /// Hour of the last checkpoint that was kept for good.
    pub(super) kept_hour: i64,
    pub(super) log_literal: String,
    /// Moment of the last record.
    pub(super) last_at: Timestamp,
    pub(super) space: Space,
    pub(super) batch: Batch,
    /// Where those who wait are answered; absent where nobody waits in a runtime.
    pub(super) runtime: Option<Handle>,
}

/// Whether the disk has room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    Free,
    /// It was found full; the reserve is gone.
    Full,
    /// And that is recorded.
    FullRecorded,
}

/// The segment that grows.
pub(super) struct Segment {
    pub(super) file: DiskFile,
    /// Bytes of records.
    pub(super) length: u64,
    /// End of the zeros written ahead.
    pub(super) zeroed: u64,
}

/// Lines on their way to the disk.
#[derive(Default)]
pub(super) struct Batch {
    lines: String,
    /// The line being written, with the mark of a leaf before it.
    marked: String,
    records: u64,
    waiters: Vec<(u64, Waiter)>,
    stamp: Stamp,
}

/// Spells moments; most fall into the second of the one before.
#[derive(Default)]
struct Stamp {
    second: Option<i64>,
    text: String,
}

impl Writer {
    /// Writes until the log is closed or fails.
    pub(super) fn run(mut self) {
        let _end = EndGuard(self.queue.clone());
        let mut items = Vec::new();
        loop {
            let deadline = (self.chain.size() > self.covered).then(|| self.covered_at + CHECKPOINT_INTERVAL);
            let turn = self.queue.take(&mut items, deadline);
            let result = self.turn(&mut items, turn);
            match (result, turn) {
                (Ok(()), Turn::Write) => {}
                (Ok(()), Turn::Close) => return,
                (Err(error), _) => return self.fail(&error, items),
            }
        }
    }

    fn turn(&mut self, items: &mut Vec<Item>, turn: Turn) -> io::Result<()> {
        let mut waiting = items.drain(..).peekable();
        while let Some(first) = waiting.peek() {
            self.make_segment_room(first.at)?;
            while let Some(Item { record, at, waiter }) = waiting.next_if(|_| self.batch.has_room(self.limits)) {
                let seq = self.write(record, at);
                self.batch.waiters.extend(waiter.map(|waiter| (seq, waiter)));
            }
            self.commit()?;
        }
        drop(waiting);
        if turn == Turn::Close {
            return self.close();
        }
        if self.chain.size() > self.covered && self.covered_at.elapsed() >= CHECKPOINT_INTERVAL {
            self.checkpoint(false)?;
        }
        Ok(())
    }

    /// Writes records of the journal's own, and a checkpoint over them.
    pub(super) fn write_own(&mut self, records: Vec<Record>) -> io::Result<()> {
        let now = self.clock.now();
        self.make_segment_room(now)?;
        for record in records {
            self.write(record, now);
        }
        self.commit()?;
        self.checkpoint(true)
    }

    /// Puts a record's line into the batch.
    fn write(&mut self, record: Record, at: Timestamp) -> u64 {
        self.carry.note_record(&record);
        self.last_at = at;
        let seq = self.chain.size();
        let Batch { lines, marked, stamp, records, .. } = &mut self.batch;
        let place = Place { log_literal: &self.log_literal, seq, prev: self.chain.prev(), ts: stamp.spell(at) };
        marked.clear();
        marked.push(LEAF_MARK);
        record.write_line(&place, marked);
        self.chain.push(marked_leaf_hash(marked));
        lines.push_str(marked.get(LEAF_MARK.len_utf8()..).unwrap_or_default());
        lines.push('\n');
        *records += 1;
        seq
    }

    /// Makes the batch durable and answers who waits for it.
    fn commit(&mut self) -> io::Result<()> {
        self.flush()?;
        self.answer();
        if self.segment.zeroed - self.segment.length < self.limits.zero_ahead(ZERO_AHEAD) / 2
            && self.segment.zeroed < self.limits.segment_bytes
        {
            self.zero_to(self.segment.zeroed)?;
        }
        self.say_full()
    }

    /// Tells those who wait that their records are on disk.
    fn answer(&mut self) {
        let waiters = std::mem::take(&mut self.batch.waiters);
        let tell = |waiters: Vec<(u64, Waiter)>| {
            for (seq, waiter) in waiters {
                // A caller that has gone has no use for the answer.
                drop(waiter.send(Ok(Durable { seq })));
            }
        };
        match &self.runtime {
            // Each word from this thread would wake a thread that runs at once, on a busy core instead of this one.
            Some(runtime) if waiters.len() > 1 => drop(runtime.spawn(async move { tell(waiters) })),
            _ => tell(waiters),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let end = self.segment.length + self.batch.lines.len() as u64;
        if end > self.segment.zeroed {
            self.zero_to(end)?;
        }
        self.segment.file.write_at(self.segment.length, self.batch.lines.as_bytes())?;
        self.segment.file.sync_data()?;
        self.segment.length = end;
        self.batch.lines.clear();
        self.metrics.records.add(std::mem::take(&mut self.batch.records));
        self.say_full()
    }

    /// Records once that the disk is full. What waits for an outcome can still be written; nothing else.
    fn say_full(&mut self) -> io::Result<()> {
        if self.space != Space::Full {
            return Ok(());
        }
        self.space = Space::FullRecorded;
        self.queue.set_disk_full();
        self.metrics.journal_failed.set(1);
        tracing::error!(
            dir = %self.dir.display(),
            "the disk of the audit log is full: matched actions stop, outcomes of running ones are still recorded; \
             free space, then restart"
        );
        let record =
            Record::new(Kind::LogFull).integer("reserve_bytes", i64::try_from(self.limits.reserve_bytes).unwrap_or(0));
        self.write(record, self.last_at);
        self.flush()
    }

    /// Writes zeros ahead of a place.
    fn zero_to(&mut self, end: u64) -> io::Result<()> {
        let ahead = |step: u64, limit: u64| (end + step).min(limit.max(end));
        let target = ahead(self.limits.zero_ahead(ZERO_AHEAD), self.limits.segment_bytes);
        let small = ahead(ZERO_STEP_FULL, self.limits.segment_bytes);
        match self.zero(if self.space == Space::Free { target } else { small }) {
            Err(error) if self.give_up_reserve(&error)? => self.zero(small),
            other => other,
        }
    }

    fn zero(&mut self, target: u64) -> io::Result<()> {
        let mut at = self.segment.zeroed;
        while at < target {
            let step = usize::try_from(target - at).unwrap_or(usize::MAX).min(ZEROS.len());
            self.segment.file.write_at(at, ZEROS.get(..step).unwrap_or_default())?;
            at += step as u64;
        }
        self.segment.file.sync_all()?;
        self.segment.zeroed = target;
        Ok(())
    }

    /// True when the error says that the disk is full and there was a reserve to free.
    fn give_up_reserve(&mut self, error: &io::Error) -> io::Result<bool> {
        if !is_full(error) || self.space != Space::Free {
            return Ok(false);
        }
        self.space = Space::Full;
        self.disk.remove(&self.dir.join("reserve"))?;
        self.disk.sync_dir(&self.dir)?;
        Ok(true)
    }

    /// Begins the next segment when a batch might not fit into this one; `at` is the moment of the
    /// record that comes next.
    fn make_segment_room(&mut self, at: Timestamp) -> io::Result<()> {
        if self.segment.length + self.limits.batch_room() <= self.limits.segment_bytes || self.segment.length == 0 {
            return Ok(());
        }
        self.checkpoint(true)?;
        self.trim()?;
        let path = self.dir.join(segment_name(self.chain.size()));
        let file = match self.disk.create(&path) {
            Err(error) if self.give_up_reserve(&error)? => self.disk.create(&path)?,
            other => other?,
        };
        self.segment = Segment { file, length: 0, zeroed: 0 };
        for record in self.carry.header(self.chain.frontier()) {
            self.write(record, at);
        }
        self.disk.sync_dir(&self.dir)?;
        self.flush()
    }

    /// Signs the log as it is and puts the checkpoint in place; `keep` also keeps a copy for good.
    pub(super) fn checkpoint(&mut self, keep: bool) -> io::Result<()> {
        let size = self.chain.size();
        let note = self.key.sign(size, self.chain.frontier().root());
        let hour = self.clock.now().as_seconds().div_euclid(3600);
        let mut paths = vec![self.dir.join("checkpoint")];
        if keep || hour != self.kept_hour {
            paths.push(self.dir.join("checkpoints").join(format!("{size:020}")));
            self.kept_hour = hour;
        }
        for path in paths {
            match self.disk.replace(&path, note.as_bytes()) {
                Err(error) if self.give_up_reserve(&error)? => {
                    self.disk.replace(&path, note.as_bytes())?;
                    self.say_full()?;
                }
                other => other?,
            }
        }
        (self.covered, self.covered_at) = (size, Instant::now());
        Ok(())
    }

    fn trim(&mut self) -> io::Result<()> {
        self.segment.file.set_len(self.segment.length)?;
        self.segment.file.sync_all()?;
        self.segment.zeroed = self.segment.length;
        Ok(())
    }

    fn close(&mut self) -> io::Result<()> {
        self.write_own(vec![Record::new(Kind::LogClose)])?;
        self.trim()
    }

    fn fail(&mut self, error: &io::Error, items: Vec<Item>) {
        let error = JournalError::Failed(error.to_string());
        self.metrics.journal_failed.set(1);
        tracing::error!(
            dir = %self.dir.display(), %error,
            "the audit log has failed: matched actions stop until the disk is repaired and the process restarted"
        );
        self.queue.fail(&error);
        let waiters = self.batch.waiters.drain(..).map(|(_, waiter)| waiter);
        for waiter in waiters.chain(items.into_iter().filter_map(|item| item.waiter)) {
            // A caller that has gone does not hear of it.
            drop(waiter.send(Err(error.clone())));
        }
    }
}

impl Batch {
    fn has_room(&self, limits: Limits) -> bool {
        (self.lines.len() as u64) < limits.batch_bytes
    }
}

impl Stamp {
    fn spell(&mut self, at: Timestamp) -> &str {
        let second = at.as_seconds();
        if self.second != Some(second) {
            self.second = Some(second);
            self.text = at.rfc3339();
        }
        let micros = at.as_micros().rem_euclid(1_000_000);
        // `2026-11-20T11:25:55.123456Z`: the last seven characters change within a second.
        self.text.truncate(self.text.len().saturating_sub(7));
        write_decimal(micros.unsigned_abs(), 6, &mut self.text);
        self.text.push('Z');
        &self.text
    }
}

/// Lets no caller wait for a writer that has gone, whatever way it went.
struct EndGuard(Arc<Queue>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        let error = self.0.ended().unwrap_or(JournalError::Failed("the writer stopped".to_owned()));
        self.0.fail(&error);
    }
}
