//! Commitments: a record holds the hash of a text under a salt that is not in it, so that the text can be
//! proven later and not be guessed before. `docs/audit-format.md` specifies them.
//!
//! The salt of each text comes from one key by HMAC: who has no key cannot tell it from a random one, an
//! opened text tells nothing of another, and who has the key needs no more than the text to open it.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::digest::{Digest, Hasher, canonical_json, hex};

/// What salts are made from. It signs nothing; with it and a guess, a record's text can be confirmed.
pub(crate) struct Key {
    salts: hmac::Key,
    digests: hmac::Key,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Which text of an action is committed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// The statement as its agent sent it, passwords replaced.
    Statement,
    /// The statement that an approver put in its place.
    Modified,
    /// The values bound to its parameters.
    Values,
}

impl What {
    const ALL: [Self; 3] = [Self::Statement, Self::Modified, Self::Values];

    /// As records and openings spell it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Statement => "statement",
            Self::Modified => "modified",
            Self::Values => "values",
        }
    }
}

/// What makes a text's hash unguessable; as secret as the text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Salt([u8; 32]);

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Salt {
    pub(crate) fn commit(&self, what: What, text: &[u8]) -> Digest {
        let mut hasher = Hasher::new();
        hasher.update(b"countersign-commitment/v1\n");
        hasher.update(what.as_str().as_bytes());
        hasher.update(b"\n");
        hasher.update(&self.0);
        hasher.update(text);
        hasher.finish()
    }
}

impl Key {
    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        let derived = |label: &[u8]| {
            let bytes = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), label);
            hmac::Key::new(hmac::HMAC_SHA256, bytes.as_ref())
        };
        Self { salts: derived(b"countersign salts"), digests: derived(b"countersign digests") }
    }

    /// The salt of one text of one action.
    pub(crate) fn salt(&self, action_id: &str, what: What) -> Salt {
        let mut signing = hmac::Context::with_key(&self.salts);
        signing.update(what.as_str().as_bytes());
        signing.update(b"\n");
        signing.update(action_id.as_bytes());
        let mut salt = [0; 32];
        salt.copy_from_slice(signing.sign().as_ref());
        Salt(salt)
    }

    /// A digest that says whether two requests are the same, and nothing to who has no key.
    pub(crate) fn hasher(&self) -> KeyedHasher {
        KeyedHasher(hmac::Context::with_key(&self.digests))
    }
}

/// HMAC-SHA-256 over several pieces as they arrive.
pub(crate) struct KeyedHasher(hmac::Context);

impl KeyedHasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> Digest {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.sign().as_ref());
        Digest::from_bytes(bytes)
    }
}

/// A text with its salt: what proves that a record speaks of it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Opening {
    pub(crate) action_id: String,
    pub(crate) what: What,
    pub(crate) salt: Salt,
    pub(crate) text: Vec<u8>,
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opening({}, {}, [redacted])", self.action_id, self.what.as_str())
    }
}

impl Opening {
    pub(crate) fn commitment(&self) -> Digest {
        self.salt.commit(self.what, &self.text)
    }

    /// One line of JSON, without line feed.
    pub(crate) fn to_line(&self) -> String {
        let (form, text) = match std::str::from_utf8(&self.text) {
            Ok(text) => ("text", text.to_owned()),
            Err(_) => ("base64", STANDARD.encode(&self.text)),
        };
        let salt = hex(&self.salt.0);
        canonical_json(&json!({"action_id": self.action_id, form: text, "salt": salt, "what": self.what.as_str()}))
    }

    /// Reads what [`Opening::to_line`] wrote; `None` when it is no opening.
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        let members: Map<String, Value> = serde_json::from_slice(line).ok()?;
        let text = |name: &str| members.get(name)?.as_str();
        let what = text("what")?;
        Some(Self {
            action_id: text("action_id")?.to_owned(),
            what: What::ALL.into_iter().find(|it| it.as_str() == what)?,
            salt: Salt(*Digest::parse(text("salt")?)?.as_bytes()),
            text: match (text("text"), text("base64")) {
                (Some(text), None) => text.as_bytes().to_vec(),
                (None, Some(encoded)) => STANDARD.decode(encoded).ok()?,
                _ => return None,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commitment_is_what_the_format_says() {
        let salt = Key::new(&[7; 32]).salt("a_1", What::Statement);
        let said = [b"countersign-commitment/v1\nstatement\n".as_slice(), &salt.0, b"SELECT 1"].concat();
        assert_eq!(salt.commit(What::Statement, b"SELECT 1"), crate::digest::sha256(&said));
    }

    #[test]
    fn each_text_has_a_salt_of_its_own() {
        let key = Key::new(&[7; 32]);
        let salt = key.salt("a_1", What::Statement);
        assert_eq!(salt, key.salt("a_1", What::Statement));
        assert_ne!(salt, key.salt("a_2", What::Statement));
        assert_ne!(salt, key.salt("a_1", What::Values));
        assert_ne!(salt, Key::new(&[8; 32]).salt("a_1", What::Statement));
        assert_ne!(salt.commit(What::Statement, b"a"), salt.commit(What::Statement, b"b"));
        assert_ne!(salt.commit(What::Statement, b"a"), salt.commit(What::Modified, b"a"));
    }

    #[test]
    fn a_digest_needs_the_key() {
        let of = |secret: u8| {
            let mut hasher = Key::new(&[secret; 32]).hasher();
            hasher.update(b"a");
            hasher.finish()
        };
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        assert_ne!(of(1), crate::digest::sha256(b"a"));
    }

    #[test]
    fn an_opening_is_read_as_it_was_written() {
        for text in [b"SELECT 'a\n'".as_slice(), b"\xff\0"] {
            let salt = Key::new(&[7; 32]).salt("a_1", What::Values);
            let opening = Opening { action_id: "a_1".to_owned(), what: What::Values, salt, text: text.to_vec() };
            assert_eq!(Opening::parse(opening.to_line().as_bytes()), Some(opening.clone()));
            assert!(!format!("{opening:?}").contains("SELECT"), "{opening:?}");
        }
        assert_eq!(Opening::parse(b"{}"), None);
    }
}
