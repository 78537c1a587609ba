//! The Web API of Slack: calls, and what its errors mean.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use serde_json::Value;

use crate::credential::source::SecretSource;
use crate::net::courier::Courier;
use crate::notice::Failure;

/// The Web API with one token.
pub(super) struct Web {
    api: Uri,
    token: SecretSource,
    courier: Courier,
}

/// Why a call did nothing that is known of.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("Slack asks to wait {} s", .0.as_secs())]
    Later(Duration),
    #[error("the token for Slack: {0}")]
    Token(String),
    /// No answer, or one that says nothing; it may have worked all the same.
    #[error("Slack: {0}")]
    Unclear(String),
    /// Slack's own word for it, and what an operator can do.
    #[error("Slack refuses `{method}`: {error}{advice}")]
    Refused { method: &'static str, error: String, advice: String },
}

impl Web {
    pub(super) fn new(api: Uri, token: SecretSource, courier: Courier) -> Self {
        Self { api, token, courier }
    }

    /// Calls a method with a JSON body; its answer when that says `ok`.
    ///
    /// # Errors
    /// When it was refused, or no answer came.
    pub(super) async fn call(&self, method: &'static str, body: &Value) -> Result<Value, CallError> {
        self.send(method, "application/json; charset=utf-8", body.to_string().into()).await
    }

    /// What `users.info` says of a member.
    ///
    /// # Errors
    /// As [`Web::call`].
    pub(super) async fn user(&self, user: &str) -> Result<Value, CallError> {
        // Methods that only read take no JSON.
        let body = form_urlencoded::Serializer::new(String::new()).append_pair("user", user).finish();
        let mut answer = self.send("users.info", "application/x-www-form-urlencoded", body.into()).await?;
        Ok(answer.get_mut("user").map(Value::take).unwrap_or_default())
    }

    async fn send(&self, method: &'static str, content_type: &'static str, body: Bytes) -> Result<Value, CallError> {
        let token = self.token.read().await.map_err(|error| CallError::Token(error.to_string()))?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
            .map_err(|_| CallError::Token("it holds what no header may".to_owned()))?;
        bearer.set_sensitive(true);
        let request = Request::post(format!("{}/{method}", self.api.to_string().trim_end_matches('/')))
            .header(header::AUTHORIZATION, bearer)
            .header(header::CONTENT_TYPE, HeaderValue::from_static(content_type))
            .body(body)
            .map_err(|error| CallError::Unclear(error.to_string()))?;
        let answer = self.courier.send(request).await.map_err(|error| CallError::Unclear(error.to_string()))?;
        // Slack gives seconds in all of its answers to too many calls.
        let wait = answer.retry_after();
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            return Err(CallError::Later(wait.unwrap_or(SOME_WAIT)));
        }
        let said = serde_json::from_slice::<Value>(&answer.body).ok().filter(|_| answer.status.is_success());
        let Some(said) = said else { return Err(CallError::Unclear(format!("it answered {}", answer.status))) };
        if said.get("ok").and_then(Value::as_bool) == Some(true) {
            return Ok(said);
        }
        let word = |name: &str| said.get(name).and_then(Value::as_str).unwrap_or_default().escape_debug().to_string();
        let error = word("error");
        if matches!(error.as_str(), "ratelimited" | "rate_limited") {
            return Err(CallError::Later(wait.unwrap_or(SOME_WAIT)));
        }
        let advice = match error.as_str() {
            "missing_scope" => {
                format!(": the app lacks the scope `{}`; add it and install the app again", word("needed"))
            }
            other => advice(other).to_owned(),
        };
        Err(CallError::Refused { method, error, advice })
    }
}

/// What an operator can do about an error of Slack's.
fn advice(error: &str) -> &'static str {
    match error {
        "account_inactive" | "invalid_auth" | "not_authed" | "token_expired" | "token_revoked" => {
            ": the token is not valid (any more); put a new one in its place"
        }
        "not_allowed_token_type" => ": the token is of another kind; a bot token begins with `xoxb-`",
        "channel_not_found" | "not_in_channel" => ": name the channel by its id, and invite the app to it",
        "is_archived" => ": the channel is archived",
        "restricted_action" => ": the workspace does not let the app post there",
        _ => "",
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let why = error.to_string();
        match error {
            CallError::Later(after) => Self::Later { after: Some(after), why },
            // The message itself is wrong. It is the same the next time.
            CallError::Refused { error, .. }
                if matches!(
                    error.as_str(),
                    "invalid_arguments"
                        | "invalid_blocks"
                        | "invalid_blocks_format"
                        | "msg_blocks_too_long"
                        | "msg_too_long"
                        | "no_text"
                        | "too_many_attachments"
                ) =>
            {
                Self::Never { why }
            }
            _ => Self::Later { after: None, why },
        }
    }
}

/// Where Slack does not say how long.
const SOME_WAIT: Duration = Duration::from_secs(30);
