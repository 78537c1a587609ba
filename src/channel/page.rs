//! The approval page: one hold at a stable address, and what is pending for the person who looks.
//!
//! It draws and signs people in; it decides nothing. Its one script sends verdicts to the API, with the session's
//! cookie, and so through the same door as everybody's. Whether buttons are shown is a matter of what the gate says
//! about the hold; whether a verdict counts, the gate says again.
//!
//! Nothing on it comes from another site, nothing in it is inline, and every text from outside is escaped twice: so
//! that each character can be seen ([`crate::card::visible`]), and as HTML.

mod html;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header};

use crate::gate::Gate;
use crate::hold::Word;
use crate::id::{HoldId, PersonId};
use crate::net::body::AnswerBody;
use crate::net::listen::Arrived;
use crate::signin::{self, Claimed, SESSION_COOKIE, SignIn, SignInError};
use crate::time::Clock;

/// The pages, over one gate.
pub(crate) struct Page {
    gate: Arc<Gate>,
    sign_in: Arc<SignIn>,
    /// Where people reach it, as a browser spells an origin.
    url: String,
    clock: Clock,
}

/// What a path means.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Route {
    Asset(&'static str, &'static str),
    Begin,
    Callback,
    Hold(HoldId),
    Inbox,
    Out,
    Root,
    SignedOut,
}

/// Who looks.
enum Visitor {
    Known(PersonId),
    /// Signed in, and nobody of the configuration.
    Stranger(Claimed),
    SignedOut,
}

impl Page {
    /// `None` where there is no address at which browsers could find it.
    pub(crate) fn new(gate: Arc<Gate>, sign_in: Arc<SignIn>, clock: Clock) -> Option<Self> {
        let url = sign_in.terms.url.clone()?;
        Some(Self { gate, sign_in, url, clock })
    }

    /// Whether a path is one of the page's; all others are the API's.
    pub(crate) fn serves(path: &str) -> bool {
        Route::find(path).is_some()
    }

    pub(crate) async fn respond(&self, arrived: Arrived) -> Response<AnswerBody> {
        let mut response = self.answer(&arrived).await;
        let headers = response.headers_mut();
        for (name, value) in FIELDS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if self.url.starts_with("https:") {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
        }
        response
    }

    async fn answer(&self, arrived: &Arrived) -> Response<AnswerBody> {
        let Some(route) = Route::find(arrived.uri.path()) else {
            return html::message(StatusCode::NOT_FOUND, "There is no such page", "");
        };
        let served = if route == Route::Out { Method::POST } else { Method::GET };
        if arrived.method != served {
            return html::message(StatusCode::METHOD_NOT_ALLOWED, "This is not done here", "");
        }
        match route {
            Route::Asset(kind, text) => asset(kind, text),
            Route::Begin => self.begin(&arrived.uri).await,
            Route::Callback => self.callback(arrived).await,
            Route::Out => self.sign_out(&arrived.headers),
            Route::Root => redirect("/holds", None),
            Route::SignedOut => html::signed_out(),
            Route::Hold(id) => match self.visitor(&arrived.headers) {
                Visitor::Known(person) => match self.gate.hold(&id) {
                    Some(hold) => {
                        let may = |word| self.gate.may(&id, &person, word);
                        let may =
                            html::May { allow: may(Word::Allow), deny: may(Word::Deny), modify: may(Word::Modify) };
                        html::hold(&hold, &person, &may, self.clock.now())
                    }
                    None => html::gone(&person),
                },
                Visitor::Stranger(claimed) => html::stranger(&claimed),
                Visitor::SignedOut => sign_in_first(&format!("/holds/{id}")),
            },
            Route::Inbox => match self.visitor(&arrived.headers) {
                Visitor::Known(person) => html::inbox(&self.gate.holds(), &person, self.clock.now()),
                Visitor::Stranger(claimed) => html::stranger(&claimed),
                Visitor::SignedOut => sign_in_first("/holds"),
            },
        }
    }

    fn visitor(&self, headers: &HeaderMap) -> Visitor {
        // A page that fetches itself anew is no act of its person.
        let is_act = headers.get("sec-fetch-dest").is_none_or(|dest| dest == "document");
        let find = |secret| self.sign_in.sessions.find(secret, is_act, self.clock.now());
        let Some(session) = signin::browser_secret(headers).and_then(find) else { return Visitor::SignedOut };
        match self.sign_in.person(&self.gate.people(), &session.claimed) {
            Some(person) => Visitor::Known(person),
            None => Visitor::Stranger(session.claimed),
        }
    }

    /// Sends the browser to the provider. The cookie ties the way back to this browser.
    async fn begin(&self, uri: &Uri) -> Response<AnswerBody> {
        let wanted = field(uri, "to").filter(|to| is_page(to)).unwrap_or_else(|| "/holds".to_owned());
        // Half of the time in which it is enough to decide: then there is time left to decide in.
        let max_age = self.sign_in.terms.decide_within.map(|within| within / 2);
        let begun = async {
            let secret = signin::secret()?;
            let back = format!("{}{CALLBACK}", self.url);
            let (url, begun) = self.sign_in.provider.begin(&secret, &back, &wanted, max_age).await?;
            self.sign_in.sessions.remember(&secret, begun, self.clock.now());
            Ok::<_, SignInError>((url, secret))
        };
        match begun.await {
            Ok((url, secret)) => redirect(&url, Some(cookie(STATE_COOKIE, &secret))),
            Err(error) => self.failed(&error),
        }
    }

    /// The browser is back from the provider.
    async fn callback(&self, arrived: &Arrived) -> Response<AnswerBody> {
        let (state, code) = (field(&arrived.uri, "state"), field(&arrived.uri, "code"));
        let cookie_state = signin::cookie(&arrived.headers, STATE_COOKIE);
        // Of another browser, a second time, or too late: nobody is signed in by a link that somebody sent.
        let begun = match (&state, cookie_state) {
            (Some(state), Some(own)) if crate::secret::same(state.as_bytes(), own.as_bytes()) => {
                self.sign_in.sessions.take(own, self.clock.now())
            }
            _ => None,
        };
        let Some(begun) = begun else {
            return html::retry(StatusCode::BAD_REQUEST, "This sign-in was not begun here, or is too old.", "/holds");
        };
        let Some(code) = code else {
            let why = field(&arrived.uri, "error").unwrap_or_else(|| "it gave no code".to_owned());
            return html::retry(StatusCode::FORBIDDEN, &format!("The provider refused: {why}"), &begun.wanted);
        };
        let is_other = field(&arrived.uri, "iss").is_some_and(|issuer| !self.sign_in.provider.is(&issuer));
        if is_other {
            // RFC 9207: one provider's answer must not be given in another's name.
            return html::retry(StatusCode::FORBIDDEN, "Another provider answered.", &begun.wanted);
        }
        let back = format!("{}{CALLBACK}", self.url);
        let opened = match self.sign_in.provider.finish(&code, &back, &begun).await {
            Ok(claimed) => self.sign_in.sessions.open(claimed, self.clock.now()),
            Err(error) => Err(error),
        };
        match opened {
            Ok(secret) => {
                // Whoever was signed in here before is so no more.
                if let Some(before) = signin::browser_secret(&arrived.headers) {
                    self.sign_in.sessions.close(before);
                }
                let mut response = redirect(&begun.wanted, Some(cookie(SESSION_COOKIE, &secret)));
                response.headers_mut().append(header::SET_COOKIE, ended(STATE_COOKIE));
                response
            }
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&self, error: &SignInError) -> Response<AnswerBody> {
        let status = match error {
            SignInError::Invalid(_) => StatusCode::FORBIDDEN,
            SignInError::Provider(_) => StatusCode::BAD_GATEWAY,
        };
        tracing::warn!(%error, "a sign-in failed");
        html::retry(status, &error.to_string(), "/holds")
    }

    fn sign_out(&self, headers: &HeaderMap) -> Response<AnswerBody> {
        if !self.sign_in.is_own_origin(headers) {
            return html::message(StatusCode::FORBIDDEN, "This came from another site", "");
        }
        if let Some(secret) = signin::browser_secret(headers) {
            self.sign_in.sessions.close(secret);
        }
        redirect("/signed-out", Some(ended(SESSION_COOKIE)))
    }
}

impl Route {
    fn find(path: &str) -> Option<Self> {
        Some(match path {
            "/" => Self::Root,
            "/holds" => Self::Inbox,
            "/signin" => Self::Begin,
            CALLBACK => Self::Callback,
            "/signout" => Self::Out,
            "/signed-out" => Self::SignedOut,
            "/page.css" => Self::Asset("text/css", include_str!("page/page.css")),
            "/page.js" => Self::Asset("text/javascript", include_str!("page/page.js")),
            "/page.svg" => Self::Asset("image/svg+xml", include_str!("page/page.svg")),
            _ => {
                let id = path.strip_prefix("/holds/")?;
                is_id(id).then(|| Self::Hold(HoldId::new(id)))?
            }
        })
    }
}

/// Hold ids have one form, so that nothing else can reach a page or a log line through a path.
fn is_id(text: &str) -> bool {
    let is_ulid = |ulid: &str| ulid.len() <= 62 && ulid.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    text.strip_prefix("h_").is_some_and(|ulid| !ulid.is_empty() && is_ulid(ulid))
}

/// Where a sign-in may lead: to pages of ours and nowhere else.
fn is_page(path: &str) -> bool {
    path == "/holds" || path.strip_prefix("/holds/").is_some_and(is_id)
}

fn field(uri: &Uri, name: &str) -> Option<String> {
    let pairs = form_urlencoded::parse(uri.query()?.as_bytes());
    let mut values = pairs.filter(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    // Two of a kind are nobody's good intention.
    values.next().filter(|_| values.next().is_none())
}

fn sign_in_first(wanted: &str) -> Response<AnswerBody> {
    redirect(&format!("/signin?to={wanted}"), None)
}

fn redirect(to: &str, set_cookie: Option<HeaderValue>) -> Response<AnswerBody> {
    let Ok(to) = HeaderValue::from_str(to) else {
        return html::message(StatusCode::BAD_GATEWAY, "The provider's address cannot be used", "");
    };
    let mut response = Response::new(AnswerBody::Empty);
    *response.status_mut() = StatusCode::SEE_OTHER;
    response.headers_mut().insert(header::LOCATION, to);
    if let Some(value) = set_cookie {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    response
}

/// Lax: the links in chats lead here, and so does the provider. What changes something asks where it comes from.
fn cookie(name: &str, secret: &str) -> HeaderValue {
    let text = format!("{name}={secret}; Path=/; Secure; HttpOnly; SameSite=Lax");
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}

fn ended(name: &str) -> HeaderValue {
    let text = format!("{name}=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0");
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}

fn asset(kind: &'static str, text: &'static str) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::whole(Bytes::from_static(text.as_bytes())));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

const CALLBACK: &str = "/signin/callback";
/// Ties a sign-in to the browser that began it.
const STATE_COOKIE: &str = "__Host-countersign-signin";

/// On every answer. Scripts, styles and requests are ours alone, nothing is inline, nobody may frame it.
const FIELDS: [(&str, &str); 8] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
         trusted-types page",
    ),
    ("cache-control", "no-store"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), microphone=(), geolocation=()"),
    // With `no-referrer` a browser says `Origin: null` of our own forms.
    ("referrer-policy", "same-origin"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
];

#[cfg(test)]
mod tests;
