//! Errors in AWS's own shapes: one table from what went wrong to status and code, one renderer per
//! shape that the SDKs parse.
//!
//! Invariants: a retryable status (429, 5xx) is given only where a retry can help, since SDKs spend
//! their whole budget on one in seconds; what ran, or may have run, never gets one. Message text is
//! printable ASCII and bounded, so that no upstream, agent or approver can write into a client's
//! terminal or break the document.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use quick_xml::escape::escape;

use crate::classify::aws::Dialect;
use crate::gate::Ended;
use crate::hold::Ending;
use crate::id::{ActionId, HoldId};
use crate::wire::head::Head;
use crate::wire::sigv4::{Family, SigError};

/// The shape of an error document, finer than the protocol: S3 writes its XML without an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Ec2,
    Json,
    Query,
    RestJson,
    RestXml,
    S3,
}

impl Shape {
    /// The shape of a request that has been named.
    pub(super) fn of(dialect: Dialect, signing_name: &str, head: &Head) -> Self {
        match dialect {
            Dialect::Ec2 => Self::Ec2,
            Dialect::Json => Self::Json,
            Dialect::Query => Self::Query,
            Dialect::RestJson => Self::RestJson,
            Dialect::RestXml if signing_name.starts_with("s3") && !head.path.starts_with(S3_CONTROL) => Self::S3,
            Dialect::RestXml => Self::RestXml,
        }
    }

    /// The most likely shape for a request that could not be named: what its fields say about the
    /// client's parser. A wrong guess costs the client the code of an error, nothing else.
    pub(super) fn guess(headers: &HeaderMap, path: &str, query: &str) -> Self {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let content_type = text(CONTENT_TYPE);
        let service = scope_service(text(AUTHORIZATION), query);
        if headers.contains_key(X_AMZ_TARGET) || content_type.starts_with("application/x-amz-json") {
            return Self::Json;
        }
        let is_form = content_type.starts_with("application/x-www-form-urlencoded");
        match service {
            "ec2" => Self::Ec2,
            // Whatever scope it was signed for: S3 takes no forms at its root.
            _ if (is_form && path == "/") || query.contains("Action=") => Self::Query,
            "s3" | "s3express" | "s3-object-lambda" | "s3-outposts" if !path.starts_with(S3_CONTROL) => Self::S3,
            "s3" | "s3express" | "cloudfront" | "route53" => Self::RestXml,
            "" if content_type.is_empty() => Self::RestXml,
            _ => Self::RestJson,
        }
    }
}

/// Why a request got no answer of the upstream.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    cause: Cause,
    message: String,
    hold: Option<HoldId>,
    is_recorded: bool,
}

/// What went wrong, apart from its wording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The upstream could not be reached, or broke off; the request had no record to wait for.
    BadGateway,
    /// The body did not arrive in time or broke off.
    BodyTimeout,
    /// The gate ended it.
    Ended(Ending),
    /// The upstream did not answer in time.
    GatewayTimeout,
    /// A fault of our own, or of the real credential.
    Internal,
    /// The request has no single reading.
    Malformed,
    /// Refused by the verifier.
    Signature(SigError),
    /// The body is larger than this plane takes.
    TooLarge,
}

impl From<Ended> for Fault {
    fn from(ended: Ended) -> Self {
        Self { cause: Cause::Ended(ended.ending), message: ended.message, hold: ended.hold, is_recorded: false }
    }
}

impl From<SigError> for Fault {
    fn from(error: SigError) -> Self {
        let message = format!("{error}.");
        Self::new(Cause::Signature(error), message)
    }
}

impl Fault {
    pub(super) fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self { cause, message: message.into(), hold: None, is_recorded: false }
    }

    #[must_use]
    pub(super) fn with_hold(mut self, hold: Option<HoldId>) -> Self {
        self.hold = hold;
        self
    }

    /// It stands in the log already.
    #[must_use]
    pub(super) fn recorded(mut self) -> Self {
        self.is_recorded = true;
        self
    }

    /// Whether its refusal is still to be recorded.
    pub(super) fn is_unrecorded_refusal(&self) -> bool {
        self.is_refusal() && !self.is_recorded
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn code(&self, shape: Shape) -> &'static str {
        self.cause.verdict(shape).class.code(shape)
    }

    /// True when the request was refused before it was judged: it is recorded as such, and its
    /// connection closes, since framing may be lost or unread bytes may follow.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self.cause, Cause::BodyTimeout | Cause::Malformed | Cause::Signature(_) | Cause::TooLarge)
    }

    /// The answer as the client's SDK parses it. `action` doubles as AWS's request id, so that an
    /// agent's own log leads to ours. An answer to HEAD has no body; its fields say it all.
    pub(super) fn render(&self, shape: Shape, action: &ActionId, is_head: bool) -> Response<Bytes> {
        let verdict = self.cause.verdict(shape);
        let code = verdict.class.code(shape);
        let status = verdict.class.status(shape);
        let message = self.text();
        let body = if is_head { String::new() } else { document(shape, status, code, &message, action.as_str()) };
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let mut put = |name: &'static str, text: &str| {
            if let Ok(value) = HeaderValue::from_str(text) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        put(if shape == Shape::S3 { "x-amz-request-id" } else { "x-amzn-requestid" }, action.as_str());
        put("x-countersign-action", action.as_str());
        put("x-countersign-ending", verdict.name);
        if let Some(hold) = &self.hold {
            put("x-countersign-hold", hold.as_str());
        }
        if matches!(shape, Shape::Json | Shape::RestJson) {
            put("x-amzn-errortype", code);
        }
        if is_head {
            put("x-countersign-message", &message);
        }
        if let Some(after) = verdict.retry_after {
            put("retry-after", &after.as_secs().to_string());
            // Milliseconds; boto3's standard mode, JS and Rust wait this long before the next attempt.
            put("x-amz-retry-after", &after.as_millis().to_string());
        }
        if !is_head {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(shape.content_type()));
        }
        response
    }

    /// The message with the hold's id in it, printable and bounded.
    fn text(&self) -> String {
        let mut text = self.message.clone();
        if let Some(hold) = &self.hold
            && !text.contains(hold.as_str())
        {
            text.push_str(&format!(" (hold {hold})"));
        }
        let printable = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
        text.chars().take(MESSAGE_LIMIT_CHARS).map(printable).collect()
    }
}

/// A row of the table.
struct Verdict {
    /// The end's own name, in `x-countersign-ending`.
    name: &'static str,
    class: Class,
    /// Set exactly where a retry can help.
    retry_after: Option<Duration>,
}

/// What the client's SDK is to make of it.
#[derive(Clone, Copy)]
enum Class {
    AnswerLost,
    BadGateway,
    BodyTimeout,
    Denied,
    GatewayTimeout,
    Internal,
    Malformed,
    OutcomeUnknown,
    Other(u16, &'static str),
    Throttled,
    TooLarge,
    Unavailable,
}

impl Cause {
    fn verdict(&self, shape: Shape) -> Verdict {
        let last = |name, class| Verdict { name, class, retry_after: None };
        let again = |name, class, seconds| Verdict { name, class, retry_after: Some(Duration::from_secs(seconds)) };
        match self {
            Self::BadGateway => again("failed-upstream", Class::BadGateway, 1),
            Self::BodyTimeout => last("body-timeout", Class::BodyTimeout),
            Self::GatewayTimeout => again("upstream-timeout", Class::GatewayTimeout, 1),
            Self::Internal => again("internal", Class::Internal, 5),
            Self::Malformed => last("malformed", Class::Malformed),
            Self::Signature(error) => {
                let family = shape.family();
                last("not-authenticated", Class::Other(error.status(family), error.code(family)))
            }
            Self::TooLarge => last("too-large", Class::TooLarge),
            Self::Ended(ending) => match *ending {
                Ending::AnswerLost => last("answer-lost", Class::AnswerLost),
                Ending::Cancelled => last("cancelled", Class::Denied),
                Ending::Denied => last("denied", Class::Denied),
                Ending::Expired => last("expired", Class::Denied),
                Ending::FailedUpstream => again("failed-upstream", Class::BadGateway, 1),
                // The log stays failed until an operator restarts the process: a retry cannot help.
                Ending::LogUnavailable => last("log-unavailable", Class::Denied),
                Ending::NoApprover => last("no-approver", Class::Denied),
                Ending::OutcomeUnknown => last("outcome-unknown", Class::OutcomeUnknown),
                Ending::Overloaded => again("overloaded", Class::Throttled, 5),
                // Two equal calls in one second have one signature. A retry is signed anew and is told apart.
                Ending::Replayed => again("replayed", Class::Unavailable, 1),
                Ending::Restarted => again("restarted", Class::Unavailable, 5),
                Ending::RuleDenied => last("rule-denied", Class::Denied),
                Ending::Superseded => again("superseded", Class::Unavailable, 1),
                // These come of sessions, which this plane has none of.
                Ending::TransactionLimit => last("transaction-limit", Class::Denied),
                Ending::Unfit => last("unfit", Class::Denied),
                Ending::UpstreamLeft => again("upstream-left", Class::BadGateway, 1),
                Ending::UpstreamLimit => last("upstream-limit", Class::Denied),
                Ending::Withdrawn => last("withdrawn", Class::Denied),
            },
        }
    }
}

impl Class {
    fn status(self, shape: Shape) -> StatusCode {
        let status = match self {
            Self::BodyTimeout | Self::Malformed => 400,
            Self::Denied => 403,
            // Not a status that any SDK retries, and no claim that it was refused.
            Self::AnswerLost | Self::OutcomeUnknown => 409,
            Self::TooLarge => 413,
            // S3 and EC2 throttle with 503, the others with 429 (or 400, which only their own SDKs understand).
            Self::Throttled if matches!(shape, Shape::Ec2 | Shape::S3) => 503,
            Self::Throttled => 429,
            Self::Internal => 500,
            Self::BadGateway => 502,
            Self::Unavailable => 503,
            Self::GatewayTimeout => 504,
            Self::Other(status, _) => status,
        };
        StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN)
    }

    fn code(self, shape: Shape) -> &'static str {
        let is_json = matches!(shape, Shape::Json | Shape::RestJson);
        match self {
            Self::AnswerLost => "AnswerLost",
            Self::BadGateway => "BadGateway",
            // S3's RequestTimeout is a retryable code to the SDKs: the body can be sent again.
            Self::BodyTimeout => "RequestTimeout",
            Self::Denied if shape == Shape::Ec2 => "UnauthorizedOperation",
            Self::Denied if is_json => "AccessDeniedException",
            Self::Denied => "AccessDenied",
            Self::GatewayTimeout => "GatewayTimeout",
            Self::Internal if shape == Shape::S3 => "InternalError",
            Self::Internal => "InternalFailure",
            Self::Malformed if is_json => "ValidationException",
            Self::Malformed if shape == Shape::Query => "ValidationError",
            Self::Malformed => "InvalidRequest",
            Self::OutcomeUnknown => "OutcomeUnknown",
            Self::Other(_, code) => code,
            Self::Throttled if shape == Shape::S3 => "SlowDown",
            Self::Throttled if shape == Shape::Ec2 => "RequestLimitExceeded",
            Self::Throttled if is_json => "ThrottlingException",
            Self::Throttled => "Throttling",
            Self::TooLarge if shape == Shape::S3 => "EntityTooLarge",
            Self::TooLarge => "RequestEntityTooLarge",
            Self::Unavailable if shape == Shape::Ec2 => "Unavailable",
            Self::Unavailable if is_json => "ServiceUnavailableException",
            Self::Unavailable => "ServiceUnavailable",
        }
    }
}

impl Shape {
    const fn family(self) -> Family {
        match self {
            Self::Ec2 => Family::Ec2,
            Self::Json | Self::RestJson => Family::Json,
            Self::Query | Self::RestXml => Family::Query,
            Self::S3 => Family::S3,
        }
    }

    const fn content_type(self) -> &'static str {
        match self {
            Self::Ec2 | Self::Query | Self::RestXml => "text/xml",
            Self::Json => "application/x-amz-json-1.1",
            Self::RestJson => "application/json",
            Self::S3 => "application/xml",
        }
    }
}

fn document(shape: Shape, status: StatusCode, code: &str, message: &str, request_id: &str) -> String {
    let xml_message = escape(message);
    match shape {
        Shape::Ec2 => format!(
            "{XML}<Response><Errors><Error><Code>{code}</Code><Message>{xml_message}</Message></Error></Errors>\
             <RequestID>{request_id}</RequestID></Response>"
        ),
        Shape::Query | Shape::RestXml => {
            let at_fault = if status.is_server_error() { "Receiver" } else { "Sender" };
            format!(
                "{XML}<ErrorResponse><Error><Type>{at_fault}</Type><Code>{code}</Code>\
                 <Message>{xml_message}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
            )
        }
        Shape::S3 => format!(
            "{XML}<Error><Code>{code}</Code><Message>{xml_message}</Message>\
             <RequestId>{request_id}</RequestId></Error>"
        ),
        Shape::Json => serde_json::json!({"__type": code, "message": message}).to_string(),
        Shape::RestJson => serde_json::json!({"code": code, "message": message}).to_string(),
    }
}

/// The service of the credential scope, as the request claims it: `…/iam/aws4_request`.
fn scope_service<'a>(authorization: &'a str, query: &'a str) -> &'a str {
    let end = ["/aws4_request", "%2Faws4_request"];
    let scope = [authorization, query].into_iter().find_map(|text| end.iter().find_map(|it| text.split_once(it)));
    let Some((scope, _)) = scope else { return "" };
    let service = scope.rsplit('/').next().unwrap_or_default();
    service.rsplit("%2F").next().unwrap_or_default()
}

const X_AMZ_TARGET: HeaderName = HeaderName::from_static("x-amz-target");
const XML: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
/// Every S3 Control operation's path starts so; S3 Control wraps its errors as other services do.
const S3_CONTROL: &str = "/v20180820/";
/// Longest message given to a client, in characters.
const MESSAGE_LIMIT_CHARS: usize = 1000;

#[cfg(test)]
mod tests;
