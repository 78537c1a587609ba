//! Every hold as it is now, then each change, as server-sent events; or those of one hold. A client that comes back
//! with `Last-Event-ID` gets what changed since.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use http_body::{Body, Frame};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::auth::{Caller, Recognition};
use super::payload;
use crate::id::HoldId;
use crate::net::body::{AnswerBody, BodyError};
use crate::time::Timestamp;

/// Whom a stream is for, and what it is made of.
pub(super) struct Watcher {
    pub(super) recognition: Recognition,
    pub(super) caller: Caller,
    /// `None`: all holds.
    pub(super) only: Option<HoldId>,
    /// Number of the last change that the client knows; 0: none.
    pub(super) since: u64,
    /// When the numbers began.
    pub(super) started: Timestamp,
    pub(super) shutdown: watch::Receiver<bool>,
}

impl Watcher {
    /// A stream may last for days: it shows nothing that its person's next request would not be shown.
    fn may_see(&self) -> bool {
        self.recognition.still_knows(&self.caller)
    }
}

/// The number of the change that an event's id names; 0 when it was given by another process.
pub(super) fn resume(id: &str, started: Timestamp) -> u64 {
    let number = id.split_once('-').filter(|(run, _)| run.parse() == Ok(started.as_micros()));
    number.and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

/// Events `hold` with a hold as data; comment lines in between keep idle connections open.
pub(super) fn response(watcher: Watcher) -> Response<AnswerBody> {
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(follow(watcher, sender));
    let mut response = Response::new(AnswerBody::boxed(Events(receiver)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

/// Ends when the client has gone, its token or its person is not valid any more, or the server stops.
async fn follow(watcher: Watcher, sender: mpsc::Sender<Bytes>) {
    let mut changes = watcher.recognition.gate.changes();
    let mut shutdown = watcher.shutdown.clone();
    let mut recheck = tokio::time::interval(RECHECK);
    let mut heartbeat = tokio::time::interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    recheck.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut since, run) = (watcher.since, watcher.started.as_micros());
    loop {
        changes.mark_unchanged();
        let mut holds;
        let before = since;
        (holds, since) = watcher.recognition.gate.holds_since(before);
        holds.retain(|hold| watcher.only.as_ref().is_none_or(|id| hold.id == *id));
        for (index, hold) in holds.iter().enumerate() {
            // The client chooses how long a send takes.
            if !watcher.may_see() {
                return;
            }
            // Whoever knows the last of them knows them all; whoever was cut off before gets them once more.
            let known = if index + 1 < holds.len() { before } else { since };
            let event = format!("event: hold\nid: {run}-{known}\ndata: {}\n\n", payload::hold(hold));
            if sender.send(event.into()).await.is_err() {
                return;
            }
        }
        drop(holds);
        let alive = tokio::select! {
            changed = changes.changed() => {
                // A thousand holds that open at once are looked at a few times, not a thousand.
                tokio::time::sleep(PACE).await;
                changed.is_ok()
            }
            _ = recheck.tick() => watcher.may_see(),
            _ = heartbeat.tick() => sender.send(Bytes::from_static(b":\n\n")).await.is_ok(),
            () = sender.closed() => false,
            () = async { drop(shutdown.wait_for(|stop| *stop).await) } => false,
        };
        if !alive {
            return;
        }
    }
}

struct Events(mpsc::Receiver<Bytes>);

impl Body for Events {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.poll_recv(context).map(|event| event.map(|event| Ok(Frame::data(event))))
    }
}

const PACE: Duration = Duration::from_millis(50);
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Time between two looks at whether an idle stream may go on.
const RECHECK: Duration = Duration::from_secs(1);
