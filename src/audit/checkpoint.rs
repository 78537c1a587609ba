//! Checkpoints: tree heads as C2SP `tlog-checkpoint` in C2SP `signed-note` form, signed by Ed25519.
//!
//! Parsing is strict: one spelling of each number and each base64 text, so that two readers of the
//! same bytes cannot disagree. Signatures by other keys (witnesses) are let through unread.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

use crate::digest::{Digest, hex, sha256};

/// Longest note that is read.
pub(crate) const MAX_NOTE: usize = 16_384;

/// Signature type of Ed25519 in key ids and key texts.
const ED25519_TYPE: u8 = 1;

/// What begins a signature line: an em dash and a space.
const SIGNATURE_START: &str = "\u{2014} ";

/// A tree head: this log had this many records, with this root hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) origin: String,
    pub(crate) size: u64,
    pub(crate) root: Digest,
}

/// Why a key or a note was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoteError {
    #[error("it is not a C2SP key: expected `name+key id+base64`, as `countersign init` printed it")]
    Key,
    #[error("it is not a signed checkpoint: {0}")]
    Form(&'static str),
    #[error("it is not signed by the key `{0}`")]
    NotSigned(String),
    #[error("its signature by the key `{0}` is wrong")]
    Signature(String),
    #[error("it belongs to the log `{0}`, not to `{1}`")]
    Origin(String, String),
}

/// The public half of a log's key; its name is the log's origin.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct VerifyingKey {
    name: String,
    public: [u8; 32],
}

/// The private half; never shown.
pub(crate) struct SigningKey {
    pair: Ed25519KeyPair,
    seed: Zeroizing<[u8; 32]>,
    public: VerifyingKey,
}

/// True for text fit to name a log: 1 to 128 letters, digits and `./_-:`.
pub(crate) fn is_origin(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || "./_-:".contains(c))
}

impl Checkpoint {
    /// The text that is signed.
    fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64.encode(self.root.as_bytes()))
    }

    fn parse(text: &str) -> Result<Self, NoteError> {
        let mut lines = text.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(NoteError::Form("the text has fewer than three lines"));
        };
        if origin.is_empty() {
            return Err(NoteError::Form("the origin is empty"));
        }
        let size = parse_size(size).ok_or(NoteError::Form("the second line is no tree size"))?;
        let root = BASE64.decode(root).ok().and_then(|bytes| bytes.try_into().ok());
        let root = Digest::from_bytes(root.ok_or(NoteError::Form("the third line is no root hash"))?);
        Ok(Self { origin: origin.to_owned(), size, root })
    }
}

impl VerifyingKey {
    /// Reads a C2SP verifier key; surrounding white space is ignored.
    ///
    /// # Errors
    /// When it is not an Ed25519 key in exactly that form.
    pub(crate) fn parse(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.trim().splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key);
        };
        let public = key_bytes(key).ok_or(NoteError::Key)?;
        let key = Self { name: name.to_owned(), public: *public };
        if !is_origin(name) || hex(&key.id()) != id {
            return Err(NoteError::Key);
        }
        Ok(key)
    }

    /// The log's origin.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Reads a signed checkpoint of this key's log.
    ///
    /// # Errors
    /// When it has another form, is of another log, or its signature by this key is absent or wrong.
    pub(crate) fn open(&self, note: &str) -> Result<Checkpoint, NoteError> {
        if note.len() > MAX_NOTE || note.chars().any(|c| c.is_control() && c != '\n') {
            return Err(NoteError::Form("it is too long, or has control characters"));
        }
        let (text, signatures) = note.rsplit_once("\n\n").ok_or(NoteError::Form("the signature is missing"))?;
        let text = format!("{text}\n");
        let signatures = signatures.strip_suffix('\n').ok_or(NoteError::Form("it does not end with a line feed"))?;
        let mut signed = false;
        for line in signatures.split('\n') {
            let (name, signature) = parse_signature(line)?;
            let (id, signature) = signature.split_at_checked(4).unwrap_or_default();
            if name != self.name || id != self.id() {
                continue;
            }
            UnparsedPublicKey::new(&ED25519, self.public)
                .verify(text.as_bytes(), signature)
                .map_err(|_| NoteError::Signature(self.to_string()))?;
            signed = true;
        }
        if !signed {
            return Err(NoteError::NotSigned(self.to_string()));
        }
        let checkpoint = Checkpoint::parse(&text)?;
        if checkpoint.origin != self.name {
            return Err(NoteError::Origin(checkpoint.origin, self.name.clone()));
        }
        Ok(checkpoint)
    }

    fn id(&self) -> [u8; 4] {
        let mut bytes = format!("{}\n", self.name).into_bytes();
        bytes.push(ED25519_TYPE);
        bytes.extend_from_slice(&self.public);
        let [a, b, c, d, ..] = *sha256(&bytes).as_bytes();
        [a, b, c, d]
    }
}

/// The C2SP verifier key.
impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}+{}", self.name, hex(&self.id()), key_text(&self.public).as_str())
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl SigningKey {
    /// The key of a log made from 32 random bytes. `None` when the origin is not fit for one.
    pub(crate) fn from_seed(origin: &str, seed: Zeroizing<[u8; 32]>) -> Option<Self> {
        if !is_origin(origin) {
            return None;
        }
        let pair = Ed25519KeyPair::from_seed_unchecked(&*seed).ok()?;
        let public = pair.public_key().as_ref().try_into().ok()?;
        Some(Self { pair, seed, public: VerifyingKey { name: origin.to_owned(), public } })
    }

    /// Reads a private key in the text form of Go's note package; surrounding white space is ignored.
    ///
    /// # Errors
    /// When it is anything else.
    pub(crate) fn parse(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.trim().strip_prefix("PRIVATE+KEY+").ok_or(NoteError::Key)?.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key);
        };
        let seed = key_bytes(key).ok_or(NoteError::Key)?;
        let key = Self::from_seed(name, seed).ok_or(NoteError::Key)?;
        if hex(&key.public.id()) == id { Ok(key) } else { Err(NoteError::Key) }
    }

    /// The text form that [`SigningKey::parse`] reads: the secret itself, for the key file only.
    pub(crate) fn expose(&self) -> Zeroizing<String> {
        let (name, id) = (&self.public.name, hex(&self.public.id()));
        Zeroizing::new(format!("PRIVATE+KEY+{name}+{id}+{}", key_text(&self.seed).as_str()))
    }

    pub(crate) fn public(&self) -> &VerifyingKey {
        &self.public
    }

    /// The signed note for a tree head of this key's log.
    pub(crate) fn sign(&self, size: u64, root: Digest) -> String {
        let text = Checkpoint { origin: self.public.name.clone(), size, root }.text();
        let mut signature = self.public.id().to_vec();
        signature.extend_from_slice(self.pair.sign(text.as_bytes()).as_ref());
        format!("{text}\n{SIGNATURE_START}{} {}\n", self.public.name, BASE64.encode(signature))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public)
    }
}

/// A tree size: decimal, no sign, no leading zero, exact in a double.
fn parse_size(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|size| plain && *size < 1 << 53)
}

fn parse_signature(line: &str) -> Result<(&str, Vec<u8>), NoteError> {
    let bad = NoteError::Form("a signature line is malformed");
    let (name, signature) =
        line.strip_prefix(SIGNATURE_START).and_then(|line| line.split_once(' ')).ok_or(bad.clone())?;
    let signature = BASE64.decode(signature).ok().filter(|bytes| bytes.len() > 4 && !name.is_empty()).ok_or(bad)?;
    Ok((name, signature))
}

fn key_bytes(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let bytes = Zeroizing::new(BASE64.decode(text).ok()?);
    let (kind, key) = bytes.split_first()?;
    (*kind == ED25519_TYPE).then(|| key.try_into().ok().map(Zeroizing::new))?
}

fn key_text(key: &[u8; 32]) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new(vec![ED25519_TYPE]);
    bytes.extend_from_slice(key);
    Zeroizing::new(BASE64.encode(&*bytes))
}

#[cfg(test)]
mod tests;
