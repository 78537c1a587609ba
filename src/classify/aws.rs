//! Names AWS requests.

use serde_json::{Map, Value};

use crate::action::Action;
use crate::wire::head::Head;

/// What is known about the place a request arrived at, besides its bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Front {
    /// Host names by which agents reach us when they set an endpoint URL (lower case, no port).
    /// IP addresses and `localhost` always count. A host that is neither one of these nor an AWS
    /// host is unknown.
    pub(crate) endpoint_hosts: Vec<String>,
    /// Account of the upstream identity, for resource names; `None` while not known.
    pub(crate) account: Option<String>,
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
    pub(crate) signing_name: String,
    /// The region of the credential scope.
    pub(crate) signing_region: String,
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
pub(crate) fn body_need(_head: &Head, _front: &Front) -> BodyNeed {
    BodyNeed::Whole
}

/// Names one request.
pub(crate) fn classify(_head: &Head, _body: Body<'_>, _front: &Front) -> Classified {
    Classified { actions: Vec::new(), refused: Some("not built yet".to_owned()), route: None, dialect: Dialect::Json }
}

/// Writes a form or JSON request anew with `parameters` in place of its own. The result must be
/// classified and judged again by the caller; this function promises nothing about it.
///
/// # Errors
/// When the request is of a kind that cannot be written anew, or a parameter cannot be expressed.
pub(crate) fn narrow(
    _head: &Head,
    _body: &[u8],
    _front: &Front,
    _parameters: &Map<String, Value>,
) -> Result<(Head, Vec<u8>), NarrowError> {
    Err(NarrowError("not built yet".to_owned()))
}

/// Why a modification cannot be put on the wire; the text is shown to the approver.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NarrowError(pub(crate) String);
