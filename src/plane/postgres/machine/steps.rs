//! What the machine tells a session to do, and what it has seen.

use std::sync::Arc;

use bytes::Bytes;

use super::{Prepared, Run};

/// What becomes of a client's message.
#[derive(Debug)]
pub(in super::super) enum Step {
    /// It goes on as it came.
    Send,
    /// It does not go on: the server would skip it.
    Drop,
    /// To be asked about; then [`Machine::allow`] or [`Machine::deny`].
    Ask(Subject),
    /// Its turn comes when what was sent before is answered.
    Wait,
    /// The client leaves.
    End,
}

/// What is to be asked about.
#[derive(Clone, Debug)]
pub(in super::super) enum Subject {
    Query(Bytes),
    /// `None`: nobody here knows what the server has under that name.
    Bind(Option<Arc<Prepared>>),
    /// A portal that was not made by Bind (a cursor), or has run to its end.
    Execute(Vec<u8>),
    /// What was allowed under that number, and not run to its end, before the rules changed.
    Again(Run),
    Function(u32),
}

/// How a denial reaches the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Denial {
    /// The server has nothing to do with it: an error and a ReadyForQuery, at once.
    AtOnce,
    /// An Execute of [`NO_PORTAL`] is sent, whose error is replaced.
    InTurn,
    /// The same, and a Sync.
    InTurnWithSync,
}

/// What becomes of a server's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Turn {
    Pass,
    /// The error of a denied message: the denial goes in its place.
    Deny,
    /// It answers a message of countersign's own, and is not for the client.
    Keep,
    /// The error of a message of countersign's own. The server skips to Sync from here.
    Refuse,
}

/// What a server's message says of the work that was permitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Event {
    /// One statement of it is done.
    Done(Run),
    /// It ended with an error of the server's.
    Failed(Run),
    /// The server skipped it, after an error of something before it.
    Skipped(Run),
    /// The server skipped the message that stood for a denied one: the oldest denial is not said.
    Unsaid,
    /// It is over: nothing more will be heard of it.
    Over(Run),
    /// An error: what is open will be rolled back.
    Aborted,
    /// No transaction is open any more; or one is, or failed.
    Ready,
}

/// The two streams do not fit each other, or the client broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in super::super) enum Broken {
    #[error("a message of type `{}` cannot come here", char::from(*.0))]
    Client(u8),
    #[error("the upstream sent a message of type `{}` that nothing asked for", char::from(*.0))]
    Server(u8),
    #[error("the session has more prepared statements than may be kept for it")]
    TooManyStatements,
    #[error("the session has more open portals than may be kept for it")]
    TooManyPortals,
}
