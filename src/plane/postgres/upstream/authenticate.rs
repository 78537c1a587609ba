//! The login on the real server, up to its first ReadyForQuery.

use bytes::BytesMut;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

use super::{ConnectError, Link, Options};
use crate::net::certificate::end_point;
use crate::secret::Secret;
use crate::wire::postgres::backend::{Authentication, Frame, Mechanisms, kind};
use crate::wire::postgres::{frontend, scram};

/// What the server said on the way.
#[derive(Default)]
pub(super) struct Greeting {
    pub(super) parameters: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) notices: BytesMut,
    /// Process id and key; a server that cannot cancel sends none.
    pub(super) key: Option<(u32, Vec<u8>)>,
}

/// Authenticates, and reads on until the server is ready.
pub(super) async fn log_in(link: &mut Link, options: &Options) -> Result<Greeting, ConnectError> {
    let mut greeting = Greeting::default();
    let mut is_authenticated = false;
    loop {
        let message = link.receive().await?;
        let frame = whole(link, &message)?;
        match frame.kind {
            kind::AUTHENTICATION if !is_authenticated => {
                is_authenticated = answer(link, options, frame).await?;
            }
            kind::ERROR_RESPONSE => {
                let said = frame.said().map_err(link.malformed())?;
                return Err(link.refused(frame, said));
            }
            kind::NOTICE_RESPONSE if greeting.notices.len() < super::LONGEST_GREETING => {
                greeting.notices.extend_from_slice(frame.raw);
            }
            kind::PARAMETER_STATUS if is_authenticated && greeting.parameters.len() < MOST_PARAMETERS => {
                let (name, value) = frame.parameter().map_err(link.malformed())?;
                greeting.parameters.push((name.to_vec(), value.to_vec()));
            }
            kind::BACKEND_KEY_DATA if is_authenticated => {
                let (process_id, key) = frame.key().map_err(link.malformed())?;
                greeting.key = Some((process_id, key.to_vec()));
            }
            kind::READY_FOR_QUERY if is_authenticated => {
                frame.transaction().map_err(link.malformed())?;
                return Ok(greeting);
            }
            // Only `_pq_.` options and newer versions cause it, and neither was asked for.
            other => return Err(link.misspoken(format!("message `{}` in a login", char::from(other)))),
        }
    }
}

/// Gives the server what it asks for; whether it is content.
async fn answer(link: &mut Link, options: &Options, frame: Frame<'_>) -> Result<bool, ConnectError> {
    let mut out = BytesMut::new();
    let is_tls = link.stream.tls().is_some();
    match frame.authentication().map_err(link.malformed())? {
        Authentication::Ok => return Ok(true),
        Authentication::Password if is_tls || options.is_cleartext_allowed => {
            let password = options.password.read().await.map_err(ConnectError::Password)?;
            frontend::password(&mut out, password.expose().as_bytes());
        }
        Authentication::Password => return Err(unwilling(link, "the password in the clear, without TLS")),
        Authentication::Md5(salt) => {
            let password = options.password.read().await.map_err(ConnectError::Password)?;
            let hash = md5_hash(options.user.as_bytes(), password.expose().as_bytes(), salt);
            frontend::password(&mut out, hash.as_bytes());
        }
        Authentication::Sasl(mechanisms) => {
            let password = options.password.read().await.map_err(ConnectError::Password)?;
            sasl(link, &password, mechanisms).await?;
            return Ok(false);
        }
        Authentication::SaslContinue(_) | Authentication::SaslFinal(_) => {
            return Err(link.misspoken("a SASL message out of turn"));
        }
        Authentication::Other => return Err(unwilling(link, "Kerberos, GSSAPI, SSPI or OAuth")),
    }
    link.send(&mut out).await?;
    Ok(false)
}

/// SCRAM, bound to the server's certificate where both sides can. It ends with the server's own proof,
/// without which no AuthenticationOk would be believed.
async fn sasl(link: &mut Link, password: &Secret, mechanisms: Mechanisms<'_>) -> Result<(), ConnectError> {
    let offers = |name: &str| mechanisms.iter().any(|it| it == name.as_bytes());
    let certificate = link.stream.tls().and_then(|tls| tls.peer_certificates()).and_then(|chain| chain.first());
    let (mechanism, binding) = match certificate.and_then(end_point) {
        Some(end_point) if offers(scram::PLUS) => (scram::PLUS, ChannelBinding::tls_server_end_point(end_point)),
        // It is told that we could have: if it could too, somebody took its offer away.
        Some(_) => (scram::PLAIN, ChannelBinding::unrequested()),
        None => (scram::PLAIN, ChannelBinding::unsupported()),
    };
    if !offers(mechanism) {
        return Err(unwilling(link, "a SASL mechanism other than SCRAM-SHA-256"));
    }
    let mut client = ScramSha256::new(password.expose().as_bytes(), binding);
    let mut out = BytesMut::new();
    frontend::sasl_initial_response(&mut out, mechanism, client.message());
    link.send(&mut out).await?;

    let message = link.receive().await?;
    let Authentication::SaslContinue(server_first) = step(link, &message)? else {
        return Err(link.misspoken("no SASL challenge"));
    };
    client.update(server_first).map_err(|error| link.misspoken(error))?;
    frontend::sasl_response(&mut out, client.message());
    link.send(&mut out).await?;

    let message = link.receive().await?;
    let Authentication::SaslFinal(server_final) = step(link, &message)? else {
        return Err(link.misspoken("no end of the SASL exchange"));
    };
    client.finish(server_final).map_err(|_| ConnectError::Impostor { host: link.host.clone() })
}

/// The next step of an exchange, unless the server has had enough.
fn step<'a>(link: &Link, message: &'a [u8]) -> Result<Authentication<'a>, ConnectError> {
    let frame = whole(link, message)?;
    match frame.kind {
        kind::AUTHENTICATION => frame.authentication().map_err(link.malformed()),
        kind::ERROR_RESPONSE => {
            let said = frame.said().map_err(link.malformed())?;
            Err(link.refused(frame, said))
        }
        other => Err(link.misspoken(format!("message `{}` in a SASL exchange", char::from(other)))),
    }
}

pub(super) fn whole<'a>(link: &Link, message: &'a [u8]) -> Result<Frame<'a>, ConnectError> {
    let frame = Frame::split(message).map_err(|error| link.misspoken(error))?;
    frame.ok_or_else(|| link.misspoken("a message that is not whole"))
}

fn unwilling(link: &Link, what: &'static str) -> ConnectError {
    ConnectError::Unwilling { host: link.host.clone(), what }
}

/// Servers report some fifteen; extensions add a few.
const MOST_PARAMETERS: usize = 256;
