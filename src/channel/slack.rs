//! Slack: a message for each hold, kept up to date, with buttons to decide it.
//!
//! A message stands in one channel of one workspace; its thread tells what happened, in order. [`blocks`] and [`dialog`]
//! draw what a person sees, [`inbound`] takes what they click, [`click`] what it means, [`member`] who they are. Whether
//! that person may decide is the gate's to say; to be in the channel entitles nobody.

use std::time::Duration;

use http::Uri;
use serde_json::{Value, json};

use crate::card::{Card, vote_line};
use crate::credential::source::SecretSource;
use crate::gate::HoldView;
use crate::net::courier::Courier;
use crate::notice::{Board, Failure, News, Notice, Showing};
use crate::time::Clock;

mod blocks;
mod click;
mod dialog;
mod inbound;
mod member;
mod web;

pub(crate) use inbound::Inbound;

use web::{CallError, Web};

/// One channel of a workspace.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Of the Web API: `https://slack.com/api`, or that of GovSlack.
    pub(crate) api: Uri,
    /// Id of the channel, `C…` or `G…`.
    pub(crate) channel: String,
    /// The app's bot token, `xoxb-…`.
    pub(crate) token: SecretSource,
    /// Id of the workspace whose members decide, `T…`, or of their organization, `E…`.
    pub(crate) workspace: String,
    /// What Slack signs interactions with; several, one a line, while it is replaced. None: messages have no buttons.
    pub(crate) signing_secret: SecretSource,
    /// Whether members are known by the e-mail address that they confirmed, besides by their configured accounts.
    pub(crate) map_by_email: bool,
}

/// One channel of Slack, with messages for holds.
pub(crate) struct Slack {
    channel: String,
    workspace: String,
    signing_secret: SecretSource,
    map_by_email: bool,
    web: Web,
    clock: Clock,
}

/// Where a hold stands: channel, the message's timestamp, and how much of its history the thread tells.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    channel: String,
    ts: String,
    told: usize,
}

impl Slack {
    pub(crate) fn new(options: Options, courier: Courier, clock: Clock) -> Self {
        let Options { api, channel, token, workspace, signing_secret, map_by_email } = options;
        Self { channel, workspace, signing_secret, map_by_email, web: Web::new(api, token, courier), clock }
    }

    async fn tell(&self, hold: &HoldView, news: News, place: Option<Place>) -> Result<Place, CallError> {
        let card = Card::of(hold, self.clock.now());
        let message = blocks::message(&card, self.signing_secret != SecretSource::None);
        let history = history(hold, &card);
        let mut place = match place {
            None => return self.post(&message, history.len()).await,
            Some(place) => match self.web.call("chat.update", &at(&place, message.json())).await {
                // Somebody took the message away; people still have to see an open hold.
                Err(CallError::Refused { error, .. }) if error == "message_not_found" => {
                    return if hold.state.is_over() { Ok(place) } else { self.post(&message, history.len()).await };
                }
                answer => answer.map(|_| place)?,
            },
        };
        let mut lines: Vec<String> = history.into_iter().skip(place.told).collect();
        let told = place.told + lines.len();
        if news != News::State {
            lines.push(told_again(hold, news, self.clock.now().since(hold.opened)));
        }
        if !lines.is_empty() {
            let mut reply = blocks::thread(&lines).fresh();
            merge(&mut reply, json!({ "channel": place.channel, "thread_ts": place.ts }));
            merge(&mut reply, json!({ "reply_broadcast": news != News::State }));
            self.web.call("chat.postMessage", &reply).await?;
            place.told = told;
        }
        Ok(place)
    }

    async fn post(&self, message: &blocks::Message, told: usize) -> Result<Place, CallError> {
        let mut message = message.fresh();
        merge(&mut message, json!({ "channel": self.channel }));
        let answer = self.web.call("chat.postMessage", &message).await?;
        let text = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
        // The answer's channel is the one that `chat.update` wants.
        match (text("channel"), text("ts")) {
            (Some(channel), Some(ts)) => Ok(Place { channel, ts, told }),
            _ => Err(CallError::Unclear("it answered without `channel` and `ts`".to_owned())),
        }
    }
}

impl Board for Slack {
    fn show<'a>(&'a self, notice: Notice<'a>, place: Option<&'a str>) -> Showing<'a> {
        let place = place.and_then(Place::parse);
        Box::pin(async move {
            let shown = match (notice, place) {
                (Notice::Hold(hold, news), place) => self.tell(hold, news, place).await,
                (Notice::Gone(id), Some(place)) => {
                    let message = at(&place, blocks::gone(id).json());
                    self.web.call("chat.update", &message).await.map(|_| place)
                }
                (Notice::Gone(_), None) => return Ok(String::new()),
            };
            shown.map(|place| place.to_string()).map_err(Failure::from)
        })
    }
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let (channel, ts, told) = (parts.next()?, parts.next()?, parts.next()?.parse().ok()?);
        Some(Self { channel: channel.to_owned(), ts: ts.to_owned(), told })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.channel, self.ts, self.told)
    }
}

/// What happened to a hold, in order. It only grows.
fn history(hold: &HoldView, card: &Card) -> Vec<String> {
    let mut lines: Vec<String> = hold.votes.iter().map(vote_line).collect();
    if hold.state.is_over() {
        lines.extend(card.ended().map(|text| format!("It is over: {text}.")));
    }
    lines
}

fn told_again(hold: &HoldView, news: News, waits: Duration) -> String {
    let names: Vec<_> = hold.eligible.iter().map(|person| person.as_str()).collect();
    let begin = if news == News::Escalated { "More people are asked now" } else { "Nobody has decided this yet" };
    format!("{begin}; it waits since {} min. May decide now: {}.", waits.as_secs() / 60, names.join(", "))
}

fn at(place: &Place, mut message: Value) -> Value {
    merge(&mut message, json!({ "channel": place.channel, "ts": place.ts }));
    message
}

fn merge(value: &mut Value, more: Value) {
    if let (Value::Object(members), Value::Object(more)) = (value, more) {
        members.extend(more);
    }
}

#[cfg(test)]
mod tests;
