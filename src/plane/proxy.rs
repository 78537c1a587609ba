//! The forward proxy: what becomes of a CONNECT, and of a request that names its host itself.
//!
//! Three fates. A host that is intercepted is spoken for by the AWS plane, which authenticates and judges each
//! request. A host that the operator lists may be tunnelled to, by an agent that shows its credential: the
//! tunnel is an action like any other (`tunnel:connect`), judged, recorded, and opened with a permit. Every
//! other host is refused, and that is recorded.

use std::borrow::Cow;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::Uri;
use serde_json::Map;
use tokio::net::TcpStream;

use crate::action::{Access, Action, Agent, Context, Shown, TUNNEL, Traits};
use crate::credential::agent::{Agents, Found, LookupError};
use crate::digest::{Digest, EMPTY_SHA256, sha256};
use crate::gate::{Admission, Ask, Finished, Gate, OVERDUE_AFTER, Outcome, Passing, Permit, Receipt, Refusal};
use crate::id::ActionId;
use crate::net::authority::{Authority, HostName, PlacePattern};
use crate::net::connect::{Granted, Meant, OnConnect, Wanted};
use crate::net::leaf::Interception;
use crate::net::listen::PROXY_CREDENTIALS;
use crate::net::reach::Own;
use crate::net::socket::Socket;
use crate::net::tunnel::{Carried, DialError, carry, dial};
use crate::secret::{Secret, same};
use crate::telemetry::Metrics;
use crate::time::Clock;

/// What an operator may set.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Hosts to which agents may have tunnels.
    pub(crate) tunnel: Vec<PlacePattern>,
    /// Whether those hosts may have addresses of private networks.
    pub(crate) private_addresses: bool,
    /// Whether a CONNECT to an intercepted host needs the agent's credential too.
    pub(crate) credentials_required: bool,
    pub(crate) connect_timeout: Duration,
    /// A tunnel that carried nothing for so long ends.
    pub(crate) idle_timeout: Duration,
}

/// What the proxy works with; all of it is shared with the rest of the process.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) interception: Arc<Interception>,
    pub(crate) agents: Arc<Agents>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) own: Own,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
}

/// The proxy of one process.
pub(crate) struct Proxy {
    options: Options,
    parts: Parts,
}

/// Who asks for a connection, where it said so.
struct Asker {
    agent: Arc<Agent>,
    key_id: String,
    /// What is known of its work: the task that its key is bound to.
    context: Context,
}

/// What the client is told.
type Told = (&'static str, &'static str);

impl Proxy {
    pub(crate) fn new(options: Options, parts: Parts) -> Arc<Self> {
        Arc::new(Self { options, parts })
    }

    /// This, as a listener asks it.
    pub(crate) fn on_connect(self: &Arc<Self>) -> OnConnect {
        let proxy = Arc::clone(self);
        Arc::new(move |wanted| {
            let proxy = Arc::clone(&proxy);
            Box::pin(async move { proxy.connect(wanted).await })
        })
    }

    /// The host that a request without CONNECT is for, where it may be served.
    ///
    /// # Errors
    /// What the client is to be told; it is on record.
    pub(crate) fn plain(&self, uri: &Uri, authorization: Option<&str>, peer: IpAddr) -> Result<Meant, Told> {
        let Some(authority) = uri.authority() else {
            let told = (BAD_REQUEST, "this is a proxy: send CONNECT, or the whole URL");
            return Err(self.refuse(peer, None, None, told));
        };
        let text = authority.as_str();
        let text = if authority.port().is_some() { Cow::Borrowed(text) } else { Cow::Owned(format!("{text}:80")) };
        let Some(place) = Authority::parse(&text).filter(|_| uri.scheme_str() == Some("http")) else {
            return Err(self.refuse(peer, None, None, (BAD_REQUEST, "the request target is no URL of plain HTTP")));
        };
        let authorization = authorization.map(Secret::new);
        let asker =
            self.asker(authorization.as_ref(), peer).map_err(|told| self.refuse(peer, None, Some(&place), told))?;
        match self.intercepted(&place, asker.as_ref(), 80) {
            Ok(Some(meant)) => Ok(meant),
            // Without TLS nobody could tell that the answer comes from that host.
            Ok(None) => {
                Err(self.refuse(peer, asker.as_ref(), Some(&place), (FORBIDDEN, "plain HTTP is passed on to no host")))
            }
            Err(told) => Err(self.refuse(peer, asker.as_ref(), Some(&place), told)),
        }
    }

    async fn connect(self: Arc<Self>, wanted: Wanted) -> Granted {
        let Wanted { place, authorization, peer } = wanted;
        let refuse = |asker: Option<&Asker>, told| {
            let (status, reason) = self.refuse(peer, asker, Some(&place), told);
            Granted::Refused { status, reason }
        };
        let asker = match self.asker(authorization.as_ref(), peer) {
            Ok(asker) => asker,
            Err(told) => return refuse(None, told),
        };
        match self.intercepted(&place, asker.as_ref(), 443) {
            Ok(Some(meant)) => return Granted::Intercepted(meant),
            Ok(None) => {}
            Err(told) => return refuse(asker.as_ref(), told),
        }
        if !self.options.tunnel.iter().any(|pattern| pattern.covers(&place)) {
            return refuse(asker.as_ref(), (FORBIDDEN, "this host is neither intercepted nor tunnelled to"));
        }
        let Some(asker) = asker else {
            return refuse(None, (PROXY_CREDENTIALS, "a tunnel needs the agent's credential"));
        };
        match self.tunnel(&place, &asker, peer).await {
            Ok((permit, tcp)) => self.carrying(permit, tcp, &place),
            Err(Some(told)) => refuse(Some(&asker), told),
            Err(None) => Granted::Refused { status: FORBIDDEN, reason: "the tunnel was not allowed" },
        }
    }

    /// Who holds the credential; `None` where none was shown.
    fn asker(&self, authorization: Option<&Secret>, peer: IpAddr) -> Result<Option<Asker>, Told> {
        let Some(authorization) = authorization else { return Ok(None) };
        let wrong = (PROXY_CREDENTIALS, "the proxy credential is no key of an agent");
        let (key_id, secret) = basic(authorization).ok_or(wrong)?;
        match self.parts.agents.lookup(&key_id, peer, self.parts.clock.now()) {
            Ok(Found { agent, key, task }) if same(key.secret.expose().as_bytes(), secret.expose().as_bytes()) => {
                let mut context = Context::default();
                context.bind(task);
                Ok(Some(Asker { agent, key_id, context }))
            }
            Ok(_) => Err(wrong),
            Err(error) => {
                tracing::debug!(key = key_id, %error, "proxy credential refused");
                Err(wrong)
            }
        }
    }

    fn intercepted(&self, place: &Authority, asker: Option<&Asker>, port: u16) -> Result<Option<Meant>, Told> {
        let host = match &place.host {
            HostName::Dns(name) if self.parts.interception.covers(&place.host) => name,
            _ => return Ok(None),
        };
        if place.port != port {
            return Err((FORBIDDEN, "intercepted hosts have the port of their scheme, 443 or 80, and no other"));
        }
        if asker.is_none() && self.options.credentials_required {
            return Err((PROXY_CREDENTIALS, "this proxy wants the agent's credential"));
        }
        Ok(Some(Meant { host: host.clone(), port, agent: asker.map(|asker| Arc::clone(&asker.agent)) }))
    }

    /// Has a tunnel decided on, then connects; `None` where its refusal is on record already.
    async fn tunnel(
        self: &Arc<Self>,
        place: &Authority,
        asker: &Asker,
        peer: IpAddr,
    ) -> Result<(Permit, TcpStream), Option<Told>> {
        let Parts { gate, agents, clock, metrics, own, .. } = &self.parts;
        metrics.requests.increment();
        let action_id = ActionId::fresh(clock.now());
        let actions = [action(place)];
        let ruling = gate.judge(&asker.agent, &asker.context, &actions);
        let permit = if ruling.is_unmatched_allow() {
            let passing = Passing {
                action_id: &action_id,
                agent: &asker.agent,
                key_id: &asker.key_id,
                peer,
                actions: &actions,
                facts: EMPTY_SHA256,
                wording: None,
            };
            gate.pass(&passing, &ruling).await.map_err(|_| None)?
        } else {
            match gate.admit(Arc::new(self.ask(place, asker, peer, action_id, actions)), ruling).await {
                Admission::Permitted(permit) => permit,
                Admission::Answered(_) | Admission::Ended(_) => return Err(None),
            }
        };
        // People take their time: a credential that was revoked meanwhile opens nothing.
        match agents.lookup(&asker.key_id, peer, clock.now()) {
            Ok(found) if *found.agent == *asker.agent => {}
            Err(LookupError::Expired) => {}
            Ok(_) | Err(_) => return Err(Some((PROXY_CREDENTIALS, "the proxy credential is no key of an agent"))),
        }
        let Options { private_addresses, connect_timeout, .. } = self.options;
        match dial(place, private_addresses, own, connect_timeout).await {
            Ok(tcp) => Ok((permit, tcp)),
            Err(error) => {
                tracing::info!(%error, "no tunnel");
                Err(Some(match error {
                    DialError::Unreachable(..) => ("502 Bad Gateway", "the host cannot be reached"),
                    DialError::TimedOut(_) => ("504 Gateway Timeout", "the host did not accept a connection in time"),
                    DialError::Forbidden { why, .. } => (FORBIDDEN, why),
                    DialError::Home(_) => (FORBIDDEN, "the host leads back to this proxy"),
                }))
            }
        }
    }

    fn ask(&self, place: &Authority, asker: &Asker, peer: IpAddr, action_id: ActionId, actions: [Action; 1]) -> Ask {
        let shown = Shown { method: "CONNECT".to_owned(), url: place.to_string(), ..Shown::default() };
        Ask {
            agent: Arc::clone(&asker.agent),
            context: asker.context.clone(),
            peer,
            key_id: asker.key_id.clone(),
            actions: actions.into(),
            digest: digest(place),
            retry_id: None,
            // Nothing of a CONNECT is signed, and none can be replayed: each has its own.
            signature: sha256(action_id.as_str().as_bytes()),
            signature_expires: self.parts.clock.now(),
            shown: Arc::new(shown),
            in_transaction: false,
            upstream_limit: None,
            narrow: None,
            look: None,
            held_at: Arc::default(),
            wording: None,
            // It is named by no table.
            facts: EMPTY_SHA256,
            follows_rules: false,
            action_id,
        }
    }

    /// The tunnel, for when its client knows that it is there.
    fn carrying(self: &Arc<Self>, permit: Permit, tcp: TcpStream, place: &Authority) -> Granted {
        let spent = if permit.is_matched() { permit.spend(digest(place)) } else { permit.spend_unmatched() };
        let Ok(receipt) = spent else {
            return Granted::Refused { status: FORBIDDEN, reason: "the tunnel is not the one that was allowed" };
        };
        let proxy = Arc::clone(self);
        Granted::Tunnel(Box::new(move |client| Box::pin(async move { proxy.carry(receipt, client, tcp).await })))
    }

    async fn carry(&self, mut receipt: Receipt, client: Socket, tcp: TcpStream) {
        let gate = Arc::clone(&self.parts.gate);
        let (started, carried) = (Instant::now(), Carried::default());
        let mut carrying: Pin<Box<_>> = Box::pin(carry(client, tcp, &carried, self.options.idle_timeout));
        let ended = match tokio::time::timeout(OVERDUE_AFTER, &mut carrying).await {
            Ok(ended) => ended,
            Err(_) => {
                receipt.overdue();
                carrying.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a tunnel broke off");
        }
        // What it carried is known however it ended.
        let outcome = Outcome::Finished(Finished {
            bytes: carried.sent().saturating_add(carried.received()),
            duration: started.elapsed(),
            ..Finished::default()
        });
        // It is on record as failed there, and no client is left to be told.
        drop(gate.complete(receipt, outcome, None).await);
    }

    /// Records a refusal.
    fn refuse(&self, peer: IpAddr, asker: Option<&Asker>, place: Option<&Authority>, told: Told) -> Told {
        let (status, reason) = told;
        let reason = place.map_or_else(|| reason.to_owned(), |place| format!("{place}: {reason}"));
        let agent = asker.map(|asker| Arc::clone(&asker.agent));
        self.parts.gate.refused(Refusal { peer, agent, code: status, reason });
        told
    }
}

/// A tunnel as rules and records speak of it.
fn action(place: &Authority) -> Action {
    Action {
        name: Cow::Borrowed(TUNNEL),
        access: Access::Write,
        traits: Traits::EMPTY,
        resources: vec![format!("tunnel:{place}")],
        region: None,
        account: None,
        parameters: Map::new(),
        sensitive: Vec::new(),
        iam_actions: Vec::new(),
        tags: Vec::new(),
        unknown: None,
    }
}

fn digest(place: &Authority) -> Digest {
    sha256(format!("{TUNNEL} {place}").as_bytes())
}

/// Key id and secret of `Basic`, RFC 7617.
fn basic(authorization: &Secret) -> Option<(String, Secret)> {
    let (scheme, encoded) = authorization.expose().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = BASE64_STANDARD.decode(encoded.trim_ascii()).ok()?;
    let text = Secret::new(String::from_utf8(decoded).ok()?);
    let (key_id, secret) = text.expose().split_once(':')?;
    Some((key_id.to_owned(), Secret::new(secret)))
}

const BAD_REQUEST: &str = "400 Bad Request";
const FORBIDDEN: &str = "403 Forbidden";
