//! The composition root: puts the process together, keeps it current, and takes it down in order.
//!
//! The order of a start: what must never be lost (journal, store), what decides (rules, people,
//! gate), what signs (credentials), what listens. Ready is said last. The order of a stop: no new
//! connections, held clients are let go with their holds kept, running forwards finish within a
//! bound, the log gets its last checkpoint. A process that is killed instead loses nothing that
//! was acknowledged; it only starts with more to recover.

use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::card;
use crate::channel::api::Api;
use crate::channel::page::Page;
use crate::config::{Config, Log, Oidc, Postgres};
use crate::credential::agent::{self, Agents};
use crate::credential::approver::ApproverTokens;
use crate::credential::commitment_key;
use crate::credential::real::RealCredentials;
use crate::gate::Gate;
use crate::journal::Journal;
use crate::journal::openings::{OPENINGS_FILE, Openings};
use crate::net::listen::Limits;
use crate::net::reach::Own;
use crate::net::spool::Spool;
use crate::net::upstream::Pool;
use crate::plane::aws::{Parts, Plane};
use crate::plane::postgres as database;
use crate::plane::postgres::wording::{Kept, Words};
use crate::signin::{Provider, Sessions, SignIn};
use crate::store::Store;
use crate::telemetry::Metrics;
use crate::time::Clock;

mod admin;
mod announce;
mod doors;
pub(crate) mod notify;
mod reload;

use admin::Admin;
use announce::Bound;
pub(crate) use announce::running;
use doors::{Doors, Intercepting};
use reload::Reload;

/// Runs the server until it is told to stop. `config_file` is read again on SIGHUP; `out` is told
/// the address of each listener.
///
/// # Errors
/// When anything of the start fails, a listener ends by itself, or the log's last checkpoint cannot be written.
pub(crate) async fn run(config: Config, config_file: PathBuf, out: &mut dyn Write) -> anyhow::Result<()> {
    log_to_stderr(config.log);
    for warning in &config.warnings {
        tracing::warn!("{}", warning.headline());
    }
    // Signals count from here on, so that a stop during the start is not lost.
    let mut stop = Stop::catch()?;
    let mut hangup = signal(SignalKind::hangup())?;

    let mut server = Server::start(&config, out).await?;
    let mut reload = Reload::new(config_file, &config, Arc::clone(&server.gate), Arc::clone(&server.metrics));
    loop {
        tokio::select! {
            () = stop.told() => break,
            _ = hangup.recv() => reload.all(),
            () = reload.tick() => reload.changed(),
            _ = server.serving.join_next() => anyhow::bail!("a listener ended by itself"),
        }
    }
    server.stop(config.drain, stop).await?;
    Bound::withdraw(&config.data);
    tracing::info!("stopped");
    Ok(())
}

/// A process that serves.
struct Server {
    journal: Journal,
    gate: Arc<Gate>,
    /// Absent while no listener is for it: a process before a database alone needs no AWS.
    plane: Option<Arc<Plane>>,
    metrics: Arc<Metrics>,
    begin_stop: watch::Sender<bool>,
    serving: JoinSet<()>,
}

impl Server {
    async fn start(config: &Config, out: &mut dyn Write) -> anyhow::Result<Self> {
        let clock = Clock::default();
        let metrics = Arc::new(Metrics::default());
        let facts = reload::load_facts(&config.data)?;
        let (journal, recovered) = Journal::open(&config.journal, clock.clone(), Arc::clone(&metrics))?;
        let (store, saved) = Store::open(&config.data.join("state.redb"))?;
        let rules = reload::compile(&config.rules, facts, &metrics)?;
        let gate = Gate::open(
            config.gate,
            journal.clone(),
            recovered,
            store,
            saved,
            rules,
            config.people.as_ref().clone(),
            clock.clone(),
            Arc::clone(&metrics),
        )
        .await?;
        let own = Own::default();
        let plane = match config.listen.is_before_aws() {
            true => Some(plane(config, &gate, &clock, &metrics, &own).await?),
            false => None,
        };
        let intercepting = Intercepting::open(config, &gate, &clock, &metrics, &own)?;
        warn_of_unknown_owners(config)?;

        let (begin_stop, stopping) = watch::channel(false);
        let tokens = Arc::new(ApproverTokens::open(&config.data)?);
        let sign_in = sign_in(config, &clock, &own)?;
        let page = sign_in.clone().and_then(|sign_in| Page::new(Arc::clone(&gate), sign_in, clock.clone()));
        let api = Api::new(Arc::clone(&gate), tokens, sign_in, clock, card::render, stopping.clone());
        let admin = Admin::new(journal.clone(), Arc::clone(&metrics), stopping.clone());
        let mut doors = Doors::open(&config.listen, intercepting).await?;
        let mut bound = doors.bound();
        let limits = Limits {
            connections: config.listen.connections,
            connections_per_peer: config.listen.connections_per_peer.unwrap_or(usize::MAX),
            drain_timeout: config.drain,
            ..Limits::default()
        };
        let boards = notify::open(config, &gate, &own)?;
        doors.callbacks = Arc::clone(&boards.callbacks);
        let mut serving = doors.serve(
            limits.clone(),
            &metrics,
            &stopping,
            plane.clone(),
            (Arc::new(api), page.map(Arc::new)),
            Arc::new(admin),
        );
        if let Some(address) = config.listen.postgres {
            let listener = bind(address).await?;
            bound.postgres = Some(listener.local_addr()?);
            let plane = database_plane(config, &gate, &metrics)?;
            serving.spawn(plane.serve(listener, limits, stopping.clone()));
        }
        boards.start(config, &gate, &metrics, &stopping, &mut serving);
        own.set(bound.addresses());
        bound.publish(&config.data, out)?;
        tracing::info!(log_key = journal.public_key(), "ready");
        Ok(Self { journal, gate, plane, metrics, begin_stop, serving })
    }

    /// Takes the process down in order, within `bound` or until it is told to stop once more.
    async fn stop(self, bound: Duration, mut stop: Stop) -> anyhow::Result<()> {
        tracing::info!("stopping: held clients are let go, their holds are kept");
        self.gate.drain();
        self.begin_stop.send_replace(true);
        tokio::select! {
            () = async {
                drop(self.serving.join_all().await);
                // What was sent for a client that left has its outcome recorded, if it comes in time.
                if let Some(plane) = &self.plane {
                    drop(tokio::time::timeout(bound, plane.settled()).await);
                }
            } => {}
            () = stop.told() => tracing::warn!("told to stop twice: running requests are cut off"),
        }
        self.journal.close().await.context("the log's last checkpoint could not be written")
    }
}

/// Says at once what would otherwise be found when the first call of such an agent is held.
fn warn_of_unknown_owners(config: &Config) -> anyhow::Result<()> {
    for entry in agent::list(&config.data)? {
        let agent = &entry.agent;
        if !entry.is_revoked && !config.people.knows_owner(&agent.owner) {
            tracing::warn!(
                agent = %agent.id, owner = %agent.owner,
                "the owner is no configured person or group, so nobody may decide what this agent asks: add the owner \
                 under `people`"
            );
        }
    }
    Ok(())
}

/// How people sign in, where a provider is configured.
fn sign_in(config: &Config, clock: &Clock, own: &Own) -> anyhow::Result<Option<Arc<SignIn>>> {
    let Some(Oidc { provider, terms, lifetimes }) = config.oidc.clone() else { return Ok(None) };
    let provider = Provider::new(provider, clock.clone(), own.clone()).context("no way to the OpenID provider")?;
    Ok(Some(Arc::new(SignIn { provider, sessions: Sessions::new(lifetimes), terms })))
}

/// The AWS plane with everything it signs and sends with.
async fn plane(
    config: &Config,
    gate: &Arc<Gate>,
    clock: &Clock,
    metrics: &Arc<Metrics>,
    own: &Own,
) -> anyhow::Result<Arc<Plane>> {
    let real = RealCredentials::load(config.aws.credential.clone(), clock.clone());
    let spool_dir = config.data.join("spool");
    std::fs::create_dir_all(&spool_dir).with_context(|| format!("cannot make `{}`", spool_dir.display()))?;
    let parts = Parts {
        agents: Arc::new(Agents::open(&config.data)?),
        real: Arc::new(real.await.context("no real AWS credential")?),
        pool: Arc::new(Pool::new(config.aws.pool.clone(), own.clone())?),
        spool: Arc::new(Spool::new(spool_dir, config.spool.memory, config.spool.disk)),
        gate: Arc::clone(gate),
        clock: clock.clone(),
        metrics: Arc::clone(metrics),
    };
    Ok(Plane::new(config.aws.plane.clone(), parts))
}

/// The Postgres plane with its door and its database.
fn database_plane(config: &Config, gate: &Arc<Gate>, metrics: &Arc<Metrics>) -> anyhow::Result<Arc<database::Plane>> {
    let Postgres { door, plane, upstream, words } = &config.postgres;
    let door = database::login::Door::new(door, Arc::new(Agents::open(&config.data)?), Clock::default())?;
    let upstream = database::upstream::Upstream::new(upstream.clone())?;
    let openings = match words.openings {
        Kept::None => None,
        Kept::Matched | Kept::All => Some(Openings::open(&config.data.join(OPENINGS_FILE))?),
    };
    let words = Words::new(*words, commitment_key(&config.data)?, openings);
    let (gate, metrics) = (Arc::clone(gate), Arc::clone(metrics));
    Ok(database::Plane::new(plane.clone(), door, upstream, gate, words, Clock::default(), metrics))
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// The signals that mean stop.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn catch() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn told(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The process's own log goes to stderr; stdout is for the listeners' addresses. Libraries are heard
/// from warnings up only: what they say below that holds requests, and could hold secrets.
fn log_to_stderr(log: Log) {
    // On a descriptor of its own: the Postgres grammar turns number 2 aside while it parses.
    let errors = std::io::stderr().as_fd().try_clone_to_owned().map(std::fs::File::from);
    let writer = match errors {
        Ok(file) => BoxMakeWriter::new(Arc::new(file)),
        Err(_) => BoxMakeWriter::new(std::io::stderr),
    };
    let level = log.level.to_string().to_ascii_lowercase();
    let filter = EnvFilter::new(format!("warn,{}={level}", env!("CARGO_CRATE_NAME")));
    let builder = tracing_subscriber::fmt()
        .with_writer(writer)
        // A line that cannot be written (a full disk) is lost; complaining about it on stderr would panic.
        .log_internal_errors(false)
        .with_env_filter(filter)
        .with_target(false);
    // A process has one log; one that is set already stays.
    drop(if log.json { builder.json().try_init() } else { builder.with_ansi(false).try_init() });
}
