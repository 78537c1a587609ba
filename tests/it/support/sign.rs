//! Requests as bytes, signed by AWS's own signing crate: a judge that shares no code with ours.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation, SigningInstructions,
    SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;

/// A virtual key pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) id: String,
    pub(crate) secret: String,
}

/// A request that can be signed and then bent.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) method: String,
    pub(crate) host: String,
    /// Path and query as on the wire.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) service: String,
    pub(crate) region: String,
    pub(crate) at: SystemTime,
}

impl Draft {
    pub(crate) fn new(service: &str, host: &str, method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            host: host.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            service: service.to_owned(),
            region: "us-east-1".to_owned(),
            at: now(),
        }
    }

    /// A call of a query-protocol service, as SDKs send it.
    pub(crate) fn query(service: &str, host: &str, form: &str) -> Self {
        let mut draft = Self::new(service, host, "POST", "/");
        draft.body = form.as_bytes().to_vec();
        draft.header("content-type", "application/x-www-form-urlencoded; charset=utf-8")
    }

    /// A call of a JSON 1.0 service.
    pub(crate) fn json(service: &str, host: &str, target: &str, body: &str) -> Self {
        let mut draft = Self::new(service, host, "POST", "/");
        draft.body = body.as_bytes().to_vec();
        draft.header("content-type", "application/x-amz-json-1.0").header("x-amz-target", target)
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The SDK's id that stays the same over the attempts of one call.
    pub(crate) fn retry_id(self, id: &str) -> Self {
        self.header("amz-sdk-invocation-id", id)
    }

    /// The request's bytes with a valid signature.
    pub(crate) fn signed(&self, keys: &Keys) -> Vec<u8> {
        self.bytes(&self.signature(keys, SignableBody::Bytes(&self.body)))
    }

    /// The head of a request whose body of that length and hash is sent by the caller; without a
    /// hash it is `UNSIGNED-PAYLOAD`.
    pub(crate) fn signed_head(&self, keys: &Keys, length: u64, sha256: Option<&str>) -> Vec<u8> {
        let body = match sha256 {
            Some(hash) => SignableBody::Precomputed(hash.to_owned()),
            None => SignableBody::UnsignedPayload,
        };
        let head = String::from_utf8(self.bytes(&self.signature(keys, body))).unwrap();
        head.replacen("content-length: 0\r\n", &format!("content-length: {length}\r\n"), 1).into_bytes()
    }

    /// The head of a request whose body comes in HTTP chunks, and the signature that the first of its parts follows.
    pub(crate) fn signed_stream(&self, keys: &Keys, payload: &str) -> (Vec<u8>, String) {
        let signature = self.signature(keys, SignableBody::Precomputed(payload.to_owned()));
        let seed = signature.iter().find(|(name, _)| name == "authorization").unwrap().1.clone();
        let head = String::from_utf8(self.bytes(&signature)).unwrap();
        let head = head.replacen("content-length: 0\r\n", "transfer-encoding: chunked\r\n", 1);
        (head.into_bytes(), seed.rsplit_once("Signature=").unwrap().1.to_owned())
    }

    /// The request with its body in these chunks and a trailer, each signed by AWS's crate after the one before.
    pub(crate) fn signed_chunks(&self, keys: &Keys, chunks: &[&[u8]], trailer: Option<(&str, &str)>) -> Vec<u8> {
        let decoded: usize = chunks.iter().map(|it| it.len()).sum();
        let mut draft = self.clone();
        draft = draft.header("content-encoding", "aws-chunked");
        draft = draft.header("x-amz-decoded-content-length", &decoded.to_string());
        let literal = match trailer {
            None => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
            Some((name, _)) => {
                draft = draft.header("x-amz-trailer", name);
                "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
            }
        };
        let signature = draft.signature(keys, SignableBody::Precomputed(literal.to_owned()));
        let seed = signature.iter().find(|(name, _)| name == "authorization").unwrap().1.clone();
        let seed = seed.rsplit_once("Signature=").unwrap().1;
        draft.body = chunked(keys, draft.at, &draft.region, seed, chunks, trailer);
        draft.bytes(&signature)
    }

    /// The bytes as they are, without a signature.
    pub(crate) fn unsigned(&self) -> Vec<u8> {
        self.bytes(&[])
    }

    /// A presigned URL's path and query.
    pub(crate) fn presigned(&self, keys: &Keys, expires: Duration) -> String {
        let mut settings = self.settings();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(expires);
        let mut signed = http::Request::builder().uri(self.uri()).body(()).unwrap();
        self.sign(keys, settings, SignableBody::UnsignedPayload).apply_to_request_http1x(&mut signed);
        signed.uri().path_and_query().unwrap().to_string()
    }

    fn signature(&self, keys: &Keys, body: SignableBody<'_>) -> Vec<(String, String)> {
        let instructions = self.sign(keys, self.settings(), body);
        instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn sign(&self, keys: &Keys, settings: SigningSettings, body: SignableBody<'_>) -> SigningInstructions {
        let identity = Credentials::new(&keys.id, &keys.secret, None, None, "tests").into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(&self.service)
            .time(self.at)
            .settings(settings)
            .build()
            .unwrap()
            .into();
        let uri = self.uri();
        let headers = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let request = SignableRequest::new(&self.method, &uri, headers, body).unwrap();
        sign(request, &parameters).unwrap().into_parts().0
    }

    fn uri(&self) -> String {
        format!("http://{}{}", self.host, self.target)
    }

    fn settings(&self) -> SigningSettings {
        let mut settings = SigningSettings::default();
        if self.service == "s3" {
            settings.percent_encoding_mode = PercentEncodingMode::Single;
            settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        }
        settings
    }

    fn bytes(&self, signature: &[(String, String)]) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\nhost: {}\r\n", self.method, self.target, self.host);
        for (name, value) in self.headers.iter().chain(signature) {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.body.is_empty() || self.method != "GET" {
            text.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        let mut bytes = (text + "\r\n").into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// A body of signed chunks behind a head with that signature.
pub(crate) fn chunked(
    keys: &Keys,
    at: SystemTime,
    region: &str,
    seed: &str,
    chunks: &[&[u8]],
    trailer: Option<(&str, &str)>,
) -> Vec<u8> {
    let identity = Credentials::new(&keys.id, &keys.secret, None, None, "tests").into();
    let parameters: v4::SigningParams<'_, ()> = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("s3")
        .time(at)
        .settings(())
        .build()
        .unwrap();
    let (mut body, mut before) = (Vec::new(), seed.to_owned());
    for chunk in chunks.iter().copied().chain([&[][..]]) {
        before = v4::sign_chunk(&bytes::Bytes::copy_from_slice(chunk), &before, &parameters).unwrap().into_parts().1;
        body.extend_from_slice(format!("{:x};chunk-signature={before}\r\n", chunk.len()).as_bytes());
        body.extend_from_slice(chunk);
        if !chunk.is_empty() || trailer.is_none() {
            body.extend_from_slice(b"\r\n");
        }
    }
    if let Some((name, value)) = trailer {
        let mut fields = aws_smithy_runtime_api::http::Headers::new();
        fields.insert(name.to_owned(), value.to_owned());
        before = v4::sign_trailer(&fields, &before, &parameters).unwrap().into_parts().1;
        body.extend_from_slice(format!("{name}:{value}\r\nx-amz-trailer-signature:{before}\r\n\r\n").as_bytes());
    }
    body
}

#[expect(clippy::disallowed_methods, reason = "a signature carries the real time")]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}
