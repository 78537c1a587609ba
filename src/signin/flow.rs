//! Sign-in in a browser: the authorization code flow with PKCE (RFC 6749 section 4.1, RFC 7636, OpenID Connect Core
//! section 3.1).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::HeaderValue;
use serde::Deserialize;

use super::SignInError;
use super::provider::{Provider, read};
use super::token::Claimed;
use crate::credential::source::SecretSource;
use crate::digest::sha256;
use crate::id::random_bytes;
use crate::secret::Secret;

/// What must be remembered of a sign-in until the browser comes back.
#[derive(Debug)]
pub(crate) struct Begun {
    nonce: String,
    verifier: Secret,
    max_age: Option<Duration>,
    /// The path of ours that the person wanted to see.
    pub(crate) wanted: String,
}

#[derive(Deserialize)]
struct Tokens {
    id_token: String,
}

impl Provider {
    /// Where to send the browser, and what to remember meanwhile. With `max_age` the person must have proven
    /// who they are within that time.
    ///
    /// # Errors
    /// When the provider cannot be reached.
    pub(crate) async fn begin(
        &self,
        state: &str,
        back: &str,
        wanted: &str,
        max_age: Option<Duration>,
    ) -> Result<(String, Begun), SignInError> {
        let known = self.known().await?;
        let (nonce, verifier) = (draw()?, Secret::new(draw()?));
        let challenge = URL_SAFE_NO_PAD.encode(sha256(verifier.expose().as_bytes()).as_bytes());
        let mut query = form_urlencoded::Serializer::new(String::new());
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.options.client_id)
            .append_pair("redirect_uri", back)
            .append_pair("scope", &self.options.scopes.join(" "))
            .append_pair("state", state)
            .append_pair("nonce", &nonce)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256");
        if let Some(age) = max_age {
            query.append_pair("max_age", &age.as_secs().to_string());
        }
        let joint = if known.authorization.query().is_some() { '&' } else { '?' };
        let url = format!("{}{joint}{}", known.authorization, query.finish());
        Ok((url, Begun { nonce, verifier, max_age, wanted: wanted.to_owned() }))
    }

    /// Takes the code that the browser brought back for the person it stands for.
    ///
    /// # Errors
    /// When the code is not good, or the token it gives is not.
    pub(crate) async fn finish(&self, code: &str, back: &str, begun: &Begun) -> Result<Claimed, SignInError> {
        let known = self.known().await?;
        let secret = match &self.options.client_secret {
            // A public client: PKCE alone proves that it is the same one.
            SecretSource::None => None,
            source => {
                let failed = |error| SignInError::Provider(format!("the client's secret: {error}"));
                Some(source.read().await.map_err(failed)?)
            }
        };
        let authorization = match secret.as_ref().filter(|_| !known.posts_secret) {
            Some(secret) => Some(self.basic(secret)?),
            None => None,
        };
        let form = self.form(code, back, begun, secret.as_ref().filter(|_| known.posts_secret));
        let answer = self.fetch(&known.token, Some((form, authorization))).await?;
        let tokens: Tokens = read(&answer)?;
        let audience = std::slice::from_ref(&self.options.client_id);
        let claimed = self.check_for(&tokens.id_token, audience, Some(&begun.nonce)).await?;
        if let Some(age) = begun.max_age {
            let since = claimed.authenticated.map(|at| self.clock.now().since(at));
            if since.is_none_or(|since| since > age + self.options.clock_skew) {
                return Err(SignInError::Invalid("the provider did not ask the person anew"));
            }
        }
        Ok(claimed)
    }

    /// The request for tokens, with the client's secret where it goes into the body.
    fn form(&self, code: &str, back: &str, begun: &Begun, secret: Option<&Secret>) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "authorization_code")
            .append_pair("code", code)
            .append_pair("redirect_uri", back)
            .append_pair("client_id", &self.options.client_id)
            .append_pair("code_verifier", begun.verifier.expose());
        if let Some(secret) = secret {
            form.append_pair("client_secret", secret.expose());
        }
        form.finish()
    }

    /// The client's id and secret, each encoded as in a form first (RFC 6749, section 2.3.1).
    fn basic(&self, secret: &Secret) -> Result<HeaderValue, SignInError> {
        let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let pair = Secret::new(format!("{}:{}", encode(&self.options.client_id), encode(secret.expose())));
        let value = format!("Basic {}", STANDARD.encode(pair.expose()));
        let mut value = HeaderValue::from_str(&value)
            .map_err(|_| SignInError::Provider("the client has no usable id".to_owned()))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// 256 random bits as text that may stand in any URL or cookie.
///
/// # Errors
/// When the system gives no randomness.
pub(super) fn draw() -> Result<String, SignInError> {
    let bytes = random_bytes::<32>().map_err(|error| SignInError::Provider(error.to_string()))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
