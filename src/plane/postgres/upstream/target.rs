//! Which of several hosts is wanted; named as libpq's `target_session_attrs`.

use bytes::BytesMut;

use super::authenticate::whole;
use super::{ConnectError, Link};
use crate::wire::postgres::backend::kind;
use crate::wire::postgres::frontend;

/// What a host must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Target {
    #[default]
    Any,
    /// Not in recovery.
    Primary,
    /// In a session, transactions may write: no standby, and not set to read only.
    ReadWrite,
}

/// Checks the server by what it reported, or by asking it: servers before version 14 do not report it.
pub(super) async fn check(
    link: &mut Link,
    parameters: &[(Vec<u8>, Vec<u8>)],
    target: Target,
) -> Result<(), ConnectError> {
    let reported = |name: &[u8]| parameters.iter().rev().find(|(it, _)| it == name).map(|(_, value)| value == b"on");
    let is_standby = match (target, reported(b"in_hot_standby")) {
        (Target::Any, _) => return Ok(()),
        (_, Some(is_standby)) => is_standby,
        (_, None) => ask(link, b"SELECT pg_catalog.pg_is_in_recovery()").await? == b"t",
    };
    if is_standby {
        return Err(ConnectError::Wrong { host: link.host.clone(), why: "it is a standby" });
    }
    if target == Target::Primary {
        return Ok(());
    }
    let is_read_only = match reported(b"default_transaction_read_only") {
        Some(is_read_only) => is_read_only,
        None => ask(link, b"SHOW transaction_read_only").await? == b"on",
    };
    match is_read_only {
        true => Err(ConnectError::Wrong { host: link.host.clone(), why: "it is read only" }),
        false => Ok(()),
    }
}

/// The one value that a query gives.
async fn ask(link: &mut Link, sql: &[u8]) -> Result<Vec<u8>, ConnectError> {
    let mut out = BytesMut::new();
    frontend::query(&mut out, sql);
    link.send(&mut out).await?;
    let mut value = Vec::new();
    loop {
        let message = link.receive().await?;
        let frame = whole(link, &message)?;
        match frame.kind {
            // One column: two bytes of count, four of length, the value.
            kind::DATA_ROW => value = frame.body().get(6..).unwrap_or_default().to_vec(),
            kind::ERROR_RESPONSE => {
                let said = frame.said().map_err(link.malformed())?;
                return Err(link.refused(frame, said));
            }
            kind::READY_FOR_QUERY => return Ok(value),
            _ => {}
        }
    }
}
