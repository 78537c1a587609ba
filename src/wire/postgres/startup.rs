//! The packets before a session: they have a length but no type (PostgreSQL docs, sections 55.2.1,
//! 55.2.11 and 55.7).

use bytes::{BufMut, BytesMut};

use super::cursor::{Cursor, Field};
use super::{put_counted, put_text};

/// The longest packet that a server reads, in bytes.
pub(crate) const LIMIT: usize = 10_000;
/// The longest key that a CancelRequest carries, in bytes.
pub(crate) const LONGEST_KEY: usize = 256;

const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Version(u32);

impl Version {
    pub(crate) const V3_0: Self = Self::new(3, 0);
    /// Since PostgreSQL 18: cancel keys may be longer than four bytes.
    pub(crate) const V3_2: Self = Self::new(3, 2);

    pub(crate) const fn new(major: u16, minor: u16) -> Self {
        Self((major as u32) << 16 | minor as u32)
    }

    pub(crate) fn major(self) -> u16 {
        (self.0 >> 16) as u16
    }

    pub(crate) fn minor(self) -> u16 {
        (self.0 & 0xffff) as u16
    }

    /// As it stands in packets.
    pub(crate) fn code(self) -> u32 {
        self.0
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major(), self.minor())
    }
}

/// Why bytes are no packet of this family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StartupError {
    #[error("a startup packet cannot be {0} bytes long")]
    Length(u32),
    #[error("the startup packet is malformed: {0}")]
    Malformed(&'static str),
}

/// What a client opens with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packet<'a> {
    Cancel(Cancel<'a>),
    Gssenc,
    Ssl,
    Startup(Startup<'a>),
}

/// Asks to cancel what another session runs. Nothing proves who sends it but the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cancel<'a> {
    pub(crate) process_id: u32,
    pub(crate) key: &'a [u8],
}

/// Asks for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Startup<'a> {
    /// As asked for: any minor version, any major one.
    pub(crate) version: Version,
    parameters: &'a [u8],
}

/// Reads the length that a packet begins with: bytes of the whole packet.
///
/// # Errors
/// When no packet has that length.
pub(crate) fn packet_len(field: [u8; 4]) -> Result<usize, StartupError> {
    let length = u32::from_be_bytes(field);
    match usize::try_from(length) {
        Ok(len) if (8..=LIMIT).contains(&len) => Ok(len),
        _ => Err(StartupError::Length(length)),
    }
}

impl<'a> Packet<'a> {
    /// Reads a whole packet, its length included.
    ///
    /// # Errors
    /// When it is malformed.
    pub(crate) fn read(packet: &'a [u8]) -> Result<Self, StartupError> {
        let mut cursor = Cursor::new(packet);
        let length = cursor.u32().map_err(StartupError::Malformed)?;
        if packet_len(length.to_be_bytes())? != packet.len() {
            return Err(StartupError::Length(length));
        }
        Self::fields(&mut cursor).map_err(StartupError::Malformed)
    }

    fn fields(cursor: &mut Cursor<'a>) -> Field<Self> {
        match cursor.u32()? {
            CANCEL_REQUEST => {
                let process_id = cursor.u32()?;
                let key = cursor.rest();
                match key.len() {
                    4..=LONGEST_KEY => Ok(Self::Cancel(Cancel { process_id, key })),
                    _ => Err("a cancel key has 4 to 256 bytes"),
                }
            }
            SSL_REQUEST => cursor.finish().map(|()| Self::Ssl),
            GSSENC_REQUEST => cursor.finish().map(|()| Self::Gssenc),
            code => {
                let parameters = cursor.rest();
                let startup = Startup { version: Version(code), parameters };
                // What another version lays out is its own affair; the version is what is answered.
                if startup.version.major() == 3 {
                    check(parameters)?;
                }
                Ok(Self::Startup(startup))
            }
        }
    }
}

/// Names and values in turn, and an empty name as the last byte.
fn check(parameters: &[u8]) -> Field<()> {
    let mut cursor = Cursor::new(parameters);
    while !cursor.text()?.is_empty() {
        cursor.text()?;
    }
    cursor.finish()
}

impl<'a> Startup<'a> {
    /// Names and values in the order sent. The server lets the last one of a name win.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let mut cursor = Cursor::new(self.parameters);
        std::iter::from_fn(move || {
            let name = cursor.text().ok().filter(|name| !name.is_empty())?;
            Some((name, cursor.text().ok()?))
        })
    }
}

/// Asks a server for a session.
pub(crate) fn startup<'a>(
    out: &mut BytesMut,
    version: Version,
    parameters: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
) {
    put_counted(out, |out| {
        out.put_u32(version.code());
        for (name, value) in parameters {
            put_text(out, name);
            put_text(out, value);
        }
        out.put_u8(0);
    });
}

/// Asks a server to cancel what the session with this key runs.
pub(crate) fn cancel_request(out: &mut BytesMut, process_id: u32, key: &[u8]) {
    put_counted(out, |out| {
        out.put_u32(CANCEL_REQUEST);
        out.put_u32(process_id);
        out.put_slice(key);
    });
}

/// Asks a server for TLS; it answers with one byte, `S` or `N`.
pub(crate) fn ssl_request(out: &mut BytesMut) {
    put_counted(out, |out| out.put_u32(SSL_REQUEST));
}

#[cfg(test)]
mod tests;
