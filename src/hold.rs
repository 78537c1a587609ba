//! The hold: a pure state machine over one suspended request.
//!
//! ```text
//!                 vote: quorum met             released             answered
//!   ┌─────────┐ ──────────────────► ┌──────────┐ ─────► ┌────────────┐ ─────► ┌──────────┐
//!   │ Pending │                     │ Approved │        │ Forwarding │        │ Executed │
//!   └─────────┘ ◄── (modify) ──┐    └──────────┘ ◄───── └────────────┘        └──────────┘
//!     │  │  │                  │      │   │     unsent    │       │
//!     │  │  └──────────────────┘      │   │               │       └─► FailedUpstream, Unfit (it did not run)
//!     │  └─ deny ► Denied             │   └ nobody came   └─► OutcomeUnknown (crash, reset, silence)
//!     ├─ deadline ► Expired, or the   │     back ► Expired
//!     │  limit of its session          │
//!     ├─ no client ► Withdrawn        └─ rules changed ► Superseded
//!     └─ operator ► Cancelled, rules changed ► Superseded, nobody entitled left ► NoApprover,
//!        the session upstream is gone ► UpstreamLeft
//!     An approval goes back to Pending where the state that it would change is not the one that was shown.
//! ```
//!
//! It owns when a hold may move and when it is over. It does no IO and reads no clock; who is
//! entitled is asked of `people` by the caller and passed in. Invariants, held by [`Hold::apply`]:
//!
//! - an end is final: no event leaves `Executed` or `Ended`;
//! - only `Approved` becomes `Forwarding`, so each forward had its quorum;
//! - `Forwarding` returns to `Approved` only when certainly no byte was sent (`Unsent`);
//! - a person has at most one verdict in force, and a modification voids all earlier ones; so does a change of
//!   what the request would change.

use std::time::Duration;

use serde_json::Value;

use crate::id::PersonId;
use crate::people::Said;
use crate::time::Timestamp;

/// The moving part of one hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    state: HoldState,
    /// When a pending hold expires, and once approved when the approval does.
    deadline: Timestamp,
    /// What the deadline is the end of: people's time, or that of the session which waits.
    at_deadline: Ending,
    votes: Vec<Vote>,
    attached: usize,
    /// When the last client left; meaningful while `attached` is zero.
    detached_since: Timestamp,
    /// When the hold came to its end.
    ended: Option<Timestamp>,
    patience: Patience,
}

/// How long a hold waits for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience {
    /// A pending hold whose client has been gone this long is withdrawn.
    pub(crate) withdraw_after: Duration,
    /// An approval nobody comes back to use expires after this long.
    pub(crate) approval_ttl: Duration,
}

/// Where a hold stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum HoldState {
    /// Waiting for verdicts.
    Pending,
    /// Approved, not yet run: waits for its client, or for the release that follows at once.
    Approved,
    /// Sent to the upstream.
    Forwarding,
    /// It ran, and the upstream answered.
    Executed,
    /// It ended without running (or nobody knows whether it ran).
    Ended(Ending),
}

impl HoldState {
    pub(crate) const fn is_over(self) -> bool {
        matches!(self, Self::Executed | Self::Ended(_))
    }

    /// One word for people and records.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Forwarding => "forwarding",
            Self::Executed => "executed",
            Self::Ended(ending) => ending.as_str(),
        }
    }
}

/// The ends a request can come to without its being forwarded now. Each is distinct to the client,
/// in the log and on the card; a timeout is never reported as a person's no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Ending {
    /// It ran, but its answer can no longer be given (too large to keep, or lost in a restart).
    AnswerLost,
    /// An operator took the hold back.
    Cancelled,
    /// A person said no.
    Denied,
    /// Nobody decided in time, or nobody came back to use the approval.
    Expired,
    /// It was approved, and the upstream could not be reached: no byte of it left.
    FailedUpstream,
    /// The audit log cannot be written.
    LogUnavailable,
    /// Nobody is entitled to decide this.
    NoApprover,
    /// The upstream may have run it; nobody knows. Never sent again.
    OutcomeUnknown,
    /// This agent or the process has too many holds open.
    Overloaded,
    /// This very signature already ran.
    Replayed,
    /// The process is restarting; the hold is kept and a retry joins it.
    Restarted,
    /// A rule, or the default, said no.
    RuleDenied,
    /// The rules changed while it waited.
    Superseded,
    /// Nobody decided in the time that its rule gives a hold inside of a transaction.
    TransactionLimit,
    /// What an approver wrote has another result than its client was told; it did not run.
    Unfit,
    /// The upstream ended the session in which it waited.
    UpstreamLeft,
    /// Nobody decided before the upstream would have ended the session in which it waited.
    UpstreamLimit,
    /// The client went away (seen by a late retry and in the log, never by that client).
    Withdrawn,
}

impl Ending {
    pub(crate) const ALL: [Self; 18] = [
        Self::AnswerLost,
        Self::Cancelled,
        Self::Denied,
        Self::Expired,
        Self::FailedUpstream,
        Self::LogUnavailable,
        Self::NoApprover,
        Self::OutcomeUnknown,
        Self::Overloaded,
        Self::Replayed,
        Self::Restarted,
        Self::RuleDenied,
        Self::Superseded,
        Self::TransactionLimit,
        Self::Unfit,
        Self::UpstreamLeft,
        Self::UpstreamLimit,
        Self::Withdrawn,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::AnswerLost => "answer-lost",
            Self::Cancelled => "cancelled",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::FailedUpstream => "failed-upstream",
            Self::LogUnavailable => "log-unavailable",
            Self::NoApprover => "no-approver",
            Self::OutcomeUnknown => "outcome-unknown",
            Self::Overloaded => "overloaded",
            Self::Replayed => "replayed",
            Self::Restarted => "restarted",
            Self::RuleDenied => "rule-denied",
            Self::Superseded => "superseded",
            Self::TransactionLimit => "transaction-limit",
            Self::Unfit => "unfit",
            Self::UpstreamLeft => "upstream-left",
            Self::UpstreamLimit => "upstream-limit",
            Self::Withdrawn => "withdrawn",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ending| ending.as_str() == text)
    }
}

/// One verdict that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Vote {
    pub(crate) person: PersonId,
    pub(crate) word: Word,
    pub(crate) reason: String,
    pub(crate) at: Timestamp,
    /// True for a verdict that a later modification, or another state to change, made void.
    pub(crate) void: bool,
}

/// What a person said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Word {
    Allow,
    Deny,
    Modify,
}

impl Word {
    pub(crate) const ALL: [Self; 3] = [Self::Allow, Self::Deny, Self::Modify];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Modify => "modify",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|word| word.as_str() == text)
    }
}

/// One changed value of a modification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// JSON pointer (RFC 6901) into the parameters.
    pub(crate) pointer: String,
    pub(crate) before: Option<Value>,
    pub(crate) after: Option<Value>,
}

/// Something that happens to a hold.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// The upstream answered.
    Answered,
    /// A client connection waits on it.
    Attached,
    /// An entitled person takes it back.
    Cancelled,
    /// A client connection went away.
    Detached,
    /// The upstream could not be reached; no byte was sent.
    FailedUpstream,
    /// Its client can wait no longer than until then, which is an end of that name.
    Limited { deadline: Timestamp, ending: Ending },
    /// Too few people are left who may decide it.
    NobodyEntitled,
    /// What it would change is not what was shown any more: it waits for verdicts on that, until then.
    Outdated { deadline: Timestamp },
    /// It was sent, and no whole answer came.
    OutcomeUnknown,
    /// The permit was minted; its record is durable.
    Released,
    /// The process started anew and read the hold back.
    Restarted,
    /// The rules in force are no longer those it was opened under.
    Superseded,
    /// Time passed.
    Tick,
    /// The modified request does not fit what its client was told; it did not run.
    Unfit,
    /// The permit was dropped before any byte was sent.
    Unsent,
    /// The upstream ended the session that waits for it.
    UpstreamLeft,
    /// The verdict of a person the caller found entitled.
    Voted { vote: Vote },
    /// Its client said that it does not want it any more.
    Withdrawn,
}

/// Why an event changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// This person's verdict is already in force.
    Duplicate,
    /// The event does not fit the state.
    NotOpen(HoldState),
}

impl Hold {
    pub(crate) fn open(now: Timestamp, expires: Duration, patience: Patience) -> Self {
        Self {
            state: HoldState::Pending,
            deadline: now.plus(expires),
            at_deadline: Ending::Expired,
            votes: Vec::new(),
            attached: 0,
            detached_since: now,
            ended: None,
            patience,
        }
    }

    /// A hold as it was stored. Nobody is attached; [`Event::Restarted`] follows. What a session's own limits
    /// were the end of is not stored: that session is gone.
    pub(crate) fn restore(
        state: HoldState,
        deadline: Timestamp,
        votes: Vec<Vote>,
        ended: Option<Timestamp>,
        patience: Patience,
    ) -> Self {
        Self {
            state,
            deadline,
            at_deadline: Ending::Expired,
            votes,
            attached: 0,
            detached_since: deadline,
            ended,
            patience,
        }
    }

    pub(crate) fn state(&self) -> HoldState {
        self.state
    }

    pub(crate) fn deadline(&self) -> Timestamp {
        self.deadline
    }

    pub(crate) fn votes(&self) -> &[Vote] {
        &self.votes
    }

    pub(crate) fn attached(&self) -> usize {
        self.attached
    }

    /// How long no client has been attached; zero while one is.
    pub(crate) fn detached_for(&self, now: Timestamp) -> Duration {
        if self.attached > 0 { Duration::ZERO } else { now.since(self.detached_since) }
    }

    pub(crate) fn ended(&self) -> Option<Timestamp> {
        self.ended
    }

    /// The people whose allow or modify is in force, in the order in which they gave it.
    pub(crate) fn allowed(&self) -> Vec<Said> {
        let in_force = self.votes.iter().filter(|v| !v.void && v.word != Word::Deny);
        in_force.map(|vote| Said { person: vote.person.clone(), at: vote.at }).collect()
    }

    /// Applies one event. `is_met` says whether these people's allow is enough; it is asked only
    /// for verdicts. Returns whether the state changed.
    ///
    /// # Errors
    /// When the event cannot happen in this state; nothing changed then.
    pub(crate) fn apply(
        &mut self,
        event: Event,
        now: Timestamp,
        is_met: impl FnOnce(&[Said]) -> bool,
    ) -> Result<bool, Rejected> {
        use HoldState::{Approved, Ended, Executed, Forwarding, Pending};
        let before = self.state;
        match (event, before) {
            (Event::Attached, _) => self.attached += 1,
            (Event::Detached, _) => {
                self.attached = self.attached.saturating_sub(1);
                self.detached_since = now;
            }
            // What a crash interrupted may have run: it is never sent again (promise 3).
            (Event::Restarted, Forwarding) => self.end(Ended(Ending::OutcomeUnknown), now),
            (Event::Restarted, _) => self.detached_since = now,
            (Event::Tick, Pending | Approved) => self.tick(now),
            (Event::Tick, _) => {}
            (Event::Voted { vote }, Pending) if now < self.deadline => self.vote(vote, now, is_met)?,
            // An approval nobody has used yet can still be turned into a no.
            (Event::Voted { vote }, Approved) if vote.word == Word::Deny => self.vote(vote, now, is_met)?,
            (Event::Cancelled, Pending | Approved) => self.end(Ended(Ending::Cancelled), now),
            (Event::NobodyEntitled, Pending | Approved) => self.end(Ended(Ending::NoApprover), now),
            (Event::Limited { deadline, ending }, Pending) if deadline < self.deadline => {
                (self.deadline, self.at_deadline) = (deadline, ending);
            }
            (Event::Limited { .. }, _) => {}
            (Event::UpstreamLeft, Pending | Approved) => self.end(Ended(Ending::UpstreamLeft), now),
            (Event::Superseded, Pending | Approved) => self.end(Ended(Ending::Superseded), now),
            (Event::Withdrawn, Pending | Approved) if self.attached == 0 => self.end(Ended(Ending::Withdrawn), now),
            (Event::Released, Approved) if now < self.deadline => self.state = Forwarding,
            (Event::Outdated { deadline }, Approved) => {
                self.votes.iter_mut().for_each(|v| v.void = true);
                (self.state, self.deadline, self.at_deadline) = (Pending, deadline, Ending::Expired);
            }
            (Event::Unsent, Forwarding) => self.state = Approved,
            (Event::Answered, Forwarding) => self.end(Executed, now),
            (Event::FailedUpstream, Forwarding) => self.end(Ended(Ending::FailedUpstream), now),
            (Event::Unfit, Forwarding) => self.end(Ended(Ending::Unfit), now),
            (Event::OutcomeUnknown, Forwarding) => self.end(Ended(Ending::OutcomeUnknown), now),
            _ => return Err(Rejected::NotOpen(before)),
        }
        Ok(self.state != before)
    }

    fn tick(&mut self, now: Timestamp) {
        if now >= self.deadline {
            self.end(HoldState::Ended(self.at_deadline), now);
        } else if self.state == HoldState::Pending
            && self.attached == 0
            && now.since(self.detached_since) >= self.patience.withdraw_after
        {
            self.end(HoldState::Ended(Ending::Withdrawn), now);
        }
    }

    fn vote(&mut self, vote: Vote, now: Timestamp, is_met: impl FnOnce(&[Said]) -> bool) -> Result<(), Rejected> {
        if vote.word != Word::Modify
            && self.votes.iter().any(|v| !v.void && v.person == vote.person && v.word == vote.word)
        {
            return Err(Rejected::Duplicate);
        }
        match vote.word {
            // Who changes what would run takes back what was said about the request as it was.
            Word::Modify => self.votes.iter_mut().for_each(|v| v.void = true),
            // A person may change an allow into a deny while the hold is open.
            Word::Deny => self.votes.iter_mut().filter(|v| v.person == vote.person).for_each(|v| v.void = true),
            Word::Allow => {}
        }
        let word = vote.word;
        self.votes.push(vote);
        if word == Word::Deny {
            self.end(HoldState::Ended(Ending::Denied), now);
        } else if is_met(&self.allowed()) {
            self.state = HoldState::Approved;
            (self.deadline, self.at_deadline) = (now.plus(self.patience.approval_ttl), Ending::Expired);
        }
        Ok(())
    }

    fn end(&mut self, state: HoldState, now: Timestamp) {
        self.state = state;
        self.ended = Some(now);
    }
}

#[cfg(test)]
mod tests;
