//! An answer's body that is counted as it flows.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::count::Counter;
use super::{Asker, Stopped};
use crate::gate::{Meter, Outcome};
use crate::id::RuleId;
use crate::net::body::{BodyError, Outgoing};
use crate::rules::{Count, Limit};

/// More than any limit on rows lets pass.
const COUNTLESS: u64 = 1 << 62;

pub(super) struct Metered {
    inner: Outgoing,
    /// Read, and not passed on yet.
    front: Bytes,
    meter: Meter,
    counter: Counter,
    asker: Arc<Asker>,
    /// What the answer came to, for the record of a hold.
    outcome: Outcome,
    pause: Option<Pause>,
    /// Asked about what cannot be counted.
    has_asked: bool,
    is_over: bool,
}

struct Pause {
    deciding: Pin<Box<dyn Future<Output = Result<(), Stopped>> + Send>>,
    rules: Vec<RuleId>,
}

impl Metered {
    pub(super) fn new(
        inner: Outgoing,
        mut meter: Meter,
        mut counter: Counter,
        asker: Arc<Asker>,
        outcome: Outcome,
    ) -> Self {
        // An object of no bytes is one, too.
        if inner.is_end_stream() && matches!(counter, Counter::One) {
            counter = Counter::Nothing;
            meter.settle(Count { rows: 1, bytes: 0 }, asker.plane.gate.uptime());
        }
        let (front, pause) = (Bytes::new(), None);
        Self { inner, front, meter, counter, asker, outcome, pause, has_asked: false, is_over: false }
    }

    /// What of the front may pass now.
    fn pass(&mut self) -> Option<Bytes> {
        let now = self.asker.plane.gate.uptime();
        let mut ahead = self.counter;
        let (_, rows) = ahead.pass(&self.front, u64::MAX);
        if ahead.is_lost() && !self.has_asked {
            self.has_asked = true;
            let limits = self.meter.crossed_by(Count { rows: COUNTLESS, bytes: 0 }, now);
            if !limits.is_empty() {
                self.ask(limits.to_vec());
                return None;
            }
        }
        let granted = self.meter.reserve(Count { rows, bytes: self.front.len() as u64 }, now);
        let most = usize::try_from(granted.bytes).unwrap_or(usize::MAX).min(self.front.len());
        let piece = self.front.get(..most).unwrap_or_default();
        let (bytes, rows) = self.counter.pass(piece, granted.rows);
        self.meter.settle(Count { rows, bytes: bytes as u64 }, now);
        if bytes > 0 {
            return Some(self.front.split_to(bytes));
        }
        let (_, rows) = { self.counter }.pass(self.front.get(..1).unwrap_or_default(), u64::MAX);
        let limits = self.meter.crossed_by(Count { rows, bytes: 1 }, now);
        // None: another answer of the agent gave back what it had reserved.
        if !limits.is_empty() {
            self.ask(limits.to_vec());
        }
        None
    }

    fn ask(&mut self, limits: Vec<Arc<Limit>>) {
        let rules = limits.iter().map(|limit| limit.rule.clone()).collect();
        let asker = Arc::clone(&self.asker);
        let deciding = Box::pin(asker.go_on(limits, self.meter.passed(), self.outcome.clone()));
        self.pause = Some(Pause { deciding, rules });
    }
}

impl Body for Metered {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        loop {
            if this.is_over {
                return Poll::Ready(None);
            }
            if let Some(pause) = &mut this.pause {
                let decided = ready!(pause.deciding.as_mut().poll(cx));
                let rules = this.pause.take().map(|pause| pause.rules).unwrap_or_default();
                if let Err(Stopped(ended)) = decided {
                    let (action, passed) = (this.asker.action_id.as_str(), this.meter.passed());
                    tracing::info!(action, %passed, why = ended.message, "the rest of an answer is withheld");
                    this.is_over = true;
                    this.front = Bytes::new();
                    // Its connection closes with it.
                    this.inner = Outgoing::Empty;
                    return Poll::Ready(Some(Err(BodyError::Withheld)));
                }
                this.meter.lift(&rules, this.asker.plane.gate.uptime());
            }
            if this.front.is_empty() {
                match ready!(Pin::new(&mut this.inner).poll_frame(cx)).map(|frame| frame.map(Frame::into_data)) {
                    Some(Ok(Ok(data))) => this.front = data,
                    Some(Ok(Err(trailers))) => return Poll::Ready(Some(Ok(trailers))),
                    Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                    None => return Poll::Ready(None),
                }
                continue;
            }
            if let Some(piece) = this.pass() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || (self.front.is_empty() && self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match self.inner.size_hint().exact() {
            Some(rest) => SizeHint::with_exact(rest + self.front.len() as u64),
            None => SizeHint::default(),
        }
    }
}
