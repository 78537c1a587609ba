//! What a plane may do to the connection of the request it is answering, and the few words that a
//! connection's parts (guard, hyper, plane) leave each other. All of them but the plane run in one task.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;

/// One request's hold on its connection. While the plane's future runs, the client may be told to
/// keep waiting; when the client leaves, that future is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    shared: Arc<Shared>,
    request: u64,
}

/// An interim response (RFC 9110 section 15.2), written in the exact bytes that picky clients want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interim {
    /// `HTTP/1.1 100 Continue`
    Continue,
    /// `HTTP/1.1 102 Processing`
    Processing,
}

impl Line {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), request: shared.request() }
    }

    /// Has an interim response written. Returns false, and writes nothing, when it would be wrong:
    /// the answer has begun, the client has left, or it speaks HTTP/1.0. One that was asked for and
    /// is not yet written is replaced.
    pub(crate) fn interim(&self, interim: Interim) -> bool {
        let fits = !self.is_gone()
            && self.shared.is_http11.load(Ordering::Acquire)
            && self.shared.progress.load(Ordering::Acquire) == packed(self.request, Stage::Answering as u64);
        if fits {
            self.shared.interim.store(packed(self.request, interim as u64), Ordering::Release);
            self.shared.wake();
        }
        fits
    }

    /// The answer will carry `Connection: close`, and the connection closes after it.
    pub(crate) fn close_after(&self) {
        self.shared.close_after.fetch_max(self.request, Ordering::AcqRel);
    }

    /// True once the client has closed or reset its connection (a half-close counts). The future
    /// that answers the request is dropped then; this is for what outlives it.
    pub(crate) fn is_gone(&self) -> bool {
        self.shared.is_broken()
    }
}

/// How far the answer to the current request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The plane has the request.
    Answering,
    /// The head of the answer may be on the wire.
    Sending,
    /// The whole answer is with hyper, and on the wire at its next flush.
    Answered,
}

/// The state that one connection's parts share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Number of the current request (from 1) and its [`Stage`].
    progress: AtomicU64,
    /// Number of the request an interim response was asked for, and which one.
    interim: AtomicU64,
    /// The last request that asked for its connection to be closed.
    close_after: AtomicU64,
    is_http11: AtomicBool,
    /// The current request's body was not yet read to its end.
    is_unread: AtomicBool,
    /// Nothing more will come from this client, or nothing of it is wanted.
    is_broken: AtomicBool,
    /// An answer's body failed after its head was sent.
    is_cut: AtomicBool,
    task: OnceLock<Waker>,
}

impl Shared {
    /// A new request's head was read.
    pub(super) fn begin(&self, is_http11: bool, has_body: bool) {
        self.is_http11.store(is_http11, Ordering::Release);
        self.is_unread.store(has_body, Ordering::Release);
        self.progress.store(packed(self.request() + 1, Stage::Answering as u64), Ordering::Release);
    }

    /// Number of the current request; 0 before the first.
    pub(super) fn request(&self) -> u64 {
        self.progress.load(Ordering::Acquire) / 4
    }

    pub(super) fn is_at(&self, stage: Stage) -> bool {
        self.progress.load(Ordering::Acquire) % 4 == stage as u64
    }

    pub(super) fn reach(&self, stage: Stage) {
        self.progress.store(packed(self.request(), stage as u64), Ordering::Release);
    }

    /// The bytes of an interim response that was asked for in time, once.
    pub(super) fn take_interim(&self) -> Option<&'static [u8]> {
        // No request has the number 0; the load spares the usual flush the dearer swap.
        if self.interim.load(Ordering::Acquire) == 0 {
            return None;
        }
        let wanted = self.interim.swap(0, Ordering::AcqRel);
        // Asked again here, in the task that also starts answers: an interim response within an answer would corrupt it.
        if wanted / 4 != self.request() || !self.is_at(Stage::Answering) {
            return None;
        }
        Some(if wanted % 4 == Interim::Continue as u64 { CONTINUE } else { PROCESSING })
    }

    pub(super) fn body_was_read(&self, request: u64) {
        if request == self.request() {
            self.is_unread.store(false, Ordering::Release);
        }
    }

    /// Whether the answer to the current request must be the last: it was asked for, or the rest of
    /// the request's body would be taken for the next request.
    pub(super) fn must_close(&self) -> bool {
        self.is_unread.load(Ordering::Acquire) || self.close_after.load(Ordering::Acquire) == self.request()
    }

    pub(super) fn break_off(&self) {
        self.is_broken.store(true, Ordering::Release);
    }

    pub(super) fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Acquire)
    }

    pub(super) fn cut(&self) {
        self.is_cut.store(true, Ordering::Release);
    }

    pub(super) fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Acquire)
    }

    /// The task of the connection, which stays the same for its life.
    pub(super) fn runs_in(&self, task: &Waker) {
        self.task.get_or_init(|| task.clone());
    }

    fn wake(&self) {
        if let Some(task) = self.task.get() {
            task.wake_by_ref();
        }
    }
}

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
const PROCESSING: &[u8] = b"HTTP/1.1 102 Processing\r\n\r\n";

/// A request's number and a code below 4 in one word.
fn packed(request: u64, code: u64) -> u64 {
    request * 4 + code
}
