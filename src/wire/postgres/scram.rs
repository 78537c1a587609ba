//! The server's side of SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677; PostgreSQL docs,
//! section 55.3).
//!
//! The secrets behind it are random, so the password is not prepared (RFC 4013 changes nothing of
//! letters and digits) and the iterations protect nothing; they are what clients insist on.

use aws_lc_rs::{hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::digest::sha256;
use crate::secret::{Secret, same};

pub(crate) const PLAIN: &str = "SCRAM-SHA-256";
pub(crate) const PLUS: &str = "SCRAM-SHA-256-PLUS";

/// The longest SASL message a server reads, in bytes.
pub(crate) const MESSAGE_LIMIT: usize = 1024;

/// The least that RFC 7677 allows, and clients accept.
const ITERATIONS: std::num::NonZeroU32 = std::num::NonZeroU32::new(4096).unwrap();

/// Why an exchange fails. Only `Proof` says anything about the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ScramError {
    #[error("the client chose a mechanism that was not offered")]
    Mechanism,
    #[error("the SCRAM message is malformed: {0}")]
    Malformed(&'static str),
    #[error("the client says that no channel binding was offered, but it was: somebody may sit in between")]
    Downgrade,
    #[error("the client is bound to another TLS connection than this: somebody may sit in between")]
    Binding,
    #[error("the SCRAM message asks for what is not supported: {0}")]
    Unsupported(&'static str),
    #[error("the SCRAM nonce is not the one of this exchange")]
    Nonce,
    #[error("the password is wrong")]
    Proof,
}

/// The mechanisms to offer, in the order of preference; those that need the certificate only with it.
pub(crate) fn offered(is_bindable: bool) -> &'static [&'static str] {
    if is_bindable { &[PLUS, PLAIN] } else { &[PLAIN] }
}

/// An exchange after its first two messages.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// Client-first-bare, server-first and a comma after each: the beginning of what is signed.
    signed: String,
    nonce: String,
    /// What the client must have been bound to: its header and the certificate's hash.
    binding: Vec<u8>,
    salt: [u8; 16],
}

impl Exchange {
    /// Reads the client's first message and answers it. `end_point` is the `tls-server-end-point` of
    /// the certificate the client was shown, where [`offered`] said that binding is possible. `nonce`
    /// must be printable, without comma, and never used before.
    ///
    /// # Errors
    /// When the message is malformed, or its channel binding is not what was offered.
    pub(crate) fn begin(
        mechanism: &[u8],
        client_first: &[u8],
        end_point: Option<&[u8]>,
        salt: [u8; 16],
        nonce: &str,
    ) -> Result<(Self, String), ScramError> {
        let is_plus = match mechanism {
            it if it == PLAIN.as_bytes() => false,
            it if it == PLUS.as_bytes() && end_point.is_some() => true,
            _ => return Err(ScramError::Mechanism),
        };
        let text = read_text(client_first)?;
        let (flag, rest) = text.split_once(',').ok_or(ScramError::Malformed("it has no header"))?;
        let (identity, bare) = rest.split_once(',').ok_or(ScramError::Malformed("its header does not end"))?;
        let mut binding = format!("{flag},{identity},").into_bytes();
        match (flag, is_plus, end_point) {
            ("p=tls-server-end-point", true, Some(end_point)) => binding.extend_from_slice(end_point),
            ("y", false, Some(_)) => return Err(ScramError::Downgrade),
            ("n" | "y", false, _) => {}
            ("n" | "y", true, _) => return Err(ScramError::Malformed("its mechanism binds, its header does not")),
            ("p=tls-server-end-point", false, _) => {
                return Err(ScramError::Malformed("its header binds, its mechanism does not"));
            }
            (flag, ..) if flag.starts_with("p=") => return Err(ScramError::Unsupported("that channel binding")),
            _ => return Err(ScramError::Malformed("its channel binding flag is none")),
        }
        if !identity.is_empty() {
            return Err(ScramError::Unsupported("an authorization identity"));
        }
        if bare.starts_with("m=") {
            return Err(ScramError::Unsupported("a mandatory extension"));
        }
        // The user is that of the startup packet; clients send none, or the same, here.
        let (user, rest) = bare.split_once(',').ok_or(ScramError::Malformed("it has no nonce"))?;
        let client_nonce = rest.split(',').next().and_then(|it| it.strip_prefix("r="));
        let client_nonce = client_nonce.filter(|_| user.starts_with("n=")).filter(|it| is_nonce(it));
        let client_nonce = client_nonce.ok_or(ScramError::Malformed("it has no user or no nonce"))?;

        let nonce = format!("{client_nonce}{nonce}");
        let server_first = format!("r={nonce},s={},i={ITERATIONS}", STANDARD.encode(salt));
        let signed = format!("{bare},{server_first},");
        Ok((Self { signed, nonce, binding, salt }, server_first))
    }

    /// Reads the client's last message and compares its proof; the server's last message. The work
    /// is the same whether or not there is such a user: without one, call it with a secret that nobody knows.
    ///
    /// # Errors
    /// When the message is malformed, of another exchange, or proves another secret.
    pub(crate) fn finish(self, client_final: &[u8], secret: &Secret) -> Result<String, ScramError> {
        let text = read_text(client_final)?;
        let (unproven, proof) = text.rsplit_once(",p=").ok_or(ScramError::Malformed("it has no proof"))?;
        let mut attributes = unproven.split(',');
        let binding = attributes.next().and_then(|it| it.strip_prefix("c="));
        let nonce = attributes.next().and_then(|it| it.strip_prefix("r="));
        let (Some(binding), Some(nonce)) = (binding, nonce) else {
            return Err(ScramError::Malformed("it has no channel binding or no nonce"));
        };
        if !same(nonce.as_bytes(), self.nonce.as_bytes()) {
            return Err(ScramError::Nonce);
        }
        let binding =
            STANDARD.decode(binding).map_err(|_| ScramError::Malformed("its channel binding is no base64"))?;
        if !same(&binding, &self.binding) {
            return Err(ScramError::Binding);
        }
        let proof = STANDARD.decode(proof).ok().and_then(|proof| <[u8; 32]>::try_from(proof).ok());
        let proof = proof.ok_or(ScramError::Malformed("its proof is no base64 of 32 bytes"))?;

        let mut salted = zeroize::Zeroizing::new([0; 32]);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ITERATIONS, &self.salt, secret.expose().as_bytes(), &mut *salted);
        let signed = format!("{}{unproven}", self.signed);
        let client_key = mac(&*salted, b"Client Key");
        let stored_key = sha256(client_key.as_ref());
        let signature = mac(stored_key.as_bytes(), signed.as_bytes());
        let mut expected = [0; 32];
        for ((byte, key), signature) in expected.iter_mut().zip(client_key.as_ref()).zip(signature.as_ref()) {
            *byte = key ^ signature;
        }
        if !same(&proof, &expected) {
            return Err(ScramError::Proof);
        }
        let server_key = mac(&*salted, b"Server Key");
        Ok(format!("v={}", STANDARD.encode(mac(server_key.as_ref(), signed.as_bytes()))))
    }
}

fn mac(key: &[u8], message: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message)
}

/// A nonce as RFC 5802 spells it: printable ASCII without comma.
fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

fn read_text(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > MESSAGE_LIMIT {
        return Err(ScramError::Malformed("it is too long"));
    }
    std::str::from_utf8(message).map_err(|_| ScramError::Malformed("it is no text"))
}

#[cfg(test)]
mod tests;
