//! Who a person is, as an OpenID provider says: bearer tokens, sign-in in a browser, sessions.
//!
//! It proves an identity and nothing more. Which configured person that is, `people` knows; what that
//! person may decide, the gate alone judges. A token of a service, or one that was exchanged for a
//! person's, proves nobody's presence and is refused here.

mod flow;
mod keys;
mod provider;
mod session;
mod token;

use std::time::Duration;

use http::{HeaderMap, header};

pub(crate) use provider::{Options, Provider};
pub(crate) use session::{Lifetimes, Sessions, secret};
pub(crate) use token::Claimed;

use crate::id::PersonId;
use crate::people::{Account, People};
use crate::time::Timestamp;

/// Everything by which people are signed in.
#[derive(Debug)]
pub(crate) struct SignIn {
    pub(crate) provider: Provider,
    pub(crate) sessions: Sessions,
    pub(crate) terms: Terms,
}

/// What a sign-in is worth here.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    /// Whether an e-mail address that the provider has verified names a person, besides the subject.
    pub(crate) by_verified_email: bool,
    /// How long ago a person who decides may have proven who they are; `None`: any time.
    pub(crate) decide_within: Option<Duration>,
    /// Where people reach the API and the approval page: scheme and host, maybe a port, nothing behind it.
    pub(crate) url: Option<String>,
}

impl SignIn {
    /// The configured person that the provider speaks of.
    pub(crate) fn person(&self, people: &People, claimed: &Claimed) -> Option<PersonId> {
        let account = Account::Oidc { issuer: claimed.issuer.clone(), subject: claimed.subject.clone() };
        let by_email = || people.of_email(claimed.email.as_deref().filter(|_| self.terms.by_verified_email)?);
        people.holder(&account).or_else(by_email).map(|person| person.id.clone())
    }

    /// Whether a browser says that its request comes from a page of ours (RFC 6454, section 7).
    pub(crate) fn is_own_origin(&self, headers: &HeaderMap) -> bool {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        match (origins.next(), origins.next(), &self.terms.url) {
            (Some(origin), None, Some(url)) => origin.as_bytes() == url.as_bytes(),
            _ => false,
        }
    }

    /// Whether the person proved who they are recently enough to decide.
    pub(crate) fn is_recent(&self, claimed: &Claimed, now: Timestamp) -> bool {
        let recently = |within| claimed.authenticated.is_some_and(|at| now.since(at) <= within);
        self.terms.decide_within.is_none_or(recently)
    }
}

/// The secret of a signed-in browser, from its one cookie of ours.
pub(crate) fn browser_secret(headers: &HeaderMap) -> Option<&str> {
    cookie(headers, SESSION_COOKIE)
}

/// The value of the only cookie of that name (RFC 6265, section 4.2.1).
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let fields = headers.get_all(header::COOKIE).iter().filter_map(|field| field.to_str().ok());
    let mut values = fields
        .flat_map(|field| field.split(';'))
        .filter_map(|pair| pair.trim().split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value));
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value),
        _ => None,
    }
}

/// `__Host-`: browsers take and send it only over TLS (or from this very machine), for this host and path alone.
pub(crate) const SESSION_COOKIE: &str = "__Host-countersign";

/// Why nobody is signed in. None of these holds any of the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SignInError {
    /// What was shown proves nothing.
    #[error("the token is not valid: {0}")]
    Invalid(&'static str),
    /// The provider's keys cannot be had, so that nothing can be checked.
    #[error("the OpenID provider is of no use now: {0}")]
    Provider(String),
}

#[cfg(test)]
mod tests;
