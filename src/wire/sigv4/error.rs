//! Why a signature was refused, in AWS's own codes.

/// Which error codes the client's parser expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Ec2,
    /// JSON and REST-JSON services.
    Json,
    /// Query services, and REST-XML services that are not S3.
    Query,
    S3,
}

/// Why a request's signature was refused. The message is safe to show to the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SigError {
    #[error("the request is not signed")]
    Missing,
}

impl SigError {
    /// The error code of that family of services.
    pub(crate) fn code(&self, _family: Family) -> &'static str {
        "MissingAuthenticationToken"
    }

    /// The HTTP status that goes with [`SigError::code`].
    pub(crate) fn status(&self, _family: Family) -> u16 {
        403
    }
}
