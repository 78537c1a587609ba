//! `GET /v1/holds/watch`: every hold as it is now, then each change, as server-sent events.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use http_body::{Body, Frame};
use tokio::sync::{mpsc, watch};

use super::payload;
use crate::gate::Gate;
use crate::net::body::{AnswerBody, BodyError};

/// Events `hold` with a hold as data; comment lines in between keep idle connections open.
pub(super) fn response(gate: Arc<Gate>, shutdown: watch::Receiver<bool>) -> Response<AnswerBody> {
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(follow(gate, sender, shutdown));
    let mut response = Response::new(AnswerBody::boxed(Events(receiver)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

/// Ends when the client has gone or the server stops.
async fn follow(gate: Arc<Gate>, sender: mpsc::Sender<Bytes>, mut shutdown: watch::Receiver<bool>) {
    let mut changes = gate.changes();
    let mut since = 0;
    loop {
        changes.mark_unchanged();
        let holds;
        (holds, since) = gate.holds_since(since);
        for hold in &holds {
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
            () = tokio::time::sleep(HEARTBEAT) => sender.send(Bytes::from_static(b":\n\n")).await.is_ok(),
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
