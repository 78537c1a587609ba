//! `GET /v1/holds/watch`: every hold as it is now, then each change, as server-sent events.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use http_body::{Body, Frame};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::payload;
use crate::credential::approver::ApproverTokens;
use crate::gate::{Approver, Gate};
use crate::net::body::{AnswerBody, BodyError};
use crate::time::Clock;

/// Whom a stream is for, and what it is made of.
pub(super) struct Watcher {
    pub(super) gate: Arc<Gate>,
    pub(super) tokens: Arc<ApproverTokens>,
    pub(super) clock: Clock,
    pub(super) approver: Approver,
    pub(super) shutdown: watch::Receiver<bool>,
}

impl Watcher {
    /// A stream may last for days: it shows nothing that its person's next request would not be shown.
    fn may_see(&self) -> bool {
        let Approver { person, credential, .. } = &self.approver;
        self.tokens.is_valid(credential, self.clock.now()) && self.gate.knows(person)
    }
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
    let mut changes = watcher.gate.changes();
    let mut shutdown = watcher.shutdown.clone();
    let mut recheck = tokio::time::interval(RECHECK);
    let mut heartbeat = tokio::time::interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    recheck.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut since = 0;
    loop {
        changes.mark_unchanged();
        let holds;
        (holds, since) = watcher.gate.holds_since(since);
        for hold in &holds {
            // The client chooses how long a send takes.
            if !watcher.may_see() {
                return;
            }
            let event = format!("event: hold\nid: {}\ndata: {}\n\n", hold.id, payload::hold(hold));
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
