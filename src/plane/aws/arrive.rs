//! Arrival: one reading, one credential, one name. Nothing here decides anything.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use http_body::Body as _;

use super::call::BodyIdentity;
use super::dialect::{Cause, Fault, Shape};
use super::incoming::{Incoming, part_fault};
use super::naming::{Named, Naming};
use super::{Plane, context};
use crate::action::{Agent, Context};
use crate::classify::aws::{self, BodyNeed, Route, body_need};
use crate::credential::agent::Found;
use crate::digest::{Digest, EMPTY_SHA256, sha256};
use crate::gate::{Ended, Refusal};
use crate::hold::Ending;
use crate::id::ActionId;
use crate::net::body::{BodyError, Outgoing};
use crate::net::chunked::Chunked;
use crate::net::connect::Meant;
use crate::net::events::Events;
use crate::net::hashed::Hashed;
use crate::net::line::Line;
use crate::net::listen::{Arrived, ArrivedBody};
use crate::net::spool::{Payer, SpoolError, Spooled};
use crate::rules::{Decision, Ruling};
use crate::time::Timestamp;
use crate::wire::head::Head;
use crate::wire::sigv4::{Behind, Payload, PayloadClaim, Presented, ScopeRef, SigError, Verified};

/// What every answer to one request needs, also before the request could be read.
pub(super) struct Exchange {
    pub(super) action: ActionId,
    pub(super) now: Timestamp,
    pub(super) peer: IpAddr,
    pub(super) line: Line,
    pub(super) shape: Shape,
    pub(super) is_head: bool,
    /// The agent, once its signature has held.
    pub(super) agent: Option<Arc<Agent>>,
}

/// A request not yet read.
pub(super) struct Parts {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: ArrivedBody,
    meant: Option<Arc<Meant>>,
}

impl Exchange {
    pub(super) fn open(arrived: Arrived, now: Timestamp) -> (Self, Parts) {
        let Arrived { method, uri, headers, body, peer, line, meant } = arrived;
        let exchange = Self {
            action: ActionId::fresh(now),
            now,
            peer,
            line,
            shape: Shape::guess(&headers, uri.path(), uri.query().unwrap_or_default()),
            is_head: method == Method::HEAD,
            agent: None,
        };
        (exchange, Parts { method, uri, headers, body, meant })
    }
}

/// An authenticated request with its name.
pub(super) struct Request {
    /// What it was named by.
    pub(super) naming: Arc<Naming>,
    pub(super) agent: Arc<Agent>,
    pub(super) context: Context,
    pub(super) head: Head,
    pub(super) named: Named,
    pub(super) presented: Presented,
    pub(super) body: Body,
    /// The bytes of the body, where they were read to name the request.
    pub(super) look: Option<Bytes>,
}

/// A body on its way from the agent to the upstream.
pub(super) enum Body {
    Empty,
    /// Still with the agent. The hash is the one its signature states.
    Streaming {
        arrived: Incoming,
        stated: Option<Digest>,
    },
    /// Events that are signed one by one, for as long as both sides talk: nobody waits for their end.
    Events(Box<Events>),
    /// Read whole, in memory or on disk.
    Spooled(Spooled),
    /// Made here.
    Whole(Bytes),
}

impl Body {
    pub(super) fn size(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Streaming { arrived, .. } => arrived.size_hint().exact(),
            Self::Events(_) => None,
            Self::Spooled(spooled) => Some(spooled.len()),
            Self::Whole(bytes) => Some(bytes.len() as u64),
        }
    }

    pub(super) fn identity(&self) -> BodyIdentity {
        let sha256 = match self {
            Self::Empty => Some(EMPTY_SHA256),
            Self::Streaming { stated, .. } => *stated,
            Self::Events(_) => None,
            Self::Spooled(spooled) => Some(spooled.sha256()),
            Self::Whole(bytes) => Some(sha256(bytes)),
        };
        BodyIdentity { size: self.size(), sha256 }
    }

    /// How the upstream's signature covers this body: by its hash wherever that is known. Chunks
    /// go as they came, since their framing is part of the bytes; those that were signed are signed again.
    pub(super) fn payload(&self, claim: PayloadClaim) -> Payload {
        match (claim, self.identity().sha256) {
            (PayloadClaim::UnsignedChunks, _) => Payload::UnsignedChunks,
            (PayloadClaim::SignedChunks { trailer }, _) => Payload::SignedChunks { trailer },
            (PayloadClaim::SignedEvents, _) => Payload::SignedEvents,
            (_, Some(sha256)) => Payload::Sha256(sha256),
            (_, None) => Payload::Unsigned,
        }
    }

    /// The body for sending behind a head that was signed for `payload`; one that streams is held against its stated
    /// hash on the way, and parts that are signed are signed anew.
    ///
    /// # Errors
    /// When it is already certain that it is not the body of that head.
    pub(super) fn outgoing(self, payload: Payload, behind: Behind) -> Result<Outgoing, BodyError> {
        let body = match self {
            Self::Empty => Outgoing::Empty,
            Self::Streaming { arrived, stated: Some(stated) } => {
                let size = arrived.size_hint().exact();
                Outgoing::boxed(Hashed::new(arrived, stated, size)?)
            }
            Self::Streaming { arrived, stated: None } => Outgoing::boxed(arrived),
            Self::Events(events) => match behind {
                Behind::Events(chain) => return Ok(Outgoing::boxed(events.signed(chain))),
                Behind::Chunks(_) | Behind::Nothing => return Err(BodyError::HashDiffers),
            },
            Self::Spooled(spooled) => spooled.body(),
            Self::Whole(bytes) => Outgoing::whole(bytes),
        };
        Ok(match (payload, behind) {
            (Payload::SignedChunks { trailer }, Behind::Chunks(chain)) => {
                Outgoing::boxed(Chunked::signed(body, chain, trailer))
            }
            _ => body,
        })
    }
}

/// An authenticated request whose body names it, or proves its signature, and is still with the agent.
pub(super) struct Unread {
    naming: Arc<Naming>,
    found: Found,
    head: Head,
    presented: Presented,
    /// Absent where the signature covers the body's hash, which nobody has stated.
    verified: Option<Verified>,
    body: Incoming,
}

/// A request that was opened.
pub(super) enum Opened {
    Named(Box<Request>),
    Unread(Box<Unread>),
}

impl Plane {
    /// Authenticates one request, as far as its head allows, and names it where its body is not
    /// needed for that. A body nobody signed for is not read before the head's signature has held.
    pub(super) fn open(&self, exchange: &mut Exchange, parts: Parts) -> Result<Opened, Fault> {
        let Parts { method, uri, headers, body, meant } = parts;
        let head = Head::parse(method, &uri, headers).map_err(|error| {
            Fault::new(Cause::Malformed, format!("the request has more than one reading: {error}."))
        })?;
        check_host(&head, meant.as_deref())?;
        let presented = Presented::parse(&head, exchange.now)?;
        let found = self.agents.lookup(presented.key_id(), exchange.peer, exchange.now).map_err(|error| {
            tracing::debug!(key = presented.key_id(), %error, "virtual key refused");
            SigError::UnknownKey
        })?;
        check_agent(&found.agent, meant.as_deref())?;
        let naming = self.naming();
        if presented.payload == PayloadClaim::SignedEvents {
            presented.verify(&head, None, &found.key)?;
            let body = Body::Events(Box::new(self.events(exchange, body, &presented, &found)));
            return Ok(Opened::Named(self.named(exchange, naming, found, head, presented, body, None)?));
        }
        // Signed chunks have bytes also when their data has none.
        if body.is_end_stream() && !matches!(presented.payload, PayloadClaim::SignedChunks { .. }) {
            presented.verify(&head, Some(EMPTY_SHA256), &found.key)?.check_body(EMPTY_SHA256)?;
            let named = self.named(exchange, naming, found, head, presented, Body::Empty, Some(Bytes::new()))?;
            return Ok(Opened::Named(named));
        }
        let verified = if presented.needs_body() { None } else { Some(presented.verify(&head, None, &found.key)?) };
        let body = Incoming::new(body, &head, &presented, &found.key)?;
        if verified.is_none() || body_need(&head, &naming.front) == BodyNeed::Whole {
            return Ok(Opened::Unread(Box::new(Unread { naming, found, head, presented, verified, body })));
        }
        let stated = match presented.payload {
            PayloadClaim::Stated(stated) => Some(stated),
            _ => None,
        };
        let body = Body::Streaming { arrived: body, stated };
        Ok(Opened::Named(self.named(exchange, naming, found, head, presented, body, None)?))
    }

    /// The events of a request. What its agent does wrong within them is recorded when it does.
    fn events(&self, exchange: &Exchange, body: ArrivedBody, presented: &Presented, found: &Found) -> Events {
        let (gate, agent, peer, shape) =
            (Arc::clone(&self.gate), Arc::clone(&found.agent), exchange.peer, exchange.shape);
        let on_fault = Box::new(move |error: &BodyError| {
            let fault = part_fault(error);
            let (code, reason) = (fault.code(shape), fault.message().to_owned());
            gate.refused(Refusal { peer, agent: Some(Arc::clone(&agent)), code, reason });
        });
        Events::new(body, presented.event_chain(&found.key), self.clock.clone(), on_fault)
    }

    /// Reads the body, verifies the signature over it and names the request.
    pub(super) async fn read(&self, exchange: &mut Exchange, unread: Box<Unread>) -> Result<Box<Request>, Fault> {
        let Unread { naming, found, head, presented, verified, body } = *unread;
        let is_proven = verified.is_some();
        let payer = || match is_proven {
            true => Payer::Agent(found.agent.id.clone()),
            false => Payer::unproven(presented.key_id(), exchange.peer),
        };
        let mut spooled = self.spool.collect(body, self.options.spool_limit_bytes, payer).await.map_err(spool_fault)?;
        let verified = match verified {
            Some(verified) => verified,
            None => presented.verify(&head, Some(spooled.sha256()), &found.key)?,
        };
        verified.check_body(spooled.sha256())?;
        spooled.proven(&found.agent.id).map_err(spool_fault)?;
        let look = if spooled.len() <= self.options.look_limit_bytes {
            Some(spooled.bytes().await.map_err(spool_fault)?)
        } else {
            None
        };
        self.named(exchange, naming, found, head, presented, Body::Spooled(spooled), look)
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a request, put together once")]
    fn named(
        &self,
        exchange: &mut Exchange,
        naming: Arc<Naming>,
        found: Found,
        head: Head,
        presented: Presented,
        body: Body,
        look: Option<Bytes>,
    ) -> Result<Box<Request>, Fault> {
        exchange.agent = Some(Arc::clone(&found.agent));
        let seen = match (&body, &look) {
            (_, Some(bytes)) => aws::Body::Whole(bytes),
            (Body::Spooled(_), None) => aws::Body::TooLarge,
            _ => aws::Body::Data,
        };
        let named = naming.name(&head, seen)?;
        exchange.shape = named.shape;
        check_scope(&presented, &named.route)?;
        if named.actions.iter().any(|action| action.unknown.is_some()) {
            self.metrics.unknown.increment();
        }
        let mut context = context::read(&head);
        context.bind(found.task);
        Ok(Box::new(Request { naming, agent: found.agent, context, head, named, presented, body, look }))
    }

    /// True when the body must be read before this decision: all that people decide, and all that
    /// runs by a rule and whose bytes no signature states. A denial needs no body. Events have no
    /// end that could be waited for: they are decided on by their head.
    pub(super) fn must_be_seen(request: &Request, ruling: &Ruling) -> bool {
        let Body::Streaming { stated, .. } = &request.body else { return false };
        match ruling.decision {
            Decision::Allow => stated.is_none(),
            Decision::Deny => false,
            Decision::Hold => true,
        }
    }

    /// Reads a streaming body whole and holds it against the hash that was signed.
    ///
    /// A body that no signature covers (`UNSIGNED-PAYLOAD`, unsigned chunks) may be decided on as
    /// well: what people are shown, what the digest binds and what is sent is what was read here.
    pub(super) async fn see(&self, request: &mut Request) -> Result<(), Fault> {
        let (arrived, stated) = match std::mem::replace(&mut request.body, Body::Empty) {
            Body::Streaming { arrived, stated } => (arrived, stated),
            other => {
                request.body = other;
                return Ok(());
            }
        };
        let payer = || Payer::Agent(request.agent.id.clone());
        let spooled = self.spool.collect(arrived, self.options.spool_limit_bytes, payer).await.map_err(spool_fault)?;
        if stated.is_some_and(|stated| stated != spooled.sha256()) {
            return Err(SigError::BodyDiffers.into());
        }
        request.body = Body::Spooled(spooled);
        Ok(())
    }
}

pub(super) fn too_large(limit_bytes: u64) -> Fault {
    Fault::new(
        Cause::TooLarge,
        format!("the body is larger than the {limit_bytes} bytes that are kept for a decision; nothing was sent."),
    )
}

fn spool_fault(error: SpoolError) -> Fault {
    match error {
        SpoolError::TooLarge { limit_bytes } => too_large(limit_bytes),
        SpoolError::Full | SpoolError::AgentFull { .. } | SpoolError::UnprovenFull { .. } => Fault::from(Ended {
            ending: Ending::Overloaded,
            hold: None,
            message: format!("{error}; nothing was sent."),
        }),
        SpoolError::Body(BodyError::HashDiffers | BodyError::LengthDiffers) => SigError::BodyDiffers.into(),
        SpoolError::Body(error @ (BodyError::ChunkSignature | BodyError::Chunks(_))) => part_fault(&error),
        SpoolError::Body(error) => Fault::new(Cause::BodyTimeout, format!("the body did not arrive whole: {error}.")),
        SpoolError::Io { .. } => {
            tracing::error!(error = &error as &dyn std::error::Error, "a body cannot be spooled");
            Fault::new(Cause::Internal, "the body cannot be kept for a decision; nothing was sent.")
        }
    }
}

/// On a connection to a host, requests are for that host: else one that was let in by its name would
/// be taken for another.
fn check_host(head: &Head, meant: Option<&Meant>) -> Result<(), Fault> {
    match meant {
        Some(meant) if head.host.name != meant.host || head.host.port.is_some_and(|port| port != meant.port) => {
            let text = "the Host field names another host than the connection is for.";
            Err(Fault::new(Cause::Malformed, text))
        }
        _ => Ok(()),
    }
}

/// Whoever opened a connection through the proxy signs what is sent on it.
fn check_agent(agent: &Agent, meant: Option<&Meant>) -> Result<(), Fault> {
    match meant.and_then(|meant| meant.agent.as_ref()) {
        Some(opener) if **opener != *agent => Err(Fault::new(
            Cause::Malformed,
            "the request is signed by another agent than the one whose credential opened its connection.",
        )),
        _ => Ok(()),
    }
}

/// The scope that was signed must be the one of the service and region the request was named for:
/// else one service's request would run under another's signature.
fn check_scope(presented: &Presented, route: &Route) -> Result<(), SigError> {
    let ScopeRef { region, service, .. } = presented.scope();
    let why = if service != route.signing_name {
        "its scope names another service than the request is for"
    } else if region != route.signing_region {
        "its scope names another region than the request is for"
    } else {
        return Ok(());
    };
    Err(SigError::Malformed { place: presented.source, why })
}
