//! The real credential of the upstream: found by the standard chain, renewed ahead of its expiry.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};

use super::assume::{AssumeError, Session, Sessions, Task};
use super::is_virtual_key_id;
use crate::rules::Assume;
use crate::secret::Secret;
use crate::time::{Clock, Timestamp};
use crate::wire::sigv4::Key;

/// Where the real credential comes from.
#[derive(Clone, Debug, Default)]
pub(crate) struct RealOptions {
    /// Named profile of the shared config files; `None` for the chain's own choice.
    pub(crate) profile: Option<String>,
    /// Region to ask STS in for the account; `None` for the chain's own choice, then `us-east-1`.
    pub(crate) region: Option<String>,
    /// Endpoint of STS instead of the real one (a local AWS).
    pub(crate) sts_endpoint: Option<String>,
}

/// The real credential, renewed ahead of its expiry by a task of its own, which ends with this.
#[derive(Debug)]
pub(crate) struct RealCredentials {
    held: Arc<Held>,
    sessions: Sessions,
    renewal: tokio::task::AbortHandle,
}

#[derive(Debug)]
struct Held {
    key: ArcSwap<Key>,
    account: ArcSwapOption<String>,
}

impl RealCredentials {
    /// Resolves the credential and asks STS whose it is. When STS cannot be reached the account
    /// stays unknown and is asked for again in the background; when STS refuses the credential,
    /// nothing would work with it, and this is an error.
    ///
    /// # Errors
    /// When there is no credential, STS refuses it, or it is a virtual key.
    pub(crate) async fn load(options: RealOptions, clock: Clock) -> Result<Self, RealError> {
        let mut loader = aws_config::defaults(BehaviorVersion::latest());
        if let Some(profile) = options.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(region) = options.region {
            loader = loader.region(Region::new(region));
        }
        Self::start(RealSource::new(&loader.load().await, options.sts_endpoint)?, clock).await
    }

    async fn start(source: RealSource, clock: Clock) -> Result<Self, RealError> {
        let key = source.resolve().await?;
        let account = match source.account().await {
            Ok(account) => Some(Arc::new(account)),
            Err(error @ RealError::Unreachable(_)) => {
                tracing::warn!(%error, "the upstream account is not known yet");
                None
            }
            Err(error) => return Err(error),
        };
        let held = Arc::new(Held { key: ArcSwap::from_pointee(key), account: ArcSwapOption::new(account) });
        let sessions = Sessions::new(source.sts.clone());
        let renewal = tokio::spawn(renew(Arc::clone(&held), source, clock)).abort_handle();
        Ok(Self { held, sessions, renewal })
    }

    /// The credential to sign with now; takes no lock.
    ///
    /// # Errors
    /// When it has expired and could not be renewed: nothing can be forwarded then.
    pub(crate) fn current(&self, now: Timestamp) -> Result<Arc<Key>, RealError> {
        let key = self.held.key.load_full();
        if key.expires.is_some_and(|expires| expires <= now) { Err(RealError::Expired) } else { Ok(key) }
    }

    /// A session of a role that this credential may assume, for one request.
    ///
    /// # Errors
    /// When it cannot be cut to what the request needs, or STS does not give it.
    pub(crate) async fn session(
        &self,
        assume: &Assume,
        task: &Task<'_>,
        now: Timestamp,
    ) -> Result<Session, AssumeError> {
        self.sessions.session(assume, task, now).await
    }

    /// The account of the credential; `None` while STS could not be asked.
    pub(crate) fn account(&self) -> Option<String> {
        self.held.account.load().as_deref().cloned()
    }
}

impl Drop for RealCredentials {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

/// Why there is no real credential.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RealError {
    #[error("the real credential has expired and could not be renewed; the log says why")]
    Expired,
    #[error(
        "the credential found for the upstream, `{0}`, is a virtual key of countersign: it would call itself; \
         unset AWS_ACCESS_KEY_ID, or name a profile that holds a real credential"
    )]
    Loop(String),
    #[error(
        "no credential for the upstream: set AWS_PROFILE or AWS_ACCESS_KEY_ID for countersign, or run it where an \
         instance or task role is attached: {0}"
    )]
    Missing(String),
    #[error("STS refuses the credential for the upstream: {0}")]
    Refused(String),
    #[error("STS cannot be reached to ask for the upstream's account: {0}")]
    Unreachable(String),
}

/// Where a credential is resolved from, each time anew.
struct RealSource {
    provider: SharedCredentialsProvider,
    sts: aws_sdk_sts::Client,
}

impl RealSource {
    fn new(config: &SdkConfig, sts_endpoint: Option<String>) -> Result<Self, RealError> {
        let missing = || RealError::Missing("the chain has no provider".to_owned());
        let provider = config.credentials_provider().ok_or_else(missing)?;
        let mut sts = aws_sdk_sts::config::Builder::from(config)
            .timeout_config(TimeoutConfig::builder().operation_timeout(STS_TIMEOUT).build());
        if config.region().is_none() {
            sts = sts.region(Region::from_static("us-east-1"));
        }
        if let Some(endpoint) = sts_endpoint {
            sts = sts.endpoint_url(endpoint);
        }
        Ok(Self { provider, sts: aws_sdk_sts::Client::from_conf(sts.build()) })
    }

    async fn resolve(&self) -> Result<Key, RealError> {
        let found = self.provider.provide_credentials().await;
        let found = found.map_err(|error: CredentialsError| RealError::Missing(with_causes(&error)))?;
        if is_virtual_key_id(found.access_key_id()) {
            return Err(RealError::Loop(found.access_key_id().to_owned()));
        }
        let expires = found.expiry().and_then(|expiry| expiry.duration_since(std::time::UNIX_EPOCH).ok());
        Ok(Key::new(
            found.access_key_id(),
            Secret::new(found.secret_access_key()),
            found.session_token().map(Secret::new),
            expires.map(|since| Timestamp::from_micros(0).plus(since)),
        ))
    }

    async fn account(&self) -> Result<String, RealError> {
        match self.sts.get_caller_identity().send().await {
            Ok(identity) => identity
                .account()
                .map(str::to_owned)
                .ok_or_else(|| RealError::Unreachable("its answer names no account".to_owned())),
            Err(SdkError::ServiceError(error)) if error.raw().status().is_client_error() => {
                let error = error.into_err();
                let code = error.code().unwrap_or("no code");
                Err(RealError::Refused(format!("{code}: {}", error.message().unwrap_or("no message"))))
            }
            Err(error) => Err(RealError::Unreachable(with_causes(&error))),
        }
    }
}

/// An error with all of its causes: the SDK's outermost message alone says nothing.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// How long STS may take to answer, all attempts together.
const STS_TIMEOUT: Duration = Duration::from_secs(10);
/// A credential is renewed this long before it expires, or at half its life when that is short.
const RENEWED_AHEAD: Duration = Duration::from_secs(10 * 60);
const RETRIED_AFTER: Duration = Duration::from_secs(15);
/// The first time that STS is asked again; then after twice as long each time, up to `RETRIED_AFTER`.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// Renews the credential for ever, and asks for the account until it is known.
async fn renew(held: Arc<Held>, source: RealSource, clock: Clock) {
    let mut pause = FIRST_RETRY;
    loop {
        let key = held.key.load_full();
        let life = key.expires.map(|expires| expires.since(clock.now()));
        let account_missing = held.account.load().is_none();
        match (life, account_missing) {
            // The key does not expire and its owner is known: nothing is left to do.
            (None, false) => return,
            (None, true) => tokio::time::sleep(pause).await,
            (Some(life), _) => {
                let wait = life.saturating_sub(RENEWED_AHEAD.min(life / 2)).max(RETRIED_AFTER);
                tokio::time::sleep(if account_missing { wait.min(pause) } else { wait }).await;
            }
        }
        if key.expires.is_some_and(|expires| expires.since(clock.now()) <= RENEWED_AHEAD) {
            match source.resolve().await {
                Ok(fresh) => held.key.store(Arc::new(fresh)),
                Err(error) => tracing::error!(%error, "the credential for the upstream could not be renewed"),
            }
        }
        if held.account.load().is_none() {
            pause = (pause * 2).min(RETRIED_AFTER);
            match source.account().await {
                Ok(account) => held.account.store(Some(Arc::new(account))),
                Err(error) => tracing::warn!(%error, "the upstream account is still not known"),
            }
        }
    }
}

#[cfg(test)]
mod tests;
