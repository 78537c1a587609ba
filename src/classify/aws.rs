//! Names AWS requests: which operation of which service, with which parameters, on what, and what it
//! takes to be allowed to.
//!
//! The way of one request: [`place`] (host and credential scope) → [`identify`] (the operation) →
//! [`read`] (parameters) → [`rights`] (the action) and [`route`]. Nothing here verifies a signature.
//! INVARIANT (no guess): what leaves a doubt is an action with `Trait::Unknown`, what has two readings
//! is refused; a name that is given without doubt is the operation AWS would run.

use std::borrow::Cow;
use std::fmt::Display;

use serde_json::{Map, Value};

use crate::action::{Access, Action, Trait, Traits};
use crate::catalog::aws::operation::Payload;
use crate::catalog::aws::{self as catalog, Table};
use crate::wire::aws::BodyError;
use crate::wire::head::Head;

mod identify;
mod mentions;
mod narrow;
mod partiql;
mod place;
mod read;
mod rest;
mod rights;
mod route;
mod s3;
mod search;
mod upload;

use identify::{Protocol, Selector};
use place::Place;

/// What is known about the place a request arrived at, besides its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Front {
    /// By what requests are named.
    pub(crate) facts: &'static Table,
    /// Host names by which agents reach us when they set an endpoint URL (lower case, no port).
    /// IP addresses and `localhost` always count. A host that is neither one of these nor an AWS
    /// host is unknown.
    pub(crate) endpoint_hosts: Vec<String>,
    /// Account of the upstream identity, for resource names; `None` while not known.
    pub(crate) account: Option<String>,
}

impl Default for Front {
    fn default() -> Self {
        Self { facts: catalog::in_force(), endpoint_hosts: Vec::new(), account: None }
    }
}

/// What of the body the naming may look at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Body<'a> {
    /// The body is opaque data that is not read to name the request (only where [`body_need`] said so).
    Data,
    /// Larger than the limit up to which bodies are looked at: the request is unknown.
    TooLarge,
    /// The whole body.
    Whole(&'a [u8]),
}

/// What must be read of a body before the request can be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyNeed {
    /// The body is data (an object, a function payload): name from the head, stream the rest.
    Data,
    /// The body selects or describes the operation.
    Whole,
}

/// Where a request goes and how its signature is scoped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// The service of the credential scope: `iam`, `s3`, `monitoring`.
    pub(crate) signing_name: Cow<'static, str>,
    /// The region of the credential scope.
    pub(crate) signing_region: Cow<'static, str>,
    /// The real host to send to, without port: `iam.amazonaws.com`.
    pub(crate) host: String,
}

/// The family of error answers the client's parser expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Ec2,
    Json,
    Query,
    RestJson,
    RestXml,
}

/// The answer of the naming.
#[derive(Clone, Debug)]
pub(crate) struct Classified {
    /// One action on this plane unless `refused` (a batch of another plane may hold several). An action that could not
    /// be named without doubt is here too, with `Trait::Unknown`.
    pub(crate) actions: Vec<Action>,
    /// Why the request has contradictory readings and must be answered 400 rather than judged.
    pub(crate) refused: Option<String>,
    /// Where to send it; `None` when that is not known, in which case it cannot be forwarded.
    pub(crate) route: Option<Route>,
    pub(crate) dialect: Dialect,
}

/// Says from the head alone whether the body must be read to name the request.
pub(crate) fn body_need(head: &Head, front: &Front) -> BodyNeed {
    let named = place::locate(head, front).and_then(|place| match identify::selector(head, &place)? {
        Selector::Rest => rest::by_path(head, &place),
        Selector::Form | Selector::Rpc { .. } | Selector::Target(_) => Err(Trouble::unknown("the body selects")),
    });
    let is_data = named.is_ok_and(|it| it.candidates.iter().all(|it| it.operation.payload() == Some(Payload::Data)));
    if is_data { BodyNeed::Data } else { BodyNeed::Whole }
}

/// Names one request.
pub(crate) fn classify(head: &Head, body: Body<'_>, front: &Front) -> Classified {
    let place = match place::locate(head, front) {
        Ok(place) => place,
        Err(trouble) => return trouble.into_classified(None, None, Dialect::Json, front),
    };
    if upload::is_upload(head) && place.entries().any(|it| it.id == "s3") {
        return uploaded(head, body, &place, front);
    }
    let named = search::as_modelled(head, body, &place).and_then(|modelled| match modelled {
        None => named(head, body, &place, front),
        Some(modelled) => named(&modelled, Body::Whole(&[]), &place, front),
    });
    named.unwrap_or_else(|trouble| {
        let dialect = guessed_dialect(head, &place);
        trouble.into_classified(Some(&place), route::of_service(head, &place), dialect, front)
    })
}

fn named(head: &Head, body: Body<'_>, place: &Place<'_>, front: &Front) -> Result<Classified, Trouble> {
    let identified = identify::identify(head, body, place)?;
    let (candidate, reading) = read::read(head, body, place, &identified)?;
    route::check_label(place, candidate, &reading.parameters)?;
    Ok(Classified {
        route: route::of_operation(head, place, candidate, &reading.parameters),
        dialect: dialect(identified.protocol),
        actions: vec![rights::action(head, place, candidate, reading, front)],
        refused: None,
    })
}

/// Names an upload by a browser's form.
fn uploaded(head: &Head, body: Body<'_>, place: &Place<'_>, front: &Front) -> Classified {
    match upload::read(head, body, place) {
        Ok((candidate, reading)) => Classified {
            route: route::of_operation(head, place, &candidate, &reading.parameters),
            dialect: Dialect::RestXml,
            actions: vec![rights::action(head, place, &candidate, reading, front)],
            refused: None,
        },
        Err(trouble) => trouble.into_classified(Some(place), route::of_service(head, place), Dialect::RestXml, front),
    }
}

/// Writes a form or JSON request anew with `parameters` in place of its own. The result must be
/// classified and judged again by the caller; this function promises nothing about it.
///
/// # Errors
/// When the request is of a kind that cannot be written anew, or a parameter cannot be expressed.
pub(crate) fn narrow(
    head: &Head,
    body: &[u8],
    front: &Front,
    parameters: &Map<String, Value>,
) -> Result<(Head, Vec<u8>), NarrowError> {
    narrow::narrow(head, body, front, parameters).map_err(NarrowError)
}

/// Why a modification cannot be put on the wire; the text is shown to the approver.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NarrowError(pub(crate) String);

/// Why a request has no name, or no single one.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
struct Trouble {
    is_refused: bool,
    why: String,
    prefix: Option<&'static str>,
    operation: Option<String>,
}

impl Trouble {
    /// Two readings.
    fn refused(why: impl Display) -> Self {
        Self { is_refused: true, why: why.to_string(), prefix: None, operation: None }
    }

    fn unknown(why: impl Display) -> Self {
        Self { is_refused: false, why: why.to_string(), prefix: None, operation: None }
    }

    /// As much of the name as is known; an operation is repeated only where it can be one.
    fn named(self, prefix: Option<&'static str>, operation: &str) -> Self {
        let is_name = (1..=128).contains(&operation.len())
            && operation.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && operation.starts_with(|c: char| c.is_ascii_alphabetic());
        Self { prefix, operation: is_name.then(|| operation.to_owned()), ..self }
    }

    fn into_classified(
        self,
        place: Option<&Place<'_>>,
        route: Option<Route>,
        dialect: Dialect,
        front: &Front,
    ) -> Classified {
        if self.is_refused {
            return Classified { actions: Vec::new(), refused: Some(self.why), route: None, dialect };
        }
        let prefix = self.prefix.or_else(|| place.and_then(identify::prefix_of)).unwrap_or("unknown");
        let operation = self.operation.as_deref().unwrap_or("unknown");
        let action = Action {
            name: format!("aws:{prefix}:{operation}").into(),
            access: unknown_access(operation),
            traits: Traits::EMPTY.with(Trait::Unknown),
            resources: vec!["*".to_owned()],
            region: place.and_then(|it| it.region.clone()),
            account: front.account.clone(),
            parameters: Map::new(),
            sensitive: Vec::new(),
            iam_actions: Vec::new(),
            tags: Vec::new(),
            unknown: Some(self.why),
        };
        Classified { actions: vec![action], refused: None, route, dialect }
    }
}

impl From<BodyError> for Trouble {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Contradiction(why) => Self::refused(why),
            BodyError::Doubt(why) => Self::unknown(why),
        }
    }
}

/// An unknown operation is never taken for a read; a name may only raise what it is taken for.
fn unknown_access(operation: &str) -> Access {
    let is_about_rights = ["Attach", "Put", "Set", "Add", "Create", "Update", "Detach", "Delete"]
        .iter()
        .any(|verb| operation.starts_with(verb))
        && ["Policy", "Permission", "Role", "Grant", "Acl", "AccessKey"].iter().any(|word| operation.contains(word));
    if is_about_rights { Access::Permissions } else { Access::Write }
}

fn dialect(protocol: Protocol) -> Dialect {
    match protocol {
        Protocol::Cbor | Protocol::Json | Protocol::RpcJson => Dialect::Json,
        Protocol::Form(crate::wire::aws::form::Flavour::Ec2) => Dialect::Ec2,
        Protocol::Form(crate::wire::aws::form::Flavour::Query) => Dialect::Query,
        Protocol::RestJson => Dialect::RestJson,
        Protocol::RestXml => Dialect::RestXml,
    }
}

fn guessed_dialect(head: &Head, place: &Place<'_>) -> Dialect {
    let speaks = |protocol| place.entries().any(|it| it.speaks(protocol));
    match identify::selector(head, place) {
        Ok(Selector::Form) if speaks("ec2") => Dialect::Ec2,
        Ok(Selector::Form) => Dialect::Query,
        Ok(Selector::Rpc { .. } | Selector::Target(_)) => Dialect::Json,
        Ok(Selector::Rest) | Err(_) if speaks("rest-xml") => Dialect::RestXml,
        Ok(Selector::Rest) | Err(_) if speaks("rest-json") => Dialect::RestJson,
        Ok(Selector::Rest) | Err(_) => Dialect::Json,
    }
}

#[cfg(test)]
mod tests;
