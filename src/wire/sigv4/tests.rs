//! What must verify, what must not, and that two foreign signers agree with ours.

use std::sync::Arc;
use std::time::Duration;

use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation, SigningSettings,
    UriPathNormalizationMode, sign,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::*;
use crate::digest::sha256;
use crate::secret::Secret;
use crate::time::Timestamp;
use crate::wire::head::{Head, HeadError};

mod attack;
mod botocore;
mod events;
mod peer;
mod vector;

const KEY_ID: &str = "AKCSEXAMPLEEXAMPLE22";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const NOW: &str = "20261120T112555Z";

fn key() -> Key {
    Key::new(KEY_ID, Secret::new(SECRET), None, None)
}

fn now() -> Timestamp {
    Timestamp::parse_amz_date(NOW).unwrap()
}

type Fields = Vec<(String, String)>;

/// A request as bytes that a test can bend before it is judged.
#[derive(Clone, Debug)]
struct Draft {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    now: Timestamp,
}

/// Why a draft does not pass.
#[derive(Clone, Debug, PartialEq)]
enum Refusal {
    Head(HeadError),
    NotHttp,
    Sig(SigError),
}

impl Draft {
    fn new(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { method: method.to_owned(), target: target.to_owned(), headers, body: body.to_vec(), now: now() }
    }

    fn header_mut(&mut self, name: &str) -> &mut String {
        &mut self.headers.iter_mut().find(|(field, _)| field.eq_ignore_ascii_case(name)).unwrap().1
    }

    fn set(&mut self, name: &str, value: &str) {
        self.headers.retain(|(field, _)| !field.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    fn remove(&mut self, name: &str) {
        self.headers.retain(|(field, _)| !field.eq_ignore_ascii_case(name));
    }

    fn replace(&mut self, name: &str, from: &str, to: &str) {
        let value = self.header_mut(name);
        assert!(value.contains(from), "`{value}` holds no `{from}`");
        *value = value.replacen(from, to, 1);
    }

    fn replace_target(&mut self, from: &str, to: &str) {
        assert!(self.target.contains(from), "`{}` holds no `{from}`", self.target);
        self.target = self.target.replacen(from, to, 1);
    }

    fn head(&self) -> Result<Head, Refusal> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let name: HeaderName = name.parse().map_err(|_| Refusal::NotHttp)?;
            headers.append(name, HeaderValue::from_str(value).map_err(|_| Refusal::NotHttp)?);
        }
        let uri: Uri = self.target.parse().map_err(|_| Refusal::NotHttp)?;
        let method = Method::from_bytes(self.method.as_bytes()).map_err(|_| Refusal::NotHttp)?;
        Head::parse(method, &uri, headers).map_err(Refusal::Head)
    }

    fn judge(&self) -> Result<PayloadClaim, Refusal> {
        let head = self.head()?;
        let presented = Presented::parse(&head, self.now).map_err(Refusal::Sig)?;
        presented.verify(&head, Some(sha256(&self.body)), &key()).map_err(Refusal::Sig)?;
        Ok(presented.payload)
    }

    /// Signs with the `aws-sigv4` crate, in the header.
    fn signed(mut self, service: &str) -> Self {
        let (headers, _) = self.foreign(service, SignatureLocation::Headers, &[]);
        for (name, value) in headers {
            self.set(&name, &value);
        }
        self
    }

    /// Makes a presigned URL with the `aws-sigv4` crate.
    fn presigned(mut self, service: &str) -> Self {
        let (headers, fields) = self.foreign(service, SignatureLocation::QueryParams, &[]);
        assert!(headers.is_empty());
        self.append_query(&fields);
        self
    }

    fn append_query(&mut self, fields: &[(String, String)]) {
        for (name, value) in fields {
            let joint = if self.target.contains('?') { '&' } else { '?' };
            self.target.push(joint);
            let encoded: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
            self.target.push_str(&format!("{name}={}", encoded.replace('+', "%20")));
        }
    }

    fn foreign(&self, service: &str, location: SignatureLocation, excluded: &[&'static str]) -> (Fields, Fields) {
        let is_s3 = matches!(service, "s3" | "s3-object-lambda" | "s3-outposts" | "s3express");
        let mut settings = SigningSettings::default();
        settings.signature_location = location;
        if location == SignatureLocation::QueryParams {
            settings.expires_in = Some(Duration::from_secs(3600));
        }
        if is_s3 {
            settings.percent_encoding_mode = PercentEncodingMode::Single;
            settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        }
        settings.excluded_headers.get_or_insert_default().extend(excluded.iter().map(|name| (*name).into()));
        let identity = aws_credential_types::Credentials::new(KEY_ID, SECRET, None, None, "test").into();
        let time = std::time::UNIX_EPOCH + Duration::from_micros(now().as_micros().unsigned_abs());
        let params = aws_sigv4::sign::v4::SigningParams::builder()
            .identity(&identity)
            .region("us-east-1")
            .name(service)
            .time(time)
            .settings(settings)
            .build()
            .unwrap()
            .into();
        let body = if location == SignatureLocation::QueryParams && is_s3 {
            SignableBody::UnsignedPayload
        } else {
            SignableBody::Bytes(&self.body)
        };
        let host = &self.headers.iter().find(|(name, _)| name == "host").unwrap().1;
        let uri = format!("https://{host}{}", self.target);
        let headers = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let request = SignableRequest::new(&self.method, &uri, headers, body).unwrap();
        let (instructions, _) = sign(request, &params).unwrap().into_parts();
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let fields = instructions.params().iter().map(|(name, value)| owned((name, value.as_ref()))).collect();
        (instructions.headers().map(owned).collect(), fields)
    }
}

#[test]
fn every_refusal_has_a_code_for_every_family() {
    let malformed = |place| SigError::Malformed { place, why: "x" };
    let table = [
        (SigError::BodyDiffers, "SignatureDoesNotMatch 403", "XAmzContentSHA256Mismatch 400"),
        (SigError::BodyNeeded, "InternalFailure 500", "InternalError 500"),
        (SigError::DotSegment, "IncompleteSignature 400", "InvalidRequest 400"),
        (SigError::Expired, "RequestExpired 400", "AccessDenied 403"),
        (malformed(Source::Header), "IncompleteSignature 400", "AuthorizationHeaderMalformed 400"),
        (malformed(Source::Query), "IncompleteSignature 400", "AuthorizationQueryParametersError 400"),
        (SigError::Missing, "MissingAuthenticationToken 403", "AccessDenied 403"),
        (SigError::PayloadMissing, "IncompleteSignature 400", "InvalidRequest 400"),
        (SigError::PayloadUnknown, "IncompleteSignature 400", "InvalidArgument 400"),
        (SigError::Several, "IncompleteSignature 400", "InvalidArgument 400"),
        (SigError::SignatureDiffers, "SignatureDoesNotMatch 403", "SignatureDoesNotMatch 403"),
        (SigError::Skewed, "SignatureDoesNotMatch 403", "RequestTimeTooSkewed 403"),
        (SigError::Token, "InvalidClientTokenId 403", "InvalidToken 400"),
        (SigError::UnknownKey, "InvalidClientTokenId 403", "InvalidAccessKeyId 403"),
        (SigError::Unsigned("x".into()), "SignatureDoesNotMatch 403", "AccessDenied 403"),
        (SigError::Unsupported("x"), "IncompleteSignature 400", "InvalidRequest 400"),
    ];
    for (error, query, s3) in table {
        let spell = |family| format!("{} {}", error.code(family), error.status(family));
        assert_eq!((spell(Family::Query).as_str(), spell(Family::S3).as_str()), (query, s3), "{error:?}");
        // botocore and the JS SDK take `Exception` off or leave it, but want one on JSON services.
        assert!(spell(Family::Json).contains("Exception") || error == SigError::BodyNeeded, "{error:?}");
        let ec2 = spell(Family::Ec2);
        assert!(ec2 == query || ec2 == "AuthFailure 401" || error == SigError::Skewed, "{error:?}");
    }
}
