//! The HTML of the pages. [`Html`] is the only thing that becomes markup, and takes texts only escaped.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::Value;

use crate::card::{Card, Field, Part, escaped_json, reindented, visible};
use crate::gate::{DecideError, HoldView};
use crate::hold::{HoldState, Vote, Word};
use crate::id::PersonId;
use crate::net::body::AnswerBody;
use crate::signin::Claimed;
use crate::time::Timestamp;

/// Markup under way.
struct Html(String);

impl Html {
    fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Text, or the value of an attribute in double quotes.
    fn text(&mut self, text: &str) -> &mut Self {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                other => self.0.push(other),
            }
        }
        self
    }

    fn number(&mut self, number: impl std::fmt::Display) -> &mut Self {
        self.text(&number.to_string())
    }
}

/// The page of one hold for that person.
pub(super) fn hold(hold: &HoldView, person: &PersonId, may: &May, now: Timestamp) -> Response<AnswerBody> {
    let card = Card::of(hold, now);
    let mut html = begin(&format!("{} {}", hold.state.as_str(), hold.id), Some(person));
    html.raw("<main id=\"hold\" data-hold=\"").text(hold.id.as_str());
    html.raw("\" data-digest=\"").text(&hold.digest.hex());
    html.raw("\">\n<header class=\"about\"><p id=\"state\" role=\"status\" class=\"state ").text(hold.state.as_str());
    html.raw("\">").text(&sentence(hold)).raw("</p>\n");
    html.raw("<h1 id=\"title\">").text(&card.title).raw("</h1>\n<div id=\"left\">\n");
    if hold.state == HoldState::Pending {
        html.raw("<p class=\"left\">").raw("<span data-expires=\"").text(&hold.expires.rfc3339());
        html.raw("\">Until ").text(&hold.expires.rfc3339()).raw("</span></p>\n");
        html.raw("<p class=\"jump\"><a href=\"#decide\">To the decision</a></p>\n");
    }
    html.raw("</div>\n</header>\n<div id=\"card\">\n");
    parts(&mut html, &card);
    html.raw("</div>\n<aside id=\"decide\" aria-label=\"Your decision\">\n");
    decide(&mut html, hold, person, may);
    html.raw("</aside>\n</main>\n");
    end(html, StatusCode::OK)
}

/// What became of it, in one sentence.
fn sentence(hold: &HoldView) -> String {
    let by = |word: Word| {
        let names = hold.votes.iter().filter(|vote| !vote.void && vote.word == word).map(|vote| vote.person.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    match hold.state {
        HoldState::Pending if hold.attached == 0 => "Pending; the agent's client is not connected now".to_owned(),
        HoldState::Pending => "Pending; the agent's client waits".to_owned(),
        HoldState::Approved => format!("Approved by {}; not run yet", by(Word::Allow)),
        HoldState::Forwarding => "Approved; it is being sent now".to_owned(),
        HoldState::Executed => match hold.upstream_status {
            Some(status) => format!("It ran; the upstream answered with {status}"),
            None => "It ran".to_owned(),
        },
        HoldState::Ended(ending) if hold.votes.iter().any(|vote| !vote.void && vote.word == Word::Deny) => {
            format!("{} by {}; nothing ran", capital(ending.as_str()), by(Word::Deny))
        }
        HoldState::Ended(ending) => capital(ending.as_str()),
    }
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn parts(html: &mut Html, card: &Card) {
    let mut is_open = false;
    let mut parts = card.parts.iter().peekable();
    while let Some(part) = parts.next() {
        match part {
            Part::Field(field, text) => {
                if is_open {
                    html.raw("</section>\n");
                }
                is_open = true;
                html.raw("<section class=\"").raw(field.as_str()).raw("\"><h2>").text(&capital(heading(*field)));
                html.raw("</h2>\n<p>").text(text).raw("</p>\n");
            }
            Part::Said(text) => {
                html.raw("<p>").text(text).raw("</p>\n");
            }
            Part::Quoted(text) => {
                html.raw("<pre tabindex=\"0\" aria-label=\"as sent\">").text(text);
                while let Some(Part::Quoted(more)) = parts.peek() {
                    html.raw("\n").text(more);
                    parts.next();
                }
                html.raw("</pre>\n");
            }
            Part::Claimed(text) => {
                html.raw("<blockquote aria-label=\"said by the agent, not verified\"><p>").text(text).raw("</p>");
                while let Some(Part::Claimed(more)) = parts.peek() {
                    html.raw("<p>").text(more).raw("</p>");
                    parts.next();
                }
                html.raw("</blockquote>\n");
            }
        }
    }
    if is_open {
        html.raw("</section>\n");
    }
}

const fn heading(field: Field) -> &'static str {
    match field {
        Field::Decide => "who decides",
        Field::Request => "the request",
        Field::Time => "time left",
        other => other.as_str(),
    }
}

/// What the gate says a person may do about a hold now; else why not.
pub(super) struct May {
    pub(super) allow: Result<(), DecideError>,
    pub(super) deny: Result<(), DecideError>,
    pub(super) modify: Result<(), DecideError>,
}

/// The form, or why there is none.
fn decide(html: &mut Html, hold: &HoldView, person: &PersonId, may: &May) {
    html.raw("<h2>Decide</h2>\n");
    if !hold.votes.is_empty() {
        html.raw("<ul class=\"votes\">\n");
        for vote in &hold.votes {
            html.raw("<li><strong>").text(vote.person.as_str()).raw("</strong> ").text(spoken(vote.word));
            html.raw(if vote.void { " (void: the request was changed after it)" } else { "" });
            html.raw(": <q>").text(&visible(&vote.reason)).raw("</q></li>\n");
        }
        html.raw("</ul>\n");
    }
    if hold.state.is_over() || hold.state == HoldState::Forwarding {
        html.raw("<p>Nothing is left to decide here.</p>\n");
        return;
    }
    if let Err(why) = &may.allow {
        let is_theirs = |vote: &Vote| !vote.void && vote.word != Word::Deny && vote.person == *person;
        let why = match hold.votes.iter().any(is_theirs) {
            true => "You have allowed it; it takes more people.".to_owned(),
            false => format!("You cannot allow it: {why}."),
        };
        html.raw("<p class=\"why\">").text(&why);
        let names = hold.eligible.iter().map(PersonId::as_str).collect::<Vec<_>>().join(", ");
        if !names.is_empty() {
            html.raw(" These can: ").text(&names).raw(".");
        }
        html.raw("</p>\n");
    }
    if may.allow.is_err() && may.deny.is_err() && may.modify.is_err() {
        return;
    }
    html.raw(
        "<form id=\"form\" autocomplete=\"off\">\n<label for=\"reason\">Reason, for the agent and the log</label>\n",
    );
    html.raw("<textarea id=\"reason\" name=\"reason\" rows=\"3\" maxlength=\"2000\" required></textarea>\n");
    html.raw("<p class=\"buttons\">");
    if may.allow.is_ok() {
        html.raw("<button type=\"button\" id=\"allow\" data-verdict=\"allow\">Allow once</button> ");
    }
    if may.deny.is_ok() {
        html.raw("<button type=\"button\" id=\"deny\" data-verdict=\"deny\">Deny</button>");
    }
    html.raw("</p>\n");
    html.raw("<p class=\"digest\">Your verdict is bound to <code>").text(&hold.digest.hex()).raw("</code></p>\n");
    if may.modify.is_ok() {
        modify(html, hold);
    }
    html.raw("</form>\n");
}

/// The parameters, each in a field of its own: text as it is, anything else as JSON.
fn modify(html: &mut Html, hold: &HoldView) {
    let Some(action) = hold.actions.first().filter(|action| !action.parameters.is_empty()) else { return };
    html.raw("<details id=\"modify\"><summary>Allow something smaller</summary>\n");
    html.raw(
        "<p>Change what would run, look at the difference, then send it. A field that you empty is left out.</p>\n",
    );
    for (index, (name, value)) in action.parameters.iter().enumerate() {
        if action.sensitive.contains(name) {
            html.raw("<p>").text(&visible(name)).raw(" is a secret and stays as it is.</p>\n");
            continue;
        }
        let (kind, text) = editable(value);
        html.raw("<label for=\"p").number(index).raw("\">").text(&visible(name)).raw("</label>\n");
        html.raw("<textarea spellcheck=\"false\" class=\"parameter\" id=\"p").number(index);
        html.raw("\" name=\"").text(name).raw("\" data-kind=\"").text(kind);
        html.raw("\" rows=\"").number(text.lines().count().clamp(1, 16)).raw("\">\n").text(&text);
        html.raw("</textarea>\n");
    }
    html.raw("<p class=\"buttons\"><button type=\"button\" id=\"preview\">Show the difference</button></p>\n");
    html.raw("<div id=\"difference\" role=\"status\"></div>\n</details>\n");
}

/// A value as it is to be edited: plain text as it is, a document in lines, anything else as JSON. In a field no
/// character can be marked, so what would hide one or move others is escaped, and that takes JSON.
fn editable(value: &Value) -> (&'static str, String) {
    let json = |value: &Value| ("json", escaped_json(&serde_json::to_string_pretty(value).unwrap_or_default()));
    let Value::String(text) = value else { return json(value) };
    match reindented(text) {
        // Text that is JSON stays so with its escapes.
        Some(document) => ("text", escaped_json(&document)),
        None if escaped_json(&text.replace(['\t', '\r'], " ")).len() == text.len() => ("text", text.clone()),
        None => json(value),
    }
}

const fn spoken(word: Word) -> &'static str {
    match word {
        Word::Allow => "allowed it",
        Word::Deny => "denied it",
        Word::Modify => "changed it",
    }
}

/// What is pending: first what this person can decide.
pub(super) fn inbox(holds: &[HoldView], person: &PersonId, now: Timestamp) -> Response<AnswerBody> {
    let mut html = begin("Pending holds", Some(person));
    html.raw("<main id=\"inbox\">\n<h1>Pending holds</h1>\n<p id=\"state\" role=\"status\" class=\"live\"></p>\n");
    html.raw("<div id=\"card\">\n");
    let pending = || holds.iter().filter(|hold| hold.state == HoldState::Pending);
    let (mine, others): (Vec<_>, Vec<_>) = pending().partition(|hold| hold.eligible.contains(person));
    html.raw("<h2>For you</h2>\n");
    list(&mut html, &mine, "Nothing waits for you.", now);
    if !others.is_empty() {
        html.raw("<h2>For others</h2>\n");
        list(&mut html, &others, "", now);
    }
    let ended: Vec<_> = holds.iter().rev().filter(|hold| hold.state != HoldState::Pending).take(ENDED_SHOWN).collect();
    if !ended.is_empty() {
        html.raw("<h2>Decided or ended lately</h2>\n");
        list(&mut html, &ended, "", now);
    }
    html.raw("</div>\n</main>\n");
    end(html, StatusCode::OK)
}

fn list(html: &mut Html, holds: &[&HoldView], none: &'static str, now: Timestamp) {
    if holds.is_empty() {
        html.raw("<p>").raw(none).raw("</p>\n");
        return;
    }
    html.raw("<ul class=\"holds\">\n");
    for hold in holds.iter().take(LISTED) {
        html.raw("<li><a href=\"/holds/").text(hold.id.as_str()).raw("\">");
        html.text(&Card::of(hold, now).title).raw("</a>\n<span class=\"when\">");
        if hold.state == HoldState::Pending {
            html.raw("<span data-expires=\"").text(&hold.expires.rfc3339()).raw("\">until ");
            html.text(&hold.expires.rfc3339()).raw("</span>");
        } else {
            html.text(&sentence(hold));
        }
        html.raw("</span></li>\n");
    }
    html.raw("</ul>\n");
    if let Some(more) = holds.len().checked_sub(LISTED).filter(|more| *more > 0) {
        html.raw("<p>And ").number(more).raw(" more: <code>countersign holds</code> lists them all.</p>\n");
    }
}

/// A person whom nobody configured: what to tell the operator.
pub(super) fn stranger(claimed: &Claimed) -> Response<AnswerBody> {
    let mut html = begin("Not known here", None);
    html.raw("<main><h1>You are not known here</h1>\n<p>You signed in as</p>\n<pre tabindex=\"0\">issuer: ");
    html.text(&visible(&claimed.issuer)).raw("\nsubject: ").text(&visible(&claimed.subject));
    html.raw(
        "</pre>\n<p>and nobody in the configuration has that account. Ask whoever runs countersign to add it \
              under <code>people</code>.</p>\n",
    );
    html.raw(SIGN_OUT).raw("</main>\n");
    end(html, StatusCode::FORBIDDEN)
}

/// A hold that was, or never was.
pub(super) fn gone(person: &PersonId) -> Response<AnswerBody> {
    let mut html = begin("No such hold", Some(person));
    html.raw(
        "<main><h1>There is no such hold</h1>\n<p>Holds that ended are kept some minutes; the audit log knows \
              them all.</p>\n<p><a href=\"/holds\">What is pending</a></p></main>\n",
    );
    end(html, StatusCode::NOT_FOUND)
}

pub(super) fn signed_out() -> Response<AnswerBody> {
    let mut html = begin("Signed out", None);
    html.raw("<main><h1>You are signed out</h1>\n<p><a class=\"button\" href=\"/holds\">Sign in</a></p></main>\n");
    end(html, StatusCode::OK)
}

/// A sign-in that did not work out.
pub(super) fn retry(status: StatusCode, why: &str, wanted: &str) -> Response<AnswerBody> {
    let mut html = begin("Not signed in", None);
    html.raw("<main><h1>You are not signed in</h1>\n<p>")
        .text(&visible(why))
        .raw("</p>\n<p><a class=\"button\" href=\"");
    html.text(wanted).raw("\">Try again</a></p></main>\n");
    end(html, status)
}

pub(super) fn message(status: StatusCode, title: &'static str, text: &str) -> Response<AnswerBody> {
    let mut html = begin(title, None);
    html.raw("<main><h1>").raw(title).raw("</h1>\n<p>").text(text).raw("</p></main>\n");
    end(html, status)
}

fn begin(title: &str, person: Option<&PersonId>) -> Html {
    let mut html = Html(String::with_capacity(16 * 1024));
    html.raw("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>").text(title);
    html.raw(" · countersign</title>\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    html.raw("<meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"/page.svg\">\n");
    html.raw(
        "<link rel=\"stylesheet\" href=\"/page.css\">\n<script src=\"/page.js\" defer></script>\n</head>\n<body>\n",
    );
    html.raw("<header class=\"site\"><a class=\"name\" href=\"/holds\">countersign</a>\n");
    if let Some(person) = person {
        html.raw("<span class=\"who\">").text(person.as_str()).raw("</span>").raw(SIGN_OUT);
    }
    html.raw(
        "</header>\n<noscript><p class=\"alert\">To decide here, this page needs its script; the command line \
              does without.</p></noscript>\n<div id=\"alert\" role=\"alert\"></div>\n",
    );
    html
}

fn end(mut html: Html, status: StatusCode) -> Response<AnswerBody> {
    html.raw("</body>\n</html>\n");
    let mut response = Response::new(AnswerBody::whole(Bytes::from(html.0)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

const SIGN_OUT: &str = "<form method=\"post\" action=\"/signout\"><button class=\"plain\">Sign out</button></form>\n";
/// Holds in one list at most.
const LISTED: usize = 200;
const ENDED_SHOWN: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_hides_nothing() {
        for (value, kind, text) in [
            ("SELECT 1\r\n\t-- x", "text", "SELECT 1\r\n\t-- x"),
            ("u\u{200b}ser", "json", "\"u\\u200bser\""),
            ("{\"a\":\"\u{202e}b\"}", "text", "{\n  \"a\": \"\\u202eb\"\n}"),
        ] {
            assert_eq!(editable(&value.into()), (kind, text.to_owned()));
        }
        assert_eq!(editable(&serde_json::json!([1])), ("json", "[\n  1\n]".to_owned()));
    }

    #[test]
    fn no_text_becomes_markup() {
        let mut html = Html(String::new());
        html.text("</script><a href='javascript:x' b=\"&\">");
        assert_eq!(html.0, "&lt;/script&gt;&lt;a href=&#39;javascript:x&#39; b=&quot;&amp;&quot;&gt;");
    }
}
