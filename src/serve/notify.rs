//! The channels of the configuration, each with its notifier.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::channel::api;
use crate::channel::slack::{Inbound, Slack};
use crate::channel::webhook::Webhook;
use crate::config::Config;
use crate::config::channels::{Channel, Channels, Kind};
use crate::gate::Gate;
use crate::net::courier::Courier;
use crate::net::reach::Own;
use crate::notice::{self, Board, Notifier};
use crate::telemetry::Metrics;
use crate::time::Clock;

/// The board of one channel.
///
/// # Errors
/// When its authorities cannot be read.
pub(crate) fn board(
    channels: &Channels,
    channel: &Channel,
    clock: &Clock,
    own: &Own,
) -> anyhow::Result<Arc<dyn Board>> {
    let courier = courier(channels, own)?;
    Ok(match &channel.kind {
        Kind::Slack(options) => Arc::new(Slack::new(options.clone(), courier, clock.clone())),
        Kind::Webhook(options) => Arc::new(Webhook::new(options.clone(), courier, clock.clone(), api::form)),
    })
}

/// Every channel, and where what people click in them arrives, by the channel's name.
pub(super) struct Boards {
    boards: Vec<(notice::Options, Arc<dyn Board>)>,
    pub(super) callbacks: Callbacks,
}

/// What people click, by the last segment of its path.
pub(super) type Callbacks = Arc<BTreeMap<String, Inbound>>;

/// Opens every channel.
///
/// # Errors
/// When the authorities that are trusted cannot be read.
pub(super) fn open(config: &Config, gate: &Arc<Gate>, own: &Own) -> anyhow::Result<Boards> {
    let (clock, channels) = (Clock::default(), &config.channels);
    let (mut boards, mut callbacks) = (Vec::new(), BTreeMap::new());
    for channel in &channels.list {
        let name = channel.notice.name.clone();
        let board = match &channel.kind {
            Kind::Slack(options) => {
                let slack = Arc::new(Slack::new(options.clone(), courier(channels, own)?, clock.clone()));
                callbacks.extend(Inbound::new(&slack, gate).map(|inbound| (name, inbound)));
                slack
            }
            Kind::Webhook(_) => board(channels, channel, &clock, own)?,
        };
        boards.push((channel.notice.clone(), board));
    }
    Ok(Boards { boards, callbacks: Arc::new(callbacks) })
}

impl Boards {
    /// Starts to tell every channel of holds; the tasks end by themselves once `stopping` says so.
    pub(super) fn start(
        self,
        config: &Config,
        gate: &Arc<Gate>,
        metrics: &Arc<Metrics>,
        stopping: &watch::Receiver<bool>,
        tasks: &mut JoinSet<()>,
    ) {
        for (options, board) in self.boards {
            let (gate, metrics) = (Arc::clone(gate), Arc::clone(metrics));
            let notifier = Notifier::open(options, board, gate, Clock::default(), metrics, &config.data);
            tasks.spawn(notifier.run(stopping.clone()));
        }
    }
}

fn courier(channels: &Channels, own: &Own) -> anyhow::Result<Courier> {
    Courier::new(channels.extra_ca.as_deref(), own.clone()).context("`channels.extra_ca`")
}
