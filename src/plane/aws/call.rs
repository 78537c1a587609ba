//! The request exactly as it would be sent: built from the parsed head, never from received bytes.
//!
//! INVARIANT (what is decided is what runs): every field that is sent is either in the digest or on
//! the short list [`is_noise`], which no AWS operation reads. Signature, date, retry count and
//! claims are in neither, so that a retry has the digest of its first attempt and any other change
//! gives another one.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use percent_encoding::percent_decode_str;
use smallvec::SmallVec;

use crate::action::Action;
use crate::action::Shown;
use crate::classify::aws::Route;
use crate::digest::{Digest, sha256, write_json_string};
use crate::net::upstream::Endpoint;
use crate::time::Timestamp;
use crate::wire::head::Head;
use crate::wire::sigv4::{Behind, Key, Outgoing, Payload, SignError, Target};

/// Where requests go instead of AWS itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Endpoints {
    /// For every service that is not in `services`.
    pub(crate) all: Option<Endpoint>,
    /// By signing name: `s3`, `iam`.
    pub(crate) services: HashMap<String, Endpoint>,
}

impl Endpoints {
    /// Reads `http://host[:port]` or `https://host[:port]`. A path is refused, since it would be
    /// added to what was decided.
    pub(crate) fn parse(url: &str) -> Option<Endpoint> {
        let uri: http::Uri = url.parse().ok()?;
        let tls = match uri.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() || uri.authority()?.as_str().contains('@') {
            return None;
        }
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        (!host.is_empty()).then_some(Endpoint { host, port, tls })
    }

    fn override_for(&self, signing_name: &str) -> Option<&Endpoint> {
        self.services.get(signing_name).or(self.all.as_ref())
    }
}

/// The `Host` field for an endpoint: the port only where it is not the scheme's own.
fn authority(endpoint: &Endpoint) -> String {
    let host = if endpoint.host.contains(':') { format!("[{}]", endpoint.host) } else { endpoint.host.clone() };
    match (endpoint.tls, endpoint.port) {
        (true, 443) | (false, 80) => host,
        (_, port) => format!("{host}:{port}"),
    }
}

/// What is known of a body without its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BodyIdentity {
    /// Size in bytes; `None` while it streams with a size nobody stated.
    pub(super) size: Option<u64>,
    /// `None` while it streams and nobody stated it.
    pub(super) sha256: Option<Digest>,
}

/// One request as it would be sent, but for its body and its signature.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) endpoint: Endpoint,
    method: Method,
    target: Target,
    /// Everything that will be sent, credential and framing apart.
    headers: HeaderMap,
    service: Cow<'static, str>,
    region: Cow<'static, str>,
}

impl Call {
    /// That [`Call::new`] will find no field ambiguous: to be known before anyone judges the request.
    ///
    /// # Errors
    /// Those of [`Call::new`].
    pub(super) fn check(head: &Head, route: &Route) -> Result<(), Ambiguous> {
        hoisted(head, &route.signing_name).try_for_each(|field| {
            let (name, _) = field?;
            if head.headers.contains_key(&name) { Err(Ambiguous(name.to_string())) } else { Ok(()) }
        })
    }

    /// # Errors
    /// When a field of a presigned URL says the same as a header field: one of them would be ignored.
    pub(super) fn new(mut head: Head, route: Route, endpoints: &Endpoints) -> Result<Self, Ambiguous> {
        let endpoint = if let Some(endpoint) = endpoints.override_for(&route.signing_name) {
            move_bucket_into_path(&mut head, &route);
            endpoint.clone()
        } else {
            Endpoint { tls: true, host: route.host, port: 443 }
        };
        let mut headers = std::mem::take(&mut head.headers);
        let dropped: SmallVec<[HeaderName; 16]> = headers.keys().filter(|name| is_dropped(name)).cloned().collect();
        for name in dropped {
            headers.remove(name);
        }
        if let Ok(authority) = HeaderValue::from_str(&authority(&endpoint)) {
            headers.insert(HOST, authority);
        }
        for field in hoisted(&head, &route.signing_name) {
            let (name, value) = field?;
            if headers.insert(name.clone(), value).is_some() {
                return Err(Ambiguous(name.to_string()));
            }
        }
        let target = Target::of(&head, &route.signing_name);
        let Route { signing_name: service, signing_region: region, .. } = route;
        Ok(Self { endpoint, method: head.method, target, headers, service, region })
    }

    /// The digest of this call with that body, run by the upstream identity's `account`: SHA-256 of
    /// the canonical JSON of all of it.
    pub(super) fn digest(&self, body: BodyIdentity, account: Option<&str>) -> Digest {
        let mut text = String::with_capacity(1024);
        let mut member = |before: &str, value: Option<&str>, after: &str| {
            text.push_str(before);
            match value {
                Some(value) => write_json_string(value, &mut text),
                None => text.push_str("null"),
            }
            text.push_str(after);
        };
        member("{\"account\":", account, ",");
        member("\"body_sha256\":", body.sha256.map(|digest| digest.digits()).as_deref(), ",");
        member("\"body_size\":", body.size.map(|size| size.to_string()).as_deref(), ",\"headers\":[");
        let mut fields: Vec<_> = self.bearing().collect();
        fields.sort_by_key(|(name, _)| *name);
        let mut separator = "[";
        for (name, value) in fields {
            member(separator, Some(name), ",");
            member("", Some(value), "]");
            separator = ",[";
        }
        member("],\"method\":", Some(self.method.as_str()), ",");
        member("\"plane\":", Some("aws"), ",");
        member("\"region\":", Some(&self.region), ",");
        member("\"service\":", Some(&self.service), ",");
        member("\"target\":", Some(self.target.as_str()), ",");
        member("\"tls\":", Some(if self.endpoint.tls { "yes" } else { "no" }), "}");
        sha256(text.as_bytes())
    }

    /// The request for people. Secrets that stand in fields or in the query are replaced.
    pub(super) fn shown(&self, body: BodyIdentity, actions: &[Action]) -> Shown {
        let mut headers: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in self.bearing().filter(|(name, _)| *name != "host") {
            let value = if is_secret_field(name) { REDACTED } else { value };
            headers
                .entry(name.to_owned())
                .and_modify(|all| all.extend([", ", value]))
                .or_insert_with(|| value.to_owned());
        }
        let target = self.target.as_str();
        Shown {
            method: self.method.to_string(),
            url: format!("{}{}", authority(&self.endpoint), redacted_query(target, actions)),
            headers,
            body_bytes: body.size.unwrap_or_default(),
            body_sha256: body.sha256.map(|digest| digest.hex()).unwrap_or_default(),
            reach: Vec::new(),
            deltas: Vec::new(),
            crossed: None,
        }
    }

    /// Signs with the real key: the head of the upstream request, and the chain that the parts of its body are
    /// signed in.
    ///
    /// # Errors
    /// When the real key cannot be used.
    pub(super) fn sign(
        mut self,
        payload: Payload,
        key: &Arc<Key>,
        now: Timestamp,
    ) -> Result<(http::Request<()>, Behind), SignError> {
        let behind = Outgoing {
            method: &self.method,
            target: &self.target,
            headers: &mut self.headers,
            service: &self.service,
            region: &self.region,
            payload,
        }
        .sign(key, now)?;
        let mut request = http::Request::new(());
        *request.method_mut() = self.method;
        // `Target` spells only what a URI can hold; should it ever not, nothing must be sent.
        *request.uri_mut() = Uri::try_from(self.target.path_and_query()).map_err(|_| SignError::HostMissing)?;
        *request.headers_mut() = self.headers;
        Ok((request, behind))
    }

    /// The fields that bear meaning.
    fn bearing(&self) -> impl Iterator<Item = (&str, &str)> {
        let texts = self.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap_or_default()));
        texts.filter(|(name, _)| !is_noise(name))
    }
}

/// A field stands in a presigned URL and in the headers, or cannot stand in a header at all.
#[derive(Debug, thiserror::Error)]
#[error("the presigned field `{0}` cannot be sent as a header field")]
pub(super) struct Ambiguous(String);

/// The fields of a presigned URL that S3 reads as header fields, as they are sent.
fn hoisted(head: &Head, service: &str) -> impl Iterator<Item = Result<(HeaderName, HeaderValue), Ambiguous>> {
    Target::hoisted(head, service).map(|(name, value)| {
        let name: HeaderName = name.parse().map_err(|_| Ambiguous(name.to_owned()))?;
        let value = HeaderValue::from_str(value).map_err(|_| Ambiguous(name.to_string()))?;
        Ok((name, value))
    })
}

/// An S3 bucket in the host name would be lost at an endpoint of our own: it moves to the path,
/// which means the same to S3.
fn move_bucket_into_path(head: &mut Head, route: &Route) {
    let is_s3 = route.signing_name == "s3";
    let bucket = [".s3.", ".s3-"].iter().filter_map(|mark| route.host.find(mark)).min();
    if let Some(bucket) = bucket.and_then(|end| route.host.get(..end))
        && is_s3
        && !bucket.is_empty()
    {
        head.path = format!("/{bucket}{}", head.path);
    }
}

/// Fields that end here: they belong to the agent's connection, its credential, its SDK's retries
/// or its claims, or are written anew.
fn is_dropped(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "authorization"
            | "baggage"
            | "connection"
            | "content-length"
            | "cookie"
            | "date"
            | "expect"
            | "forwarded"
            | "host"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "traceparent"
            | "tracestate"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "via"
            | "x-amz-content-sha256"
            | "x-amz-date"
            | "x-amz-region-set"
            | "x-amz-security-token"
            | "x-real-ip"
    ) || ["amz-sdk-", "x-countersign-", "x-forwarded-"].iter().any(|prefix| name.as_str().starts_with(prefix))
}

/// Fields that are sent but change nothing in what runs.
fn is_noise(name: &str) -> bool {
    matches!(name, "user-agent" | "x-amz-user-agent" | "x-amzn-trace-id")
}

fn is_secret_field(name: &str) -> bool {
    name.ends_with("customer-key") || matches!(name, "authentication" | "grafana-token" | "x-amz-mfa" | "x-api-key")
}

/// The target with the values of secret query fields replaced (query protocols may be called by GET).
fn redacted_query<'t>(target: &'t str, actions: &[Action]) -> Cow<'t, str> {
    let Some((path, query)) = target.split_once('?') else { return Cow::Borrowed(target) };
    let is_secret = |field: &str| {
        let name = percent_decode_str(field.split('=').next().unwrap_or_default()).decode_utf8_lossy();
        let lower = name.to_ascii_lowercase();
        lower.contains("password")
            || lower.contains("secretstring")
            || lower.contains("secretbinary")
            || actions.iter().flat_map(|action| &action.sensitive).any(|it| *it == *name)
    };
    if !query.split('&').any(is_secret) {
        return Cow::Borrowed(target);
    }
    let fields = query.split('&').map(|field| match field.split_once('=') {
        Some((name, _)) if is_secret(field) => Cow::Owned(format!("{name}={REDACTED}")),
        _ => Cow::Borrowed(field),
    });
    Cow::Owned(format!("{path}?{}", fields.collect::<Vec<_>>().join("&")))
}

const REDACTED: &str = "[redacted]";

#[cfg(test)]
mod tests;
