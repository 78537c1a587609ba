//! Answers to the agent: the upstream's own, with what countersign has to add.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

use crate::gate::Reply;
use crate::id::{ActionId, HoldId};
use crate::net::body::{AnswerBody, BodyError, Outgoing};
use crate::net::upstream::UpstreamBody;

/// Sets the fields by which an agent finds its request in the log. An upstream cannot speak in our name.
pub(super) fn mark(headers: &mut HeaderMap, action: &ActionId, hold: Option<&HoldId>, difference: Option<&str>) {
    if headers.keys().any(|name| name.as_str().starts_with("x-countersign-")) {
        for name in [ACTION, HOLD, MODIFIED, ENDING, MESSAGE] {
            headers.remove(name);
        }
    }
    let fields = [(ACTION, Some(action.as_str())), (HOLD, hold.map(HoldId::as_str)), (MODIFIED, difference)];
    for (name, text) in fields {
        if let Some(value) = text.and_then(|text| HeaderValue::from_str(text).ok()) {
            headers.insert(name, value);
        }
    }
}

const ACTION: HeaderName = HeaderName::from_static("x-countersign-action");
const HOLD: HeaderName = HeaderName::from_static("x-countersign-hold");
const MODIFIED: HeaderName = HeaderName::from_static("x-countersign-modified");
const ENDING: HeaderName = HeaderName::from_static("x-countersign-ending");
const MESSAGE: HeaderName = HeaderName::from_static("x-countersign-message");

/// The request id the upstream gave.
pub(super) fn request_id(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(X_AMZN_REQUESTID).or_else(|| headers.get(X_AMZ_REQUEST_ID))?;
    // Visible ASCII, so any place is between two characters.
    let text = value.to_str().ok()?;
    Some(text.get(..128).unwrap_or(text).to_owned())
}

const X_AMZN_REQUESTID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const X_AMZ_REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");

/// An answer's body, read as far as it is kept.
#[derive(Debug)]
pub(super) enum Gathered {
    /// All of it.
    Whole(Bytes),
    /// More than is kept: what was read, and the rest.
    Large(Large),
}

/// Reads an answer's body to its end or to `limit_bytes`.
///
/// # Errors
/// When it breaks off.
pub(super) async fn gather(mut body: UpstreamBody, limit_bytes: usize) -> Result<Gathered, BodyError> {
    let announced = body.size_hint().exact();
    if announced.is_some_and(|bytes| bytes > limit_bytes as u64) {
        return Ok(Gathered::Large(Large { first: Bytes::new(), rest: body }));
    }
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            read.extend_from_slice(&data);
        }
        if read.len() > limit_bytes {
            return Ok(Gathered::Large(Large { first: read.freeze(), rest: body }));
        }
    }
    Ok(Gathered::Whole(read.freeze()))
}

/// The bytes already read, then the rest as it comes.
#[derive(Debug)]
pub(super) struct Large {
    first: Bytes,
    rest: UpstreamBody,
}

impl Body for Large {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if !this.first.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut this.first)))));
        }
        Poll::Ready(ready!(Pin::new(&mut this.rest).poll_frame(cx)))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.rest.size_hint().exact() {
            Some(rest) => SizeHint::with_exact(rest + self.first.len() as u64),
            None => SizeHint::default(),
        }
    }
}

/// An answer as it is kept for a retry.
pub(super) fn kept(status: StatusCode, headers: &HeaderMap, body: Bytes) -> Reply {
    let text = |(name, value): (&HeaderName, &HeaderValue)| {
        value.to_str().ok().map(|value| (name.as_str().to_owned(), value.to_owned()))
    };
    Reply { status: status.as_u16(), headers: headers.iter().filter_map(text).collect(), body }
}

/// A kept answer as it is given again. The fields that lead to the log are those of its first giving.
pub(super) fn again(reply: &Arc<Reply>, is_head: bool) -> Response<AnswerBody> {
    let mut response = Response::new(Outgoing::whole(reply.body.clone()));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::BAD_GATEWAY);
    for (name, value) in &reply.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            // The size of a HEAD's answer is that of a body which is not there.
            if name != CONTENT_LENGTH || is_head {
                response.headers_mut().append(name, value);
            }
        }
    }
    response
}

/// The fault of a body hidden in the error of an exchange, when there is one.
pub(super) fn body_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e BodyError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(body) = error.downcast_ref::<BodyError>() {
            return Some(body);
        }
        next = error.source();
    }
    None
}
