//! What is said about the channels by which people hear of holds.

use std::collections::BTreeSet;
use std::path::PathBuf;

use http::Uri;

use super::page::{Page, spelled};
use super::schema::{PLAIN_NAME, group};
use super::secret;
use crate::channel::{slack, webhook};
use crate::id::{GroupId, is_plain_name};
use crate::net::courier::endpoint;
use crate::notice;
use crate::yaml::{Diagnostic, Entry, Node, Problems};

/// Every channel that is configured.
#[derive(Clone, Debug)]
pub(crate) struct Channels {
    /// Roots to trust besides the platform's.
    pub(crate) extra_ca: Option<PathBuf>,
    pub(crate) list: Vec<Channel>,
}

/// One channel: whom it is for, and what it is.
#[derive(Clone, Debug)]
pub(crate) struct Channel {
    pub(crate) notice: notice::Options,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Slack(slack::Options),
    Webhook(webhook::Options),
}

pub(super) fn read(page: &mut Page<'_>) -> Channels {
    let extra_ca = page.optional("extra_ca", |node, problems| node.text(problems).map(str::to_owned));
    let extra_ca = extra_ca.map(|file| page.resolve(&file));
    let mut list = page.named("webhooks", "a webhook", webhook);
    list.extend(page.named("slack", "a channel of Slack", slack_channel));
    let mut names = BTreeSet::new();
    for channel in &list {
        if !names.insert(&channel.notice.name) {
            let message = format!("two channels are called `{}`", channel.notice.name);
            page.report("slack", Diagnostic::error, &message, "what was told is kept under a channel's name");
        }
    }
    Channels { extra_ca, list }
}

fn webhook(page: &mut Page<'_>, entry: &Entry) -> Option<Channel> {
    let notice = notice(page, entry);
    let url = page.optional("url", url);
    if url.is_none() {
        page.report(
            "url",
            Diagnostic::error,
            "a webhook needs a `url`",
            "`url: https://hooks.example.com/countersign`",
        );
    }
    let secret = secret::source(page, ["secret_file", "secret_env", "secret_command"]);
    Some(Channel { notice, kind: Kind::Webhook(webhook::Options { url: url?, secret }) })
}

fn slack_channel(page: &mut Page<'_>, entry: &Entry) -> Option<Channel> {
    let notice = notice(page, entry);
    let default = Uri::from_static("https://slack.com/api");
    let api = page.value("api", default, url, |uri| spelled(&uri.to_string()));
    let channel = id(page, "channel", &["C", "G"], "the id of a channel, as its details show it: `C0123ABCD`");
    let token = secret::source(page, ["token_file", "token_env", "token_command"]);
    let workspace = id(
        page,
        "workspace",
        &["T", "E"],
        "the id of the workspace, `T0123ABCD`, or of your organization, `E0123ABCD`",
    );
    let signing_secret = secret::source(page, ["signing_secret_file", "signing_secret_env", "signing_secret_command"]);
    let map_by_email = page.boolean("map_by_email", false);
    let (channel, workspace) = (channel?, workspace?);
    let options = slack::Options { api, channel, token, workspace, signing_secret, map_by_email };
    Some(Channel { notice, kind: Kind::Slack(options) })
}

/// An id that Slack gave; there has to be one.
fn id(page: &mut Page<'_>, key: &'static str, begins: &[&str], help: &str) -> Option<String> {
    let read = |node: &Node, problems: &Problems| node.text(problems).map(str::to_owned);
    let is_id = |id: &String| {
        (2..=32).contains(&id.len())
            && begins.iter().any(|begin| id.starts_with(begin))
            && id.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    };
    let id = page.optional(key, read).filter(is_id);
    if id.is_none() {
        page.report(key, Diagnostic::error, &format!("a channel of Slack needs a `{key}`"), help);
    }
    id
}

/// What all channels have in common.
fn notice(page: &mut Page<'_>, entry: &Entry) -> notice::Options {
    if !is_plain_name(&entry.key) {
        page.problems().error(entry.key_span, format!("`{}` is no name for a channel: {PLAIN_NAME}", entry.key));
    }
    let groups = page.list("groups", &[], group, |text| GroupId::new(text)).into_iter().collect();
    notice::Options { name: entry.key.clone(), groups, remind: page.optional("remind", Node::duration) }
}

/// A URL that secrets may be sent to.
fn url(node: &Node, problems: &Problems) -> Option<Uri> {
    let text = node.text(problems)?;
    let uri = text.parse::<Uri>().ok().filter(|uri| endpoint(uri).is_some());
    if uri.is_none() {
        let finding = Diagnostic::error(problems.source(), node.span, "this is no URL with `https`");
        problems.push(finding.help("`http` is possible to this machine only"));
    }
    uri
}
