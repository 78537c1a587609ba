//! Signatures of chunks: each covers its own bytes and the signature before it, the first one that of the head.

use super::key::SigningKey;
use super::{Key, Presented, ScopeRef};
use crate::digest::{Digest, EMPTY_SHA256};

/// A chain of signatures, to be followed or to be made.
#[derive(Debug)]
pub(crate) struct Chain {
    key: SigningKey,
    /// Date and scope, as each string to sign holds them.
    scope: String,
    /// The signature before, in hexadecimal.
    before: String,
}

impl Chain {
    /// Begins behind the head of a request: `date` and `signature` are its own.
    pub(crate) fn new(key: &Key, date: &str, scope: ScopeRef<'_>, signature: &str) -> Self {
        let signing_key = key.signing_key(scope);
        let ScopeRef { date: day, region, service } = scope;
        let scope = format!("{date}\n{day}/{region}/{service}/aws4_request");
        Self { key: signing_key, scope, before: signature.to_owned() }
    }

    /// The signature of the next chunk, whose data has this hash.
    pub(crate) fn chunk(&mut self, data: Digest) -> &str {
        self.next("AWS4-HMAC-SHA256-PAYLOAD", &format!("{}\n{}", EMPTY_SHA256.digits(), data.digits()))
    }

    /// The signature of the trailer, whose fields have this hash.
    pub(crate) fn trailer(&mut self, fields: Digest) -> &str {
        self.next("AWS4-HMAC-SHA256-TRAILER", &fields.digits())
    }

    fn next(&mut self, what: &str, hashes: &str) -> &str {
        let text = format!("{what}\n{}\n{}\n{hashes}", self.scope, self.before);
        self.before = self.key.sign(&text).to_string();
        &self.before
    }
}

impl Presented {
    /// The chain that the chunks of its body must follow.
    pub(crate) fn chain(&self, key: &Key) -> Chain {
        Chain::new(key, self.amz_date.as_str(), self.scope(), &self.signature.digits())
    }
}
