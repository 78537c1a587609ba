//! A deadline that costs nothing while bytes flow.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Measures silence. The timer is set when something first has to wait and is left to run when
/// bytes come: an early alarm only looks at the clock and sets it anew.
#[derive(Debug, Default)]
pub(super) struct Stall {
    until: Option<Instant>,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    /// Something came: the silence starts over.
    pub(super) fn ended(&mut self) {
        self.until = None;
    }

    /// Ready when the silence has lasted for `limit`.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, limit: Duration) -> Poll<()> {
        let until = *self.until.get_or_insert_with(|| Instant::now() + limit);
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(until)));
        loop {
            if until < alarm.deadline() || (alarm.is_elapsed() && alarm.deadline() < until) {
                alarm.as_mut().reset(until);
            }
            ready!(alarm.as_mut().poll(cx));
            if until <= alarm.deadline() {
                return Poll::Ready(());
            }
        }
    }
}
