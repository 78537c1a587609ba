//! Who sends a request: an approver token, a token of the OpenID provider, or a session of the approval page;
//! and a brake on guessing.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::Refusal;
use crate::credential::approver::{ApproverTokens, Scope};
use crate::gate::{Approver, DecideError, Gate};
use crate::signin::{Claimed, SignIn, SignInError, browser_secret};
use crate::time::{Clock, Timestamp};

/// What people are recognized by.
#[derive(Clone)]
pub(super) struct Recognition {
    pub(super) gate: Arc<Gate>,
    pub(super) tokens: Arc<ApproverTokens>,
    pub(super) sign_in: Option<Arc<SignIn>>,
    pub(super) clock: Clock,
}

/// A person who was recognized, and by what.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) approver: Approver,
    proof: Proof,
}

#[derive(Clone, Debug)]
enum Proof {
    /// An approver token, by its id, and what it is good for.
    Token(String, Scope),
    /// A token of the provider.
    Bearer(Claimed),
    /// A browser's secret and who signed in with it.
    Session(String, Claimed),
}

/// Why nobody was recognized.
pub(super) enum Stranger {
    /// Nothing was shown, or nothing that is worth anything.
    Unproven(Option<SignInError>),
    Refused(Refusal),
}

impl Recognition {
    pub(super) async fn recognize(&self, method: &Method, headers: &HeaderMap) -> Result<Caller, Stranger> {
        let Some(token) = bearer_token(headers) else {
            return match headers.contains_key(header::AUTHORIZATION) {
                true => Err(Stranger::Unproven(None)),
                false => self.session(method, headers),
            };
        };
        let now = self.clock.now();
        if let Some(holder) = self.tokens.check(token, now) {
            // A token outlives its person's place in the configuration; requests are not for everybody's eyes.
            if !self.gate.knows(&holder.person) {
                return Err(Stranger::Refused(DecideError::UnknownPerson.into()));
            }
            let approver = Approver { person: holder.person, method: "token", credential: holder.token_id.clone() };
            return Ok(Caller { approver, proof: Proof::Token(holder.token_id, holder.scope) });
        }
        let Some(sign_in) = self.sign_in.as_ref().filter(|_| token.contains('.')) else {
            return Err(Stranger::Unproven(None));
        };
        match sign_in.provider.check(token).await {
            Ok(claimed) => self.caller(sign_in, "oidc", name(&claimed), Proof::Bearer(claimed)),
            Err(error @ SignInError::Invalid(_)) => Err(Stranger::Unproven(Some(error))),
            Err(error @ SignInError::Provider(_)) => {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                Err(Stranger::Refused(Refusal::new(status, "provider_unavailable", &error.to_string())))
            }
        }
    }

    /// A browser sends its cookie with whatever any site makes it send: what changes something must come from
    /// our own page, and what reads something must not come from another.
    fn session(&self, method: &Method, headers: &HeaderMap) -> Result<Caller, Stranger> {
        let (Some(sign_in), Some(secret)) = (&self.sign_in, browser_secret(headers)) else {
            return Err(Stranger::Unproven(None));
        };
        let is_act = method != Method::GET;
        let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
        let is_from_us = site.is_none_or(|site| site == b"same-origin" || (site == b"none" && !is_act));
        if !is_from_us || (is_act && !sign_in.is_own_origin(headers)) {
            let message = "a signed-in browser acts from the approval page alone";
            return Err(Stranger::Refused(Refusal::new(StatusCode::FORBIDDEN, "cross_site", message)));
        }
        let session = sign_in.sessions.find(secret, is_act, self.clock.now()).ok_or(Stranger::Unproven(None))?;
        let name = format!("{} {}", session.id, name(&session.claimed));
        self.caller(sign_in, "page", name, Proof::Session(secret.to_owned(), session.claimed))
    }

    fn caller(
        &self,
        sign_in: &SignIn,
        method: &'static str,
        credential: String,
        proof: Proof,
    ) -> Result<Caller, Stranger> {
        let (Proof::Bearer(claimed) | Proof::Session(_, claimed)) = &proof else {
            return Err(Stranger::Unproven(None));
        };
        match sign_in.person(&self.gate.people(), claimed) {
            Some(person) => Ok(Caller { approver: Approver { person, method, credential }, proof }),
            None => Err(Stranger::Refused(DecideError::UnknownPerson.into())),
        }
    }

    /// Whether the caller's next request would be let in as this one was: streams last for days.
    pub(super) fn still_knows(&self, caller: &Caller) -> bool {
        let (now, people) = (self.clock.now(), self.gate.people());
        let is_same = |sign_in: &SignIn, claimed: &Claimed| {
            sign_in.person(&people, claimed).as_ref() == Some(&caller.approver.person)
        };
        match (&caller.proof, &self.sign_in) {
            (Proof::Token(id, _), _) => self.tokens.is_valid(id, now) && self.gate.knows(&caller.approver.person),
            (Proof::Bearer(claimed), Some(sign_in)) => now < claimed.expires && is_same(sign_in, claimed),
            (Proof::Session(secret, claimed), Some(sign_in)) => {
                sign_in.sessions.find(secret, false, now).is_some() && is_same(sign_in, claimed)
            }
            (_, None) => false,
        }
    }

    /// # Errors
    /// When what was shown is not good for deciding (RFC 6750), or the person must prove anew who they are (RFC 9470).
    pub(super) fn check_decisive(&self, caller: &Caller) -> Result<(), Refusal> {
        let claimed = match &caller.proof {
            Proof::Token(_, Scope::Decide) => return Ok(()),
            Proof::Token(_, Scope::Read) => {
                let message = "this token is good for looking at holds, not for deciding them";
                return Err(Refusal::new(StatusCode::FORBIDDEN, "insufficient_scope", message));
            }
            Proof::Bearer(claimed) | Proof::Session(_, claimed) => claimed,
        };
        match &self.sign_in {
            Some(sign_in) if sign_in.is_recent(claimed, self.clock.now()) => Ok(()),
            _ => Err(Refusal::new(
                StatusCode::UNAUTHORIZED,
                "insufficient_user_authentication",
                "to decide, sign in anew: the provider last asked this person too long ago, or does not say when",
            )),
        }
    }
}

fn name(claimed: &Claimed) -> String {
    format!("{} of {}", claimed.subject, claimed.issuer)
}

/// The token of exactly one well-formed `Authorization: Bearer …` field.
pub(super) fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return None };
    let (scheme, token) = field.to_str().ok()?.split_once(' ')?;
    let is_token = !token.is_empty() && token.len() <= TOKEN_LIMIT_BYTES && token.bytes().all(|b| b.is_ascii_graphic());
    (scheme.eq_ignore_ascii_case("bearer") && is_token).then_some(token)
}

/// Failed authentications by peer in the running minute. It only changes what a failed request is
/// told: a valid token always passes, or one could lock people out from their own address.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    minute: i64,
    by_peer: HashMap<IpAddr, u32>,
}

impl Failures {
    /// Counts one failure; true when the peer has used up this minute's.
    pub(super) fn count(&self, peer: IpAddr, now: Timestamp) -> bool {
        let mut window = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let minute = now.as_seconds().div_euclid(60);
        if window.minute != minute || window.by_peer.len() >= PEERS_LIMIT {
            *window = Window { minute, by_peer: HashMap::new() };
        }
        let failures = window.by_peer.entry(peer).or_default();
        *failures = failures.saturating_add(1);
        *failures > FAILURES_PER_MINUTE
    }
}

/// Longest token: those of a provider list groups and rights.
const TOKEN_LIMIT_BYTES: usize = 8 * 1024;
const FAILURES_PER_MINUTE: u32 = 20;
/// Peers remembered at most; beyond it counting starts anew.
const PEERS_LIMIT: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer_token_is_read_strictly() {
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            bearer_token(&headers).map(str::to_owned)
        };
        assert_eq!(read(&["Bearer abc"]), Some("abc".to_owned()));
        assert_eq!(read(&["bearer abc"]), Some("abc".to_owned()));
        for bad in [&[][..], &["Bearer"], &["Bearer "], &["Bearer a b"], &["Basic abc"], &["Bearer a", "Bearer a"]] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn failures_are_counted_by_peer_and_minute() {
        let failures = Failures::default();
        let [peer, other] = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse().unwrap());
        let now = Timestamp::from_micros(0);
        for _ in 0..FAILURES_PER_MINUTE {
            assert!(!failures.count(peer, now));
        }
        assert!(failures.count(peer, now));
        assert!(!failures.count(other, now));
        assert!(!failures.count(peer, Timestamp::from_micros(60_000_000)));
    }
}
