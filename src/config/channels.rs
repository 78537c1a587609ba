//! What is said about the channels by which people hear of holds.

use std::path::PathBuf;

use http::Uri;

use super::page::Page;
use super::schema::{PLAIN_NAME, group};
use super::secret;
use crate::channel::webhook;
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
    Webhook(webhook::Options),
}

pub(super) fn read(page: &mut Page<'_>) -> Channels {
    let extra_ca = page.optional("extra_ca", |node, problems| node.text(problems).map(str::to_owned));
    let extra_ca = extra_ca.map(|file| page.resolve(&file));
    let list = page.named("webhooks", "a webhook", webhook);
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
