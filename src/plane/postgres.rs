//! The Postgres plane: a server to the agent, a client to the database.
//!
//! One connection goes through the files of this module in this order: `login` (TLS, startup,
//! credential), `upstream` (the real role's session), then `session` for the rest of its life: `machine`
//! keeps the two streams in step, `asking` names what would run and brings it to the gate, `narrowing` what an
//! approver makes of it, `wording` makes its record, `settings` follows what decides the meaning of text, `lookup`
//! what names stand for, `reach` estimates what people are asked about, `timeouts` how long a session may wait,
//! `notice` and `ending` speak to the client.
//!
//! Invariants: nothing that runs leaves without a permit, in the order in which it came; an answer is
//! given for exactly what was sent; a matched statement's last word follows its outcome's record.

mod asking;
mod cancel;
mod connection;
mod ending;
pub(crate) mod login;
mod lookup;
mod machine;
mod narrowing;
mod notice;
mod reach;
mod rest;
mod session;
mod settings;
mod timeouts;
pub(crate) mod upstream;
pub(crate) mod wording;

use std::sync::Arc;
use std::time::Duration;

use crate::classify::postgres::cache::Cache;
use crate::classify::postgres::tags::Tags;
use crate::gate::Gate;
use crate::telemetry::Metrics;
use crate::time::Clock;

use cancel::Cancels;
use login::Door;
use lookup::Lookups;
use reach::Reach;
use upstream::Upstream;
use wording::Words;

/// What the server's own log is told of who runs a statement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attribution {
    /// The agent's id goes before the session's `application_name`.
    pub(crate) application_name: bool,
    /// A comment behind each simple query names agent, action and hold.
    pub(crate) comment: bool,
}

/// What an operator may set.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) attribution: Attribution,
    /// Longest message of a client's that is kept to be named, in bytes.
    pub(crate) message_limit_bytes: usize,
    /// Between two notices to a client that waits.
    pub(crate) notice_every: Duration,
    /// Between two looks for changes of the upstream's catalogue.
    pub(crate) catalogue_every: Duration,
    /// What is sensitive in the database.
    pub(crate) tags: Arc<Tags>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            attribution: Attribution::default(),
            message_limit_bytes: 16 << 20,
            notice_every: Duration::from_secs(15),
            catalogue_every: Duration::from_secs(5),
            tags: Arc::default(),
        }
    }
}

/// Memory for statements that were named before, in bytes.
const CACHE_BYTES: usize = 64 << 20;

/// The plane of one process.
pub(crate) struct Plane {
    options: Options,
    door: Door,
    upstream: Arc<Upstream>,
    gate: Arc<Gate>,
    cache: Cache,
    cancels: Cancels,
    lookups: Arc<Lookups>,
    reach: Reach,
    words: Words,
    clock: Clock,
    metrics: Arc<Metrics>,
}

impl Plane {
    pub(crate) fn new(
        options: Options,
        door: Door,
        upstream: Arc<Upstream>,
        gate: Arc<Gate>,
        words: Words,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let (cache, cancels) = (Cache::new(CACHE_BYTES), Cancels::default());
        let lookups = Lookups::new(Arc::clone(&upstream), options.catalogue_every, Arc::clone(&options.tags));
        let reach = Reach::new(Arc::clone(&upstream));
        Arc::new(Self { options, door, upstream, gate, cache, cancels, lookups, reach, words, clock, metrics })
    }
}
