//! The channels of the configuration, each with its notifier.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::channel::api;
use crate::channel::webhook::Webhook;
use crate::config::Config;
use crate::config::channels::{Channel, Channels, Kind};
use crate::gate::Gate;
use crate::net::courier::Courier;
use crate::net::reach::Own;
use crate::notice::{Board, Notifier};
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
    let courier = Courier::new(channels.extra_ca.as_deref(), own.clone()).context("`channels.extra_ca`")?;
    Ok(match &channel.kind {
        Kind::Webhook(options) => Arc::new(Webhook::new(options.clone(), courier, clock.clone(), api::form)),
    })
}

/// Starts to tell every channel of holds; the tasks end by themselves once `stopping` says so.
pub(super) fn start(
    config: &Config,
    gate: &Arc<Gate>,
    metrics: &Arc<Metrics>,
    own: &Own,
    stopping: &watch::Receiver<bool>,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<()> {
    let clock = Clock::default();
    for channel in &config.channels.list {
        let board = board(&config.channels, channel, &clock, own)?;
        let (gate, metrics) = (Arc::clone(gate), Arc::clone(metrics));
        let notifier = Notifier::open(channel.notice.clone(), board, gate, clock.clone(), metrics, &config.data);
        tasks.spawn(notifier.run(stopping.clone()));
    }
    Ok(())
}
