//! The hold's state machine.

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
    /// It was sent, and the upstream failed before any byte of it left.
    FailedUpstream,
}

/// The ends a request can come to without its being forwarded now. Each is distinct to the client,
/// in the log and on the card; a timeout is never reported as a person's no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Ending {
    /// The approval ran, but its answer can no longer be given (too large to keep, or lost in a restart).
    AnswerLost,
    /// An operator took the hold back.
    Cancelled,
    /// A person said no.
    Denied,
    /// Nobody decided in time, or nobody came back to use the approval.
    Expired,
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
    /// The client went away (seen by a late retry and in the log, never by that client).
    Withdrawn,
}
