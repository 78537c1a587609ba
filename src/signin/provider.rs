//! One OpenID provider: its discovery document and keys, fetched and kept, and the requests to it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use super::SignInError;
use super::keys::Keys;
use super::token::{self, Claimed, Expected};
use crate::credential::source::SecretSource;
use crate::net::courier::{Courier, endpoint};
use crate::net::reach::Own;
use crate::net::tls::TlsError;
use crate::time::{Clock, Timestamp};

/// Which provider, and who we are to it.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Compared byte by byte with what tokens and the discovery document say.
    pub(crate) issuer: String,
    pub(crate) client_id: String,
    pub(crate) client_secret: SecretSource,
    /// Whom a bearer token may be for.
    pub(crate) audiences: Vec<String>,
    /// Clients to which a bearer token may have been issued, besides our own.
    pub(crate) clients: Vec<String>,
    /// What is asked for at sign-in.
    pub(crate) scopes: Vec<String>,
    pub(crate) clock_skew: Duration,
    /// Roots to trust besides the platform's.
    pub(crate) extra_ca: Option<PathBuf>,
}

/// A provider and what is known of it.
pub(crate) struct Provider {
    pub(super) options: Options,
    parties: Vec<String>,
    courier: Courier,
    pub(super) clock: Clock,
    known: ArcSwapOption<Known>,
    /// When it was last asked; held while it is, so that many requests ask once.
    asked: Mutex<Option<Timestamp>>,
}

/// What the provider says of itself.
pub(super) struct Known {
    pub(super) authorization: Uri,
    pub(super) token: Uri,
    /// The client's secret goes into the body instead of a header.
    pub(super) posts_secret: bool,
    keys: Keys,
    fetched: Timestamp,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
    authorization_endpoint: String,
    token_endpoint: String,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Provider({})", self.options.issuer)
    }
}

impl Provider {
    /// Asks nobody yet: a provider that is down must not keep the gate from starting.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub(crate) fn new(options: Options, clock: Clock, own: Own) -> Result<Self, TlsError> {
        let mut parties = options.clients.clone();
        parties.push(options.client_id.clone());
        let courier = Courier::new(options.extra_ca.as_deref(), own)?;
        Ok(Self { options, parties, courier, clock, known: ArcSwapOption::empty(), asked: Mutex::default() })
    }

    /// Whether that is its name.
    pub(crate) fn is(&self, issuer: &str) -> bool {
        self.options.issuer == issuer
    }

    /// Who shows this bearer token.
    ///
    /// # Errors
    /// When it proves nobody's presence, or cannot be checked now.
    pub(crate) async fn check(&self, token: &str) -> Result<Claimed, SignInError> {
        self.check_for(token, &self.options.audiences, None).await
    }

    pub(super) async fn check_for(
        &self,
        token: &str,
        audiences: &[String],
        nonce: Option<&str>,
    ) -> Result<Claimed, SignInError> {
        let header = token::head(token)?;
        let Options { issuer, clock_skew, .. } = &self.options;
        let expected = Expected { issuer, audiences, parties: &self.parties, nonce, clock_skew: *clock_skew };
        let known = self.known().await?;
        if let Some(checked) = token::check(token, &header, &known.keys, &expected, self.clock.now()) {
            return checked;
        }
        // It may be signed by a key that is newer than what is known.
        let known = self.ask(known.fetched).await?;
        token::check(token, &header, &known.keys, &expected, self.clock.now())
            .unwrap_or(Err(SignInError::Invalid("the provider has no key of that id and algorithm")))
    }

    /// What is known of the provider, asked anew once that is old.
    pub(super) async fn known(&self) -> Result<Arc<Known>, SignInError> {
        let now = self.clock.now();
        let known = match self.known.load_full() {
            Some(known) if now.since(known.fetched) < FRESH => return Ok(known),
            Some(known) => self.ask(known.fetched).await.unwrap_or(known),
            None => return self.ask(Timestamp::from_micros(i64::MIN)).await,
        };
        // A provider that is away for a while locks nobody out; keys that it took back do not live on.
        if now.since(known.fetched) < KEPT {
            return Ok(known);
        }
        Err(SignInError::Provider("it has not answered for long".to_owned()))
    }

    /// Asks the provider, unless it was asked a moment ago: anybody can send tokens with unknown keys.
    async fn ask(&self, older_than: Timestamp) -> Result<Arc<Known>, SignInError> {
        let mut asked = self.asked.lock().await;
        let now = self.clock.now();
        let known = self.known.load_full();
        if let Some(known) = known.as_ref().filter(|known| known.fetched > older_than) {
            return Ok(Arc::clone(known));
        }
        if asked.is_some_and(|asked| now.since(asked) < ASKED_EVERY) {
            return known.ok_or_else(|| SignInError::Provider("it did not answer a moment ago".to_owned()));
        }
        *asked = Some(now);
        let known = Arc::new(self.discover(now).await.inspect_err(|error| tracing::warn!(%error, "no keys"))?);
        self.known.store(Some(Arc::clone(&known)));
        Ok(known)
    }

    async fn discover(&self, now: Timestamp) -> Result<Known, SignInError> {
        // OpenID Connect Discovery 1.0, section 4.
        let url = format!("{}/.well-known/openid-configuration", self.options.issuer.trim_end_matches('/'));
        let found: Discovery = read(&self.fetch(&place(&url)?, None).await?)?;
        if found.issuer != self.options.issuer {
            return Err(SignInError::Provider("its discovery document is of another issuer".to_owned()));
        }
        let keys = self.fetch(&place(&found.jwks_uri)?, None).await?;
        let methods = found.token_endpoint_auth_methods_supported.unwrap_or_default();
        let has = |method: &str| methods.iter().any(|it| it == method);
        Ok(Known {
            authorization: place(&found.authorization_endpoint)?,
            token: place(&found.token_endpoint)?,
            posts_secret: has("client_secret_post") && !has("client_secret_basic"),
            keys: Keys::parse(&keys).map_err(|_| SignInError::Provider("its keys cannot be read".to_owned()))?,
            fetched: now,
        })
    }

    /// Fetches, or posts a form with the value for `Authorization` where there is one.
    pub(super) async fn fetch(
        &self,
        uri: &Uri,
        form: Option<(String, Option<HeaderValue>)>,
    ) -> Result<Bytes, SignInError> {
        let failed = |why: String| SignInError::Provider(format!("{}: {why}", uri.host().unwrap_or_default()));
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = uri.clone();
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Some((form, authorization)) = form {
            let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
            request.headers_mut().insert(header::CONTENT_TYPE, kind);
            if let Some(value) = authorization {
                request.headers_mut().insert(header::AUTHORIZATION, value);
            }
            *request.method_mut() = Method::POST;
            *request.body_mut() = form.into();
        }
        let answer = self.courier.send(request).await.map_err(|error| failed(error.to_string()))?;
        if answer.status.is_success() {
            Ok(answer.body)
        } else {
            Err(failed(format!("answered with {}", answer.status)))
        }
    }
}

pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, SignInError> {
    serde_json::from_slice(bytes).map_err(|_| SignInError::Provider("its answer cannot be read".to_owned()))
}

/// A URL to which keys and codes may be entrusted: TLS, or this machine.
fn place(url: &str) -> Result<Uri, SignInError> {
    let uri = url.parse::<Uri>().ok().filter(|uri| endpoint(uri).is_some());
    uri.ok_or_else(|| SignInError::Provider("it names an address without TLS".to_owned()))
}

/// Keys are asked for anew after this time.
const FRESH: Duration = Duration::from_secs(600);
/// While the provider cannot be reached, its keys are taken for so long.
const KEPT: Duration = Duration::from_secs(3600);
/// Between two times that it is asked.
const ASKED_EVERY: Duration = Duration::from_secs(10);
