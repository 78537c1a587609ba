//! What a signed token must be to stand for a person: OpenID Connect Core 1.0 (sections 2 and 3.1.3.7), RFC 9068
//! (access tokens), RFC 8725 (best current practice).

use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Number, Value};

use super::SignInError;
use super::keys::Keys;
use crate::time::Timestamp;

/// What a token must say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected<'a> {
    pub(crate) issuer: &'a str,
    /// The token must be for one of these.
    pub(crate) audiences: &'a [String],
    /// Whoever it was issued to, where it says so, must be one of these.
    pub(crate) parties: &'a [String],
    /// The value that a sign-in of ours asked for.
    pub(crate) nonce: Option<&'a str>,
    pub(crate) clock_skew: Duration,
}

/// What a good token says of its person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claimed {
    pub(crate) issuer: String,
    pub(crate) subject: String,
    /// Only one that the provider says it has verified.
    pub(crate) email: Option<String>,
    /// When the person last proved who they are to the provider.
    pub(crate) authenticated: Option<Timestamp>,
    pub(crate) expires: Timestamp,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    exp: Number,
    nbf: Option<Number>,
    iat: Option<Number>,
    aud: Value,
    azp: Option<String>,
    client_id: Option<String>,
    nonce: Option<String>,
    auth_time: Option<Number>,
    email: Option<String>,
    email_verified: Option<Value>,
    /// Present in a token that was exchanged: somebody acts for the person (RFC 8693, section 4.1).
    act: Option<Value>,
    /// How the token was obtained, at Auth0.
    gty: Option<String>,
    /// `app` where nobody was there, at Entra.
    idtyp: Option<String>,
}

/// The algorithm and the key that a token names; nothing of it is to be trusted yet.
///
/// # Errors
/// When it is no token, or one that is signed in a way nobody should take.
pub(super) fn head(token: &str) -> Result<Header, SignInError> {
    // One without a signature, or with an unknown one, does not get through this.
    let header =
        decode_header(token).map_err(|_| SignInError::Invalid("it is no signed token of a known algorithm"))?;
    if !matches!(header.alg, Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA) {
        return Err(SignInError::Invalid("it must be signed by RS256, ES256 or EdDSA"));
    }
    if header.crit.is_some() || header.enc.is_some() || header.zip.is_some() {
        return Err(SignInError::Invalid("its header asks for what is not understood"));
    }
    let kinds = ["jwt", "at+jwt", "application/at+jwt"];
    if header.typ.as_deref().is_some_and(|kind| !kinds.iter().any(|it| kind.eq_ignore_ascii_case(it))) {
        return Err(SignInError::Invalid("it is a token of another kind"));
    }
    Ok(header)
}

/// Checks everything about a token; `None` when it names a key that `keys` do not hold.
pub(super) fn check(
    token: &str,
    header: &Header,
    keys: &Keys,
    expected: &Expected<'_>,
    now: Timestamp,
) -> Option<Result<Claimed, SignInError>> {
    let key = keys.find(header.kid.as_deref(), header.alg)?;
    let mut validation = Validation::new(header.alg);
    validation.set_issuer(&[expected.issuer]);
    validation.set_audience(expected.audiences);
    validation.set_required_spec_claims(&["iss", "sub", "aud", "exp"]);
    // Times are compared below, by the one clock of this process.
    (validation.validate_exp, validation.validate_nbf) = (false, false);
    let claims = decode::<Claims>(token, key, &validation).map_err(|error| {
        SignInError::Invalid(match error.kind() {
            ErrorKind::InvalidSignature => "its signature is not that of the provider",
            ErrorKind::InvalidIssuer => "it is of another issuer",
            ErrorKind::InvalidAudience => "it is for another audience",
            ErrorKind::MissingRequiredClaim(_) => "it lacks a claim that is required",
            _ => "it cannot be read",
        })
    });
    Some(claims.and_then(|data| judge(data.claims, expected, now)))
}

fn judge(claims: Claims, expected: &Expected<'_>, now: Timestamp) -> Result<Claimed, SignInError> {
    let invalid = |why| Err(SignInError::Invalid(why));
    let instant = |number: &Number| seconds(number).ok_or(SignInError::Invalid("it has a time that is none"));
    let (skew, is_later) = (expected.clock_skew, |at: Timestamp| at > now.plus(expected.clock_skew));
    let expires = instant(&claims.exp)?;
    if now >= expires.plus(skew) {
        return invalid("it has expired");
    }
    for begin in [&claims.nbf, &claims.iat].into_iter().flatten() {
        if is_later(instant(begin)?) {
            return invalid("it is not valid yet");
        }
    }
    for party in [&claims.azp, &claims.client_id].into_iter().flatten() {
        if !expected.parties.contains(party) {
            return invalid("it was issued to another client");
        }
        if *party == claims.sub {
            return invalid("it stands for a client, not for a person");
        }
    }
    if claims.azp.is_none() && claims.aud.as_array().is_some_and(|audiences| audiences.len() > 1) {
        let is_access_token = claims.client_id.is_some();
        if !is_access_token {
            return invalid("it is for several audiences and does not say to whom it was issued");
        }
    }
    if claims.act.is_some() {
        return invalid("it was exchanged: somebody acts in the person's place");
    }
    if claims.gty.as_deref().is_some_and(|it| it.contains("client-credentials"))
        || claims.idtyp.as_deref() == Some("app")
    {
        return invalid("it stands for a client, not for a person");
    }
    if expected.nonce.is_some() && claims.nonce.as_deref() != expected.nonce {
        return invalid("it belongs to another sign-in");
    }
    if claims.sub.is_empty() || claims.sub.len() > 255 {
        return invalid("it has no subject");
    }
    let authenticated = claims.auth_time.as_ref().map(instant).transpose()?;
    if authenticated.is_some_and(is_later) {
        return invalid("it is not valid yet");
    }
    let email = claims.email.filter(|_| claims.email_verified == Some(Value::Bool(true)));
    Ok(Claimed { issuer: claims.iss, subject: claims.sub, email, authenticated, expires })
}

/// Seconds since 1970, maybe with a fraction (RFC 7519, section 2).
fn seconds(number: &Number) -> Option<Timestamp> {
    const LATEST: f64 = 253_402_300_800.0;
    let seconds = number.as_f64().filter(|it| (0.0..LATEST).contains(it))?;
    #[expect(clippy::cast_possible_truncation, reason = "bounded above; parts of a microsecond do not matter")]
    Some(Timestamp::from_micros((seconds * 1e6) as i64))
}
