//! What people click, as Slack posts it: verified, then answered within the three seconds that Slack waits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::hmac;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use serde_json::Value;

use super::Slack;
use super::click::Clicks;
use crate::credential::source::SecretSource;
use crate::digest::Digest;
use crate::gate::Gate;
use crate::net::body::AnswerBody;
use crate::net::listen::Arrived;
use crate::secret::Secret;
use crate::time::Timestamp;

/// The address at which one channel's interactions arrive.
pub(crate) struct Inbound {
    clicks: Arc<Clicks>,
    signing_secret: SecretSource,
    /// As it was read last, and when: whoever reaches the port must not make a program run for each request.
    kept: tokio::sync::Mutex<Option<(Secret, Timestamp)>>,
    /// Signatures that were taken, until they are too old to be.
    seen: Mutex<BTreeMap<Digest, Timestamp>>,
}

/// What is told to Slack about a request that is not taken. Nothing of why: it may be anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    Form,
    Signature,
    Unavailable,
}

impl Inbound {
    /// `None` where interactions do not come by HTTP.
    pub(crate) fn new(slack: &Arc<Slack>, gate: &Arc<Gate>) -> Option<Self> {
        let signing_secret = slack.signing_secret.clone();
        let clicks = Arc::new(Clicks { slack: Arc::clone(slack), gate: Arc::clone(gate) });
        (signing_secret != SecretSource::None).then(|| Self {
            clicks,
            signing_secret,
            kept: tokio::sync::Mutex::default(),
            seen: Mutex::default(),
        })
    }

    /// Answers one request. What it asks for goes on when its connection does not.
    pub(crate) async fn respond(&self, arrived: Arrived) -> Response<AnswerBody> {
        if arrived.method != Method::POST {
            return response(StatusCode::METHOD_NOT_ALLOWED, Bytes::new());
        }
        let payload = match self.read(arrived).await {
            Ok(payload) => payload,
            Err(refused) => {
                let channel = &self.clicks.slack.channel;
                tracing::warn!(channel, ?refused, "a request that claims to be Slack's is refused");
                let status = match refused {
                    Refused::Form => StatusCode::BAD_REQUEST,
                    Refused::Signature => StatusCode::UNAUTHORIZED,
                    Refused::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
                };
                return response(status, Bytes::new());
            }
        };
        let (answer, answered) = tokio::sync::oneshot::channel();
        let clicks = Arc::clone(&self.clicks);
        tokio::spawn(async move {
            let reply = clicks.take(&payload).await;
            if let Err(Some(late)) = answer.send(reply) {
                clicks.tell_late(&payload, &late).await;
            }
        });
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(Ok(Some(reply))) => {
                let mut response = response(StatusCode::OK, reply.to_string().into());
                let json = HeaderValue::from_static("application/json");
                response.headers_mut().insert(header::CONTENT_TYPE, json);
                response
            }
            _ => response(StatusCode::OK, Bytes::new()),
        }
    }

    /// The interaction in a request, once it is known to be Slack's, fresh, and not one that came before.
    async fn read(&self, arrived: Arrived) -> Result<Value, Refused> {
        let now = self.clicks.slack.clock.now();
        let (sent, signature) = claims(&arrived.headers).ok_or(Refused::Signature)?;
        if sent.abs_diff(now.as_seconds()) > WINDOW.as_secs() {
            return Err(Refused::Signature);
        }
        let body = Limited::new(arrived.body, BODY_LIMIT_BYTES).collect().await.map_err(|_| Refused::Form)?.to_bytes();
        let secrets = self.secrets(now).await.ok_or(Refused::Unavailable)?;
        let is_signed = |secret: &str| is_signed(secret, sent, &body, &signature);
        if !secrets.expose().split_whitespace().any(is_signed) || !self.is_new(signature, now) {
            return Err(Refused::Signature);
        }
        let mut fields = form_urlencoded::parse(&body);
        let payload = fields.find(|(name, _)| name == "payload").ok_or(Refused::Form)?.1;
        serde_json::from_str(&payload).map_err(|_| Refused::Form)
    }

    async fn secrets(&self, now: Timestamp) -> Option<Secret> {
        let mut kept = self.kept.lock().await;
        if let Some((secret, read)) = &*kept
            && now.since(*read) < KEPT
        {
            return Some(secret.clone());
        }
        match self.signing_secret.read().await {
            Ok(secret) => {
                *kept = Some((secret.clone(), now));
                Some(secret)
            }
            Err(error) => {
                tracing::error!(%error, "the signing secret of Slack: nobody can decide in Slack");
                None
            }
        }
    }

    fn is_new(&self, signature: Digest, now: Timestamp) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // One may be that far in the future, and be taken for as long after that.
        seen.retain(|_, taken| now.since(*taken) <= WINDOW * 2);
        seen.insert(signature, now).is_none()
    }
}

/// Time and signature that a request claims; `None` where they are not in their one form.
fn claims(headers: &HeaderMap) -> Option<(i64, Digest)> {
    let only = |name: &str| {
        let mut values = headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none())?.to_str().ok()
    };
    let sent = only("x-slack-request-timestamp")?;
    let is_number = !sent.is_empty() && sent.bytes().all(|b| b.is_ascii_digit());
    let signature = Digest::parse(only("x-slack-signature")?.strip_prefix("v0=")?)?;
    Some((is_number.then(|| sent.parse().ok()).flatten()?, signature))
}

/// <https://docs.slack.dev/authentication/verifying-requests-from-slack>; compares in constant time.
fn is_signed(secret: &str, sent: i64, body: &[u8], signature: &Digest) -> bool {
    let mut message = format!("v0:{sent}:").into_bytes();
    message.extend_from_slice(body);
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), &message, signature.as_bytes()).is_ok()
}

fn response(status: StatusCode, body: Bytes) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::whole(body));
    *response.status_mut() = status;
    response
}

/// Slack's own window against replays.
const WINDOW: Duration = Duration::from_secs(300);
/// Slack waits 3 s; what takes longer is told in the channel.
const PATIENCE: Duration = Duration::from_millis(2_500);
/// How long the signing secret is used before it is read anew.
const KEPT: Duration = Duration::from_secs(60);
/// A click comes with its message, percent-encoded.
const BODY_LIMIT_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests;
