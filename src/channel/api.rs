//! The REST API by which people list and decide holds: routes, authentication, status codes.
//!
//! It owns the JSON that people and scripts see, never a decision: a verdict goes to
//! [`Gate::decide`] with the person the token stands for, and what the gate answers is told as a
//! status. Every route but the document of the API itself needs an approver token, a token of the OpenID
//! provider, or the session of a browser, which acts from our own page alone; there is no CORS, so no
//! other page can speak for a person. Requests are read strictly (an unknown key or query field is
//! refused) and within [`BODY_LIMIT_BYTES`].
//!
//! `docs/openapi.json` describes it and is served as it stands; a test holds routes and document together.

mod auth;
mod payload;
mod repeats;
mod watch;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::watch as channel;

use auth::{Caller, Recognition, Stranger};
pub(crate) use payload::hold as form;
use repeats::{Begun, Repeats};

use crate::credential::approver::ApproverTokens;
use crate::digest::Digest;
use crate::gate::{Approver, DecideError, Gate, HoldView, Verdict};
use crate::hold::Word;
use crate::id::HoldId;
use crate::net::body::AnswerBody;
use crate::net::listen::Arrived;
use crate::signin::SignIn;
use crate::time::{Clock, Timestamp};

/// The API over one gate; shared by all connections.
pub(crate) struct Api {
    gate: Arc<Gate>,
    recognition: Recognition,
    clock: Clock,
    /// Draws the text card of a hold.
    card: fn(&HoldView, Timestamp) -> String,
    failures: auth::Failures,
    repeats: Repeats,
    /// Tells the numbers of this process's events from those of one before it.
    started: Timestamp,
    /// Ends the streams of `watch`.
    shutdown: channel::Receiver<bool>,
}

impl Api {
    pub(crate) fn new(
        gate: Arc<Gate>,
        tokens: Arc<ApproverTokens>,
        sign_in: Option<Arc<SignIn>>,
        clock: Clock,
        card: fn(&HoldView, Timestamp) -> String,
        shutdown: channel::Receiver<bool>,
    ) -> Self {
        let recognition = Recognition { gate: Arc::clone(&gate), tokens, sign_in, clock: clock.clone() };
        let started = clock.now();
        Self {
            gate,
            recognition,
            clock,
            card,
            started,
            failures: auth::Failures::default(),
            repeats: Repeats::default(),
            shutdown,
        }
    }

    /// Answers one request. Never fails: what is wrong becomes a JSON error.
    pub(crate) async fn respond(&self, arrived: Arrived) -> Response<AnswerBody> {
        let mut response = self.answer(arrived).await.unwrap_or_else(Refusal::into_response);
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    async fn answer(&self, arrived: Arrived) -> Result<Response<AnswerBody>, Refusal> {
        let route = Route::find(&arrived.method, arrived.uri.path())?;
        if arrived.uri.query().is_some_and(|query| !query.is_empty()) {
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "unknown_query", "no route takes query fields"));
        }
        if matches!(route, Route::Document) {
            return Ok(json_response(StatusCode::OK, Bytes::from_static(DOCUMENT.as_bytes())));
        }
        let caller = self.authenticate(&arrived).await?;
        match route {
            Route::Document => Err(Refusal::not_found()),
            Route::List => {
                let holds: Vec<Value> = self.gate.holds().iter().map(payload::hold).collect();
                Ok(value_response(StatusCode::OK, &json!({ "holds": holds })))
            }
            Route::Show(id) => {
                let hold = self.gate.hold(&id).ok_or_else(Refusal::not_found)?;
                Ok(self.hold_response(&hold))
            }
            Route::Watch | Route::Events => Ok(self.follow(caller, None, &arrived)),
            Route::EventsOf(id) => {
                self.gate.hold(&id).ok_or_else(Refusal::not_found)?;
                Ok(self.follow(caller, Some(id), &arrived))
            }
            Route::Preview(id) => {
                self.recognition.check_decisive(&caller)?;
                let body: PreviewBody = read_json(arrived).await?;
                let digest = body.digest.as_deref().map(read_digest).transpose()?;
                let preview = self.gate.preview(&id, digest, &caller.approver, body.parameters)?;
                Ok(value_response(StatusCode::OK, &payload::preview(&preview)))
            }
            Route::Verdict(id) => {
                self.recognition.check_decisive(&caller)?;
                let key = repeats::key(&arrived.headers)?;
                let bytes = read_body(arrived).await?;
                let body: VerdictBody = parse(&bytes)?;
                let person = &caller.approver.person;
                match self.repeats.begin(person, key, &id, &bytes, self.clock.now())? {
                    Begun::Known(answer) => Ok(json_response(StatusCode::OK, answer)),
                    Begun::New(turn) => {
                        let hold = self.decide(&id, &caller.approver, body).await?;
                        let answer = self.hold_text(&hold);
                        turn.done(answer.clone(), self.clock.now());
                        Ok(json_response(StatusCode::OK, answer))
                    }
                }
            }
            Route::Cancel(id) => {
                self.recognition.check_decisive(&caller)?;
                let body: CancelBody = read_json(arrived).await?;
                self.check_digest(&id, body.digest.as_deref())?;
                check_reason(&body.reason)?;
                // In a task of its own: a client that hangs up must not cut it in two.
                let gate = Arc::clone(&self.gate);
                let cancelling = tokio::spawn(async move { gate.cancel(&id, &caller.approver, &body.reason).await });
                let hold = cancelling.await.unwrap_or(Err(DecideError::LogUnavailable))?;
                Ok(self.hold_response(&hold))
            }
        }
    }

    async fn decide(&self, id: &HoldId, approver: &Approver, body: VerdictBody) -> Result<HoldView, Refusal> {
        check_reason(&body.reason)?;
        let digest = body.digest.as_deref().map(read_digest).transpose()?;
        let (word, verdict) = match (body.verdict.as_str(), body.parameters) {
            ("allow", None) => (Word::Allow, Verdict::Allow),
            ("deny", None) => (Word::Deny, Verdict::Deny),
            ("modify", Some(parameters)) => (Word::Modify, Verdict::Modify(parameters)),
            ("modify", None) => return Err(Refusal::invalid("`modify` needs `parameters`")),
            ("allow" | "deny", Some(_)) => return Err(Refusal::invalid("`parameters` belong to `modify` alone")),
            _ => return Err(Refusal::invalid("`verdict` must be `allow`, `deny` or `modify`")),
        };
        match self.gate.decide(id, digest, approver, verdict, &body.reason).await {
            Ok(hold) => Ok(hold),
            // A verdict sent twice (a client that lost the answer) is answered as the first one was.
            // A modification is not: whether its parameters are those of before cannot be told here.
            Err(error @ (DecideError::Duplicate | DecideError::NotOpen(_))) if word != Word::Modify => {
                self.gate.hold(id).filter(|hold| is_repeat(hold, approver, word, digest)).ok_or_else(|| error.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A stream of events, from where the client's last one ended.
    fn follow(&self, caller: Caller, only: Option<HoldId>, arrived: &Arrived) -> Response<AnswerBody> {
        let last = arrived.headers.get("last-event-id").and_then(|value| value.to_str().ok());
        let (recognition, shutdown) = (self.recognition.clone(), self.shutdown.clone());
        let since = last.map_or(0, |last| watch::resume(last, self.started));
        watch::response(watch::Watcher { recognition, caller, only, since, started: self.started, shutdown })
    }

    fn check_digest(&self, id: &HoldId, digest: Option<&str>) -> Result<(), Refusal> {
        let Some(digest) = digest.map(read_digest).transpose()? else { return Ok(()) };
        match self.gate.hold(id) {
            Some(hold) if hold.digest != digest => Err(DecideError::DigestChanged.into()),
            _ => Ok(()),
        }
    }

    async fn authenticate(&self, arrived: &Arrived) -> Result<Caller, Refusal> {
        let why = match self.recognition.recognize(&arrived.method, &arrived.headers).await {
            Ok(caller) => return Ok(caller),
            Err(Stranger::Refused(refusal)) => return Err(refusal),
            Err(Stranger::Unproven(why)) => why,
        };
        if self.failures.count(arrived.peer, self.clock.now()) {
            return Err(Refusal::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_failures",
                "too many requests without a valid token; wait a minute",
            ));
        }
        Err(match why {
            Some(why) => Refusal::new(StatusCode::UNAUTHORIZED, "invalid_token", &why.to_string()),
            None => Refusal::new(
                StatusCode::UNAUTHORIZED,
                "unauthenticated",
                "send `authorization: Bearer TOKEN` with a valid approver token (`countersign approver add` makes one)",
            ),
        })
    }

    fn hold_response(&self, hold: &HoldView) -> Response<AnswerBody> {
        json_response(StatusCode::OK, self.hold_text(hold))
    }

    /// One hold with its card.
    fn hold_text(&self, hold: &HoldView) -> Bytes {
        let mut value = payload::hold(hold);
        if let Value::Object(members) = &mut value {
            members.insert("card".to_owned(), Value::String((self.card)(hold, self.clock.now())));
        }
        value.to_string().into()
    }
}

fn is_repeat(hold: &HoldView, approver: &Approver, word: Word, digest: Option<Digest>) -> bool {
    digest.is_none_or(|digest| digest == hold.digest)
        && hold.votes.iter().any(|vote| vote.person == approver.person && vote.word == word && !vote.void)
}

/// What a method and a path mean.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Route {
    Cancel(HoldId),
    Document,
    Events,
    EventsOf(HoldId),
    List,
    Preview(HoldId),
    Show(HoldId),
    Verdict(HoldId),
    Watch,
}

impl Route {
    fn find(method: &Method, path: &str) -> Result<Self, Refusal> {
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        let (route, served) = match segments.as_slice() {
            ["openapi.json"] => (Self::Document, Method::GET),
            ["v1", "holds"] => (Self::List, Method::GET),
            ["v1", "holds", "watch"] => (Self::Watch, Method::GET),
            ["v1", "holds", "events"] => (Self::Events, Method::GET),
            ["v1", "holds", id, "events"] => (Self::EventsOf(read_id(id)?), Method::GET),
            ["v1", "holds", id, "preview"] => (Self::Preview(read_id(id)?), Method::POST),
            ["v1", "holds", id] => (Self::Show(read_id(id)?), Method::GET),
            ["v1", "holds", id, "verdict"] => (Self::Verdict(read_id(id)?), Method::POST),
            ["v1", "holds", id, "cancel"] => (Self::Cancel(read_id(id)?), Method::POST),
            _ => return Err(Refusal::not_found()),
        };
        if *method == served {
            Ok(route)
        } else {
            Err(Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                &format!("this path is served for {served} only"),
            ))
        }
    }
}

/// Hold ids have one form, so that nothing else can reach a log line through a path.
fn read_id(text: &str) -> Result<HoldId, Refusal> {
    let is_id = text.len() <= 64
        && text
            .strip_prefix("h_")
            .is_some_and(|ulid| !ulid.is_empty() && ulid.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
    if is_id { Ok(HoldId::new(text)) } else { Err(Refusal::not_found()) }
}

/// A verdict without a reason is worth nothing to an auditor.
fn check_reason(reason: &str) -> Result<(), Refusal> {
    if reason.trim().is_empty() {
        return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "reason_missing", "a reason is required"));
    }
    if reason.chars().count() > REASON_LIMIT_CHARS {
        return Err(Refusal::invalid("`reason` has at most 2000 characters"));
    }
    Ok(())
}

fn read_digest(text: &str) -> Result<Digest, Refusal> {
    Digest::parse(text).ok_or_else(|| Refusal::invalid("`digest` must be 64 lower-case hexadecimal digits"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VerdictBody {
    verdict: String,
    reason: String,
    digest: Option<String>,
    parameters: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PreviewBody {
    parameters: Map<String, Value>,
    digest: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CancelBody {
    reason: String,
    digest: Option<String>,
}

async fn read_json<T: serde::de::DeserializeOwned>(arrived: Arrived) -> Result<T, Refusal> {
    parse(&read_body(arrived).await?)
}

fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::invalid(&error.to_string()))
}

async fn read_body(arrived: Arrived) -> Result<Bytes, Refusal> {
    let content_type = arrived.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "send `content-type: application/json`",
        ));
    }
    let too_large = || Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "a body has at most 64 KiB");
    match Limited::new(arrived.body, BODY_LIMIT_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Err(_) => Err(Refusal::new(StatusCode::BAD_REQUEST, "body_broken", "the body ended early")),
    }
}

/// An error of the API: a status, a word for programs, a sentence for people.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    error: &'static str,
    message: String,
}

impl Refusal {
    fn new(status: StatusCode, error: &'static str, message: &str) -> Self {
        Self { status, error, message: message.to_owned() }
    }

    fn invalid(message: &str) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message)
    }

    fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "there is no such hold or path; ended holds are kept some minutes",
        )
    }

    fn into_response(self) -> Response<AnswerBody> {
        let mut response = value_response(self.status, &json!({ "error": self.error, "message": self.message }));
        if self.status == StatusCode::UNAUTHORIZED || self.error == "insufficient_scope" {
            // RFC 6750, section 3.1; RFC 9470.
            let challenge = match self.error {
                "insufficient_scope" => "Bearer error=\"insufficient_scope\"",
                "invalid_token" => "Bearer error=\"invalid_token\"",
                "insufficient_user_authentication" => "Bearer error=\"insufficient_user_authentication\"",
                _ => "Bearer",
            };
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

impl From<DecideError> for Refusal {
    fn from(error: DecideError) -> Self {
        let (status, word) = match &error {
            DecideError::Conflict(_) => (StatusCode::FORBIDDEN, "self_approval"),
            DecideError::DigestChanged => (StatusCode::CONFLICT, "digest_changed"),
            DecideError::Duplicate => (StatusCode::CONFLICT, "duplicate"),
            DecideError::LogUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "log_unavailable"),
            DecideError::NotEntitled => (StatusCode::FORBIDDEN, "not_entitled"),
            DecideError::NotOnCall => (StatusCode::FORBIDDEN, "not_on_call"),
            DecideError::NotYet => (StatusCode::FORBIDDEN, "not_yet"),
            DecideError::StageMet => (StatusCode::CONFLICT, "stage_met"),
            DecideError::NotFound => return Self::not_found(),
            DecideError::NotModifiable(_) => (StatusCode::UNPROCESSABLE_ENTITY, "not_modifiable"),
            DecideError::NotOpen(_) => (StatusCode::GONE, "not_open"),
            DecideError::OwnerUnknown => (StatusCode::FORBIDDEN, "owner_unknown"),
            DecideError::Unsigned => (StatusCode::FORBIDDEN, "unsigned"),
            DecideError::UnknownPerson => (StatusCode::FORBIDDEN, "unknown_person"),
        };
        Self::new(status, word, &error.to_string())
    }
}

fn value_response(status: StatusCode, value: &Value) -> Response<AnswerBody> {
    json_response(status, Bytes::from(value.to_string()))
}

fn json_response(status: StatusCode, body: Bytes) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::whole(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The OpenAPI document, as committed and as served.
const DOCUMENT: &str = include_str!("../../docs/openapi.json");
/// Largest request body: a modified IAM policy with room to spare.
const BODY_LIMIT_BYTES: usize = 64 * 1024;
/// Longest reason of a verdict, so that it fits into a record beside everything else.
const REASON_LIMIT_CHARS: usize = 2_000;

#[cfg(test)]
mod tests;
