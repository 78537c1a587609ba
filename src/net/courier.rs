//! Small requests of countersign's own: to a channel of people, never to an upstream.
//!
//! Nothing an agent says leads here: addresses come from the configuration, or from a service that it names.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};

use super::body::Outgoing;
use super::reach::Own;
use super::tls::TlsError;
use super::upstream::{Endpoint, Pool, SendError, UpstreamOptions};

/// Sends requests and reads whole answers, within [`PATIENCE`] and [`ANSWER_LIMIT_BYTES`].
pub(crate) struct Courier(Pool);

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// Seconds of `Retry-After` (RFC 9110, section 10.2.3), at most an hour.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let seconds: u64 = self.headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds.min(3_600)))
    }
}

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CourierError {
    #[error("`{0}` is no address with TLS")]
    Address(String),
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Late,
    #[error("{0}")]
    Send(#[from] SendError),
    #[error("the answer broke off, or is larger than {ANSWER_LIMIT_BYTES} bytes")]
    Broken,
}

impl Courier {
    /// # Errors
    /// When the extra CA file cannot be read, or the machine has no roots.
    pub(crate) fn new(extra_ca: Option<&Path>, own: Own) -> Result<Self, TlsError> {
        let extra_ca = extra_ca.map(Path::to_path_buf);
        let options = UpstreamOptions {
            answer_timeout: PATIENCE,
            stall_timeout: PATIENCE,
            extra_ca,
            ..UpstreamOptions::default()
        };
        Ok(Self(Pool::new(options, own)?))
    }

    /// Sends a request to the absolute URI that it holds. Redirects are not followed.
    ///
    /// # Errors
    /// When no whole answer came. It may have arrived all the same.
    pub(crate) async fn send(&self, request: Request<Bytes>) -> Result<Answer, CourierError> {
        let (mut head, body) = request.into_parts();
        let endpoint = endpoint(&head.uri).ok_or_else(|| CourierError::Address(head.uri.to_string()))?;
        let authority = head.uri.authority().map_or("", http::uri::Authority::as_str);
        let host = HeaderValue::from_str(authority).map_err(|_| CourierError::Address(head.uri.to_string()))?;
        head.headers.insert(header::HOST, host);
        head.headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        let request = Request::from_parts(head, Outgoing::whole(body));
        let exchange = async {
            let answer = self.0.send(&endpoint, Box::new(request)).await?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, ANSWER_LIMIT_BYTES).collect().await.map_err(|_| CourierError::Broken)?;
            Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
        };
        tokio::time::timeout(PATIENCE, exchange).await.unwrap_or(Err(CourierError::Late))
    }
}

/// Where a URI leads, when what is secret may be sent there: TLS, or this machine itself.
pub(crate) fn endpoint(uri: &Uri) -> Option<Endpoint> {
    let host = uri.host()?.trim_matches(['[', ']']).to_ascii_lowercase();
    let is_local = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") if is_local => false,
        _ => return None,
    };
    Some(Endpoint { host, port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }), tls })
}

/// For one exchange.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest answer that is read.
const ANSWER_LIMIT_BYTES: usize = 1 << 20;
const USER_AGENT: &str = concat!("countersign/", env!("CARGO_PKG_VERSION"));
