//! An access key pair with the signing keys derived from it.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use arc_swap::ArcSwap;
use hashbrown::{Equivalent, HashMap};
use hmac::digest::CtOutput;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::digest::{Digest, Digits};
use crate::secret::Secret;
use crate::time::Timestamp;

/// An access key pair, virtual or real. It carries the signing keys already derived from it, so
/// that a key which is replaced takes them along and no other agent's requests can push them out.
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) secret: Secret,
    /// The session token of a temporary real key.
    pub(crate) token: Option<Secret>,
    pub(crate) expires: Option<Timestamp>,
    derived: ArcSwap<HashMap<KeptScope, SigningKey>>,
}

/// The HMAC key of one date, region and service, with its first hash blocks done. They are copied for each
/// signature: that is why this is not the `aws_lc_rs::hmac` used elsewhere, whose copies cost as much as the hash.
#[derive(Clone)]
pub(crate) struct SigningKey {
    key: Arc<Hmac<Sha256>>,
    is_kept: bool,
}

/// Signing keys kept per access key: a day of every service in a region or two fits. When full,
/// all are dropped and derived again as needed.
const KEPT_SIGNING_KEYS: usize = 512;

impl Key {
    pub(crate) fn new(
        id: impl Into<String>,
        secret: Secret,
        token: Option<Secret>,
        expires: Option<Timestamp>,
    ) -> Self {
        Self { id: id.into(), secret, token, expires, derived: ArcSwap::default() }
    }

    /// The signing key for a scope: a look-up without lock where [`Key::keep`] was called, else four HMACs.
    pub(super) fn signing_key(&self, scope: ScopeRef<'_>) -> SigningKey {
        if let Some(kept) = self.derived.load().get(&scope) {
            return kept.clone();
        }
        let mut secret = String::with_capacity(64);
        secret.push_str("AWS4");
        secret.push_str(self.secret.expose());
        let secret = Secret::new(secret);
        let mut key = keyed(secret.expose().as_bytes());
        for text in [scope.date, scope.region, scope.service, "aws4_request"] {
            key = keyed(&mac(&key, text).into_bytes());
        }
        SigningKey { key: Arc::new(key), is_kept: false }
    }

    /// Keeps a derived key. Called only for a scope that a valid signature named: whoever merely
    /// knows an access key id could otherwise fill the cache.
    pub(super) fn keep(&self, scope: ScopeRef<'_>, signing_key: &SigningKey) {
        if signing_key.is_kept {
            return;
        }
        self.derived.rcu(|kept| {
            let mut kept = if kept.len() < KEPT_SIGNING_KEYS { HashMap::clone(kept) } else { HashMap::new() };
            kept.insert(scope.to_kept(), SigningKey { is_kept: true, ..signing_key.clone() });
            kept
        });
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).field("expires", &self.expires).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// The signature of a string to sign, in lower-case hexadecimal.
    pub(super) fn sign(&self, string_to_sign: &str) -> Digits {
        Digest::from_bytes(self.raw(string_to_sign)).digits()
    }

    /// [`SigningKey::sign`], as bytes.
    pub(super) fn raw(&self, string_to_sign: &str) -> [u8; 32] {
        mac(&self.key, string_to_sign).into_bytes().into()
    }

    /// Compares the whole signature in constant time.
    pub(super) fn accepts(&self, string_to_sign: &str, signature: &[u8; 32]) -> bool {
        mac(&self.key, string_to_sign) == CtOutput::new((*signature).into())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The credential scope: which day, region and service a signature is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ScopeRef<'a> {
    /// `20261120`
    pub(crate) date: &'a str,
    pub(crate) region: &'a str,
    /// The signing name: `iam`, `s3`, `monitoring`.
    pub(crate) service: &'a str,
}

/// A [`ScopeRef`] that owns its parts. The fields stand in the same order: both must hash alike.
#[derive(Clone, PartialEq, Eq, Hash)]
struct KeptScope {
    date: String,
    region: String,
    service: String,
}

impl ScopeRef<'_> {
    fn to_kept(self) -> KeptScope {
        KeptScope { date: self.date.to_owned(), region: self.region.to_owned(), service: self.service.to_owned() }
    }
}

impl Equivalent<KeptScope> for ScopeRef<'_> {
    fn equivalent(&self, scope: &KeptScope) -> bool {
        self.date == scope.date && self.region == scope.region && self.service == scope.service
    }
}

#[expect(clippy::expect_used, reason = "HMAC takes keys of every length (RFC 2104, section 3)")]
fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("a key of any length")
}

fn mac(key: &Hmac<Sha256>, text: &str) -> CtOutput<Hmac<Sha256>> {
    key.clone().chain_update(text).finalize()
}
