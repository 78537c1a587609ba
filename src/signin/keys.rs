//! The public keys of a provider: a JWK set (RFC 7517) reduced to what may sign a token here.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// Keys that may sign, each for the one algorithm that its type has here.
#[derive(Clone, Default)]
pub(crate) struct Keys(Vec<Key>);

#[derive(Clone)]
struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

impl Keys {
    /// Reads a set. A key of another kind is passed over: providers publish those for other purposes.
    ///
    /// # Errors
    /// When it is no set of keys.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let set: Set = serde_json::from_slice(bytes)?;
        Ok(Self(set.keys.into_iter().filter_map(|value| serde_json::from_value(value).ok()).filter_map(read).collect()))
    }

    /// The key of that id; without an id the only one there is for the algorithm.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&DecodingKey> {
        let mut fitting =
            self.0.iter().filter(|key| key.algorithm == algorithm && id.is_none_or(|id| key.id.as_deref() == Some(id)));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Some(&key.key),
            _ => None,
        }
    }
}

/// What is asked of a key decides its algorithm, never what a token says: else the public half of a
/// pair of RSA could be taken for a secret of HMAC.
fn read(jwk: Jwk) -> Option<Key> {
    let (algorithm, named) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(it) if it.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(it) if it.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    let common = &jwk.common;
    let is_for_signatures = common.public_key_use.as_ref().is_none_or(|it| *it == PublicKeyUse::Signature)
        && common.key_operations.as_ref().is_none_or(|it| it.contains(&KeyOperations::Verify))
        && common.key_algorithm.is_none_or(|it| it == named);
    let key = is_for_signatures.then(|| DecodingKey::from_jwk(&jwk).ok()).flatten()?;
    Some(Key { id: common.key_id.clone(), algorithm, key })
}
