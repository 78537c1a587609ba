//! Why a signature was refused, in AWS's own codes.

use super::Source;

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

/// Why a request's signature was refused. The message is safe to show to the client: it never says
/// more about a key than that it is not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SigError {
    #[error("the body is not the one that was signed: its SHA-256 differs from the signed one")]
    BodyDiffers,
    /// A bug of the caller, never of the client: see [`Presented::needs_body`](super::Presented::needs_body).
    #[error("the body must be read before this signature can be verified")]
    BodyNeeded,
    #[error("the path holds a dot segment")]
    DotSegment,
    #[error("the presigned url has expired")]
    Expired,
    #[error("the credential is malformed: {why}")]
    Malformed { place: Source, why: &'static str },
    #[error("the request is not signed: sign it with the virtual access key of an agent")]
    Missing,
    #[error("S3 requests need an x-amz-content-sha256 header")]
    PayloadMissing,
    #[error("the x-amz-content-sha256 value is neither a SHA-256 nor a form that is served for this request")]
    PayloadUnknown,
    #[error("more than one credential is presented: send one, in the header or in the query")]
    Several,
    #[error("the request's date is more than five minutes away from the server's: set the clock")]
    Skewed,
    #[error("the signature does not match the request: check the secret access key and the signing method")]
    SignatureDiffers,
    #[error("a session token is presented, but no virtual key has one: unset AWS_SESSION_TOKEN")]
    Token,
    #[error("header field `{0}` is not covered by the signature")]
    Unsigned(String),
    #[error("the access key is not valid: it is unknown, expired or revoked")]
    UnknownKey,
    #[error("{0} is not accepted: sign with AWS4-HMAC-SHA256")]
    Unsupported(&'static str),
}

impl SigError {
    /// The error code of that family of services.
    pub(crate) const fn code(&self, family: Family) -> &'static str {
        self.answer(family).0
    }

    /// The HTTP status that goes with [`SigError::code`].
    pub(crate) const fn status(&self, family: Family) -> u16 {
        self.answer(family).1
    }

    const fn answer(&self, family: Family) -> (&'static str, u16) {
        match family {
            Family::Ec2 => self.ec2(),
            Family::Json => self.json(),
            Family::Query => self.query(),
            Family::S3 => self.s3(),
        }
    }

    const fn ec2(&self) -> (&'static str, u16) {
        match self {
            Self::BodyDiffers | Self::SignatureDiffers | Self::Token | Self::UnknownKey => ("AuthFailure", 401),
            Self::Skewed => ("RequestExpired", 400),
            other => other.query(),
        }
    }

    const fn json(&self) -> (&'static str, u16) {
        match self {
            Self::BodyDiffers | Self::Expired | Self::SignatureDiffers | Self::Skewed | Self::Unsigned(_) => {
                ("InvalidSignatureException", 403)
            }
            Self::BodyNeeded => ("InternalFailure", 500),
            Self::DotSegment
            | Self::Malformed { .. }
            | Self::PayloadMissing
            | Self::PayloadUnknown
            | Self::Several
            | Self::Unsupported(_) => ("IncompleteSignatureException", 400),
            Self::Missing => ("MissingAuthenticationTokenException", 403),
            Self::Token | Self::UnknownKey => ("UnrecognizedClientException", 403),
        }
    }

    const fn query(&self) -> (&'static str, u16) {
        match self {
            // A wrong clock has no code of its own at IAM and STS; SDKs that set their clock by it know this one.
            Self::BodyDiffers | Self::SignatureDiffers | Self::Skewed | Self::Unsigned(_) => {
                ("SignatureDoesNotMatch", 403)
            }
            Self::BodyNeeded => ("InternalFailure", 500),
            Self::Expired => ("RequestExpired", 400),
            Self::DotSegment
            | Self::Malformed { .. }
            | Self::PayloadMissing
            | Self::PayloadUnknown
            | Self::Several
            | Self::Unsupported(_) => ("IncompleteSignature", 400),
            Self::Missing => ("MissingAuthenticationToken", 403),
            Self::Token | Self::UnknownKey => ("InvalidClientTokenId", 403),
        }
    }

    const fn s3(&self) -> (&'static str, u16) {
        match self {
            Self::BodyDiffers => ("XAmzContentSHA256Mismatch", 400),
            Self::BodyNeeded => ("InternalError", 500),
            Self::Expired | Self::Missing | Self::Unsigned(_) => ("AccessDenied", 403),
            Self::DotSegment | Self::PayloadMissing | Self::Unsupported(_) => ("InvalidRequest", 400),
            Self::Malformed { place: Source::Header, .. } => ("AuthorizationHeaderMalformed", 400),
            Self::Malformed { place: Source::Query, .. } => ("AuthorizationQueryParametersError", 400),
            Self::PayloadUnknown | Self::Several => ("InvalidArgument", 400),
            Self::SignatureDiffers => ("SignatureDoesNotMatch", 403),
            Self::Skewed => ("RequestTimeTooSkewed", 403),
            Self::Token => ("InvalidToken", 400),
            Self::UnknownKey => ("InvalidAccessKeyId", 403),
        }
    }
}
