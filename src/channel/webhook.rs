//! Webhooks out: each hold, and each change that people see, as a signed request (Standard Webhooks 1.0).
//!
//! A message is one POST of JSON with `webhook-id`, `webhook-timestamp` and `webhook-signature`. A message that was
//! not taken is sent again as the hold is then, under the same id while that says the same; so a receiver that
//! remembers ids takes none twice.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use serde_json::{Value, json};

use crate::credential::source::SecretSource;
use crate::digest::sha256;
use crate::gate::HoldView;
use crate::net::courier::{Answer, Courier};
use crate::notice::{Board, Failure, News, Notice, Showing};
use crate::time::Clock;

/// Where a webhook goes and what signs it.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) url: Uri,
    /// `whsec_` and base64, 24 to 64 bytes; several, one a line, while they are rotated: each signs.
    pub(crate) secret: SecretSource,
}

/// One receiver of webhooks.
pub(crate) struct Webhook {
    options: Options,
    courier: Courier,
    clock: Clock,
    /// The JSON form of a hold.
    form: fn(&HoldView) -> Value,
}

impl Webhook {
    pub(crate) fn new(options: Options, courier: Courier, clock: Clock, form: fn(&HoldView) -> Value) -> Self {
        Self { options, courier, clock, form }
    }

    /// Sends the message of that number about a hold.
    async fn send(&self, notice: Notice<'_>, number: u64) -> Result<(), Failure> {
        let now = self.clock.now();
        let (id, body) = self.message(notice, number);
        let secrets = self.options.secret.read().await;
        let secrets = secrets.map_err(|error| later(None, format!("its secret: {error}")))?;
        let seconds = now.as_seconds().to_string();
        let signed: Option<Vec<String>> =
            secrets.expose().split_whitespace().map(|secret| signature(secret, &id, &seconds, &body)).collect();
        let signatures = signed
            .filter(|all| !all.is_empty())
            .ok_or_else(|| later(None, "its secret is not `whsec_` and base64 of 24 to 64 bytes".to_owned()))?;
        let header =
            |text: &str| HeaderValue::from_str(text).map_err(|error| Failure::Never { why: error.to_string() });
        let mut request = Request::post(self.options.url.clone());
        if let Some(headers) = request.headers_mut() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert("webhook-id", header(&id)?);
            headers.insert("webhook-timestamp", header(&seconds)?);
            headers.insert("webhook-signature", header(&signatures.join(" "))?);
        }
        let request = request.body(body).map_err(|error| Failure::Never { why: error.to_string() })?;
        let answer = self.courier.send(request).await.map_err(|error| later(None, error.to_string()))?;
        taken(&answer)
    }

    fn message(&self, notice: Notice<'_>, number: u64) -> (String, Bytes) {
        let (id, event, data) = match notice {
            Notice::Gone(id) => (id, "hold.gone", json!({ "id": id.as_str() })),
            Notice::Hold(hold, news) => (&hold.id, event(hold, news, number), (self.form)(hold)),
        };
        // What says something else has another id, also when the answer to the message before was lost.
        let said = sha256(format!("{event} {data}").as_bytes()).hex();
        let id = format!("{id}.{number}.{}", said.get(..16).unwrap_or_default());
        let body = json!({ "type": event, "timestamp": self.clock.now().rfc3339(), "data": data });
        (id, body.to_string().into())
    }
}

impl Board for Webhook {
    fn show<'a>(&'a self, notice: Notice<'a>, place: Option<&'a str>) -> Showing<'a> {
        // A webhook cannot be changed where it stands: its place is the number of messages so far.
        let number = place.and_then(|place| place.parse().ok()).unwrap_or(0_u64) + 1;
        Box::pin(async move { self.send(notice, number).await.map(|()| number.to_string()) })
    }
}

fn event(hold: &HoldView, news: News, number: u64) -> &'static str {
    match news {
        News::Reminder => "hold.reminder",
        News::Escalated => "hold.escalated",
        News::State if hold.state.is_over() => "hold.ended",
        News::State if number == 1 => "hold.opened",
        News::State => "hold.changed",
    }
}

/// `v1,` and the HMAC-SHA-256 over id, time and body; `None` where that is no secret.
fn signature(secret: &str, id: &str, seconds: &str, body: &[u8]) -> Option<String> {
    let key = STANDARD.decode(secret.strip_prefix("whsec_")?).ok().filter(|key| (24..=64).contains(&key.len()))?;
    let mut signing = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &key));
    for part in [id.as_bytes(), b".", seconds.as_bytes(), b".", body] {
        signing.update(part);
    }
    Some(format!("v1,{}", STANDARD.encode(signing.sign())))
}

/// Whether a receiver took a message: 2xx. `410 Gone` means that it wants no more; anything else may change.
fn taken(answer: &Answer) -> Result<(), Failure> {
    match answer.status {
        status if status.is_success() => Ok(()),
        StatusCode::GONE => Err(Failure::Never { why: "it answered 410: it is gone".to_owned() }),
        status => {
            let said = String::from_utf8_lossy(answer.body.get(..200).unwrap_or(&answer.body)).into_owned();
            Err(later(answer.retry_after(), format!("it answered {status}: {said:?}")))
        }
    }
}

fn later(after: Option<Duration>, why: String) -> Failure {
    Failure::Later { after, why }
}
