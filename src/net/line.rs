//! What a plane may do to the connection of the request it is answering.

/// One request's hold on its connection. While the plane's future runs, the client may be told to
/// keep waiting; when the client leaves, that future is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Line {}

/// An interim response (RFC 9110 section 15.2), written in the exact bytes that picky clients want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interim {
    /// `HTTP/1.1 100 Continue`
    Continue,
    /// `HTTP/1.1 102 Processing`
    Processing,
}

impl Line {
    /// Writes an interim response. Returns false, and writes nothing, when it would be wrong:
    /// the answer has begun, the client has left, or it speaks HTTP/1.0.
    pub(crate) fn interim(&self, _interim: Interim) -> bool {
        unreachable!("being built")
    }

    /// The answer will carry `Connection: close`, and the connection closes after it.
    pub(crate) fn close_after(&self) {
        unreachable!("being built")
    }

    /// True once the client has closed or reset its connection (a half-close counts). The future
    /// that answers the request is dropped then; this is for what outlives it.
    pub(crate) fn is_gone(&self) -> bool {
        unreachable!("being built")
    }
}
