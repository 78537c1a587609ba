//! What a server sends: readers of what matters, builders of what countersign says itself
//! (PostgreSQL docs, sections 55.7 and 55.8).

use bytes::{BufMut, BytesMut};

use super::cursor::{Cursor, Field};
use super::startup::Version;
use super::{FrameError, HEADER_LEN, Malformed, put_message, put_text};

/// The types of messages a server may send.
pub(crate) mod kind {
    pub(crate) const AUTHENTICATION: u8 = b'R';
    pub(crate) const BACKEND_KEY_DATA: u8 = b'K';
    pub(crate) const BIND_COMPLETE: u8 = b'2';
    pub(crate) const CLOSE_COMPLETE: u8 = b'3';
    pub(crate) const COMMAND_COMPLETE: u8 = b'C';
    pub(crate) const COPY_BOTH_RESPONSE: u8 = b'W';
    pub(crate) const COPY_DATA: u8 = b'd';
    pub(crate) const COPY_DONE: u8 = b'c';
    pub(crate) const COPY_IN_RESPONSE: u8 = b'G';
    pub(crate) const COPY_OUT_RESPONSE: u8 = b'H';
    pub(crate) const DATA_ROW: u8 = b'D';
    pub(crate) const EMPTY_QUERY_RESPONSE: u8 = b'I';
    pub(crate) const ERROR_RESPONSE: u8 = b'E';
    pub(crate) const FUNCTION_CALL_RESPONSE: u8 = b'V';
    pub(crate) const NEGOTIATE_PROTOCOL_VERSION: u8 = b'v';
    pub(crate) const NO_DATA: u8 = b'n';
    pub(crate) const NOTICE_RESPONSE: u8 = b'N';
    pub(crate) const NOTIFICATION_RESPONSE: u8 = b'A';
    pub(crate) const PARAMETER_DESCRIPTION: u8 = b't';
    pub(crate) const PARAMETER_STATUS: u8 = b'S';
    pub(crate) const PARSE_COMPLETE: u8 = b'1';
    pub(crate) const PORTAL_SUSPENDED: u8 = b's';
    pub(crate) const READY_FOR_QUERY: u8 = b'Z';
    pub(crate) const ROW_DESCRIPTION: u8 = b'T';
}

/// Whether a server may send a message of this type.
pub(crate) fn is_kind(byte: u8) -> bool {
    matches!(
        byte,
        kind::AUTHENTICATION
            | kind::BACKEND_KEY_DATA
            | kind::BIND_COMPLETE
            | kind::CLOSE_COMPLETE
            | kind::COMMAND_COMPLETE
            | kind::COPY_BOTH_RESPONSE
            | kind::COPY_DATA
            | kind::COPY_DONE
            | kind::COPY_IN_RESPONSE
            | kind::COPY_OUT_RESPONSE
            | kind::DATA_ROW
            | kind::EMPTY_QUERY_RESPONSE
            | kind::ERROR_RESPONSE
            | kind::FUNCTION_CALL_RESPONSE
            | kind::NEGOTIATE_PROTOCOL_VERSION
            | kind::NO_DATA
            | kind::NOTICE_RESPONSE
            | kind::NOTIFICATION_RESPONSE
            | kind::PARAMETER_DESCRIPTION
            | kind::PARAMETER_STATUS
            | kind::PARSE_COMPLETE
            | kind::PORTAL_SUSPENDED
            | kind::READY_FOR_QUERY
            | kind::ROW_DESCRIPTION
    )
}

/// A server allocates no more than this, so it sends no more.
const LONGEST: usize = 0x3fff_ffff;

/// Type and length of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: u8,
    /// Bytes of the whole message, its header included.
    pub(crate) len: usize,
}

impl Header {
    /// # Errors
    /// When there is no such type, or the length is impossible.
    pub(crate) fn read(bytes: [u8; HEADER_LEN]) -> Result<Self, FrameError> {
        let [kind, length @ ..] = bytes;
        if !is_kind(kind) {
            return Err(FrameError::Kind(kind));
        }
        let length = u32::from_be_bytes(length);
        match usize::try_from(length) {
            Ok(len) if (4..=LONGEST).contains(&len) => Ok(Self { kind, len: len.saturating_add(1) }),
            _ => Err(FrameError::Length { kind, length }),
        }
    }
}

/// One whole message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: u8,
    /// The message as it came.
    pub(crate) raw: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The first message of `bytes`; `None` while it is not whole.
    ///
    /// # Errors
    /// As [`Header::read`].
    pub(crate) fn split(bytes: &'a [u8]) -> Result<Option<Self>, FrameError> {
        let Some(header) = bytes.first_chunk() else { return Ok(None) };
        let header = Header::read(*header)?;
        Ok(bytes.get(..header.len).map(|raw| Self { kind: header.kind, raw }))
    }

    pub(crate) fn body(&self) -> &'a [u8] {
        self.raw.get(HEADER_LEN..).unwrap_or_default()
    }

    /// Whether a transaction is open: of ReadyForQuery.
    ///
    /// # Errors
    /// When the message is malformed; so with all that follow.
    pub(crate) fn transaction(&self) -> Result<Transaction, Malformed> {
        self.fields(|cursor| match cursor.byte()? {
            b'I' => Ok(Transaction::None),
            b'T' => Ok(Transaction::Open),
            b'E' => Ok(Transaction::Failed),
            _ => Err("there is no such transaction status"),
        })
    }

    /// The tag of CommandComplete: `SELECT 5`, `INSERT 0 1`, `CREATE TABLE`.
    pub(crate) fn tag(&self) -> Result<&'a [u8], Malformed> {
        self.fields(Cursor::text)
    }

    /// Name and value: of ParameterStatus.
    pub(crate) fn parameter(&self) -> Result<(&'a [u8], &'a [u8]), Malformed> {
        self.fields(|cursor| Ok((cursor.text()?, cursor.text()?)))
    }

    /// Process id and secret key: of BackendKeyData.
    pub(crate) fn key(&self) -> Result<(u32, &'a [u8]), Malformed> {
        self.fields(|cursor| {
            let process_id = cursor.u32()?;
            let key = cursor.rest();
            match key.len() {
                4..=super::startup::LONGEST_KEY => Ok((process_id, key)),
                _ => Err("a cancel key has 4 to 256 bytes"),
            }
        })
    }

    /// What the server says: of ErrorResponse and NoticeResponse.
    pub(crate) fn said(&self) -> Result<Said<'a>, Malformed> {
        self.fields(|cursor| {
            let said = Said(*cursor);
            while cursor.byte()? != 0 {
                cursor.text()?;
            }
            Ok(said)
        })
    }

    /// What the server asks a client to prove itself with.
    pub(crate) fn authentication(&self) -> Result<Authentication<'a>, Malformed> {
        self.fields(|cursor| {
            Ok(match cursor.u32()? {
                0 => Authentication::Ok,
                3 => Authentication::Password,
                5 => {
                    let salt = cursor.bytes(4)?;
                    Authentication::Md5(salt.try_into().map_err(|_| "its salt has no 4 bytes")?)
                }
                10 => {
                    let mechanisms = Mechanisms(*cursor);
                    while !cursor.text()?.is_empty() {}
                    Authentication::Sasl(mechanisms)
                }
                11 => Authentication::SaslContinue(cursor.rest()),
                12 => Authentication::SaslFinal(cursor.rest()),
                _ => {
                    cursor.rest();
                    Authentication::Other
                }
            })
        })
    }

    /// Oids of the parameters' types: of ParameterDescription.
    pub(crate) fn types(&self) -> Result<Vec<u32>, Malformed> {
        self.fields(|cursor| (0..cursor.u16()?).map(|_| cursor.u32()).collect())
    }

    /// The columns of RowDescription.
    pub(crate) fn columns(&self) -> Result<Columns<'a>, Malformed> {
        self.fields(|cursor| {
            let count = cursor.u16()?;
            let columns = Columns { count, rest: *cursor };
            for _ in 0..count {
                Column::read(cursor)?;
            }
            Ok(columns)
        })
    }

    fn fields<T>(&self, read: impl FnOnce(&mut Cursor<'a>) -> Field<T>) -> Result<T, Malformed> {
        let mut cursor = Cursor::new(self.body());
        let value = read(&mut cursor).and_then(|value| cursor.finish().map(|()| value));
        value.map_err(|why| Malformed { kind: self.kind, why })
    }
}

/// Whether a transaction block is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Transaction {
    #[default]
    None,
    Open,
    /// Open, and everything is refused until it is rolled back.
    Failed,
}

/// The fields of an error or notice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said<'a>(Cursor<'a>);

impl<'a> Said<'a> {
    /// Field codes and texts in the order sent.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (u8, &'a [u8])> + use<'a> {
        let mut cursor = self.0;
        std::iter::from_fn(move || {
            let code = cursor.byte().ok().filter(|code| *code != 0)?;
            Some((code, cursor.text().ok()?))
        })
    }

    /// One field as text, lossily: errors before the session's encoding is known have none.
    pub(crate) fn field(&self, code: u8) -> Option<String> {
        self.fields().find(|(it, _)| *it == code).map(|(_, text)| String::from_utf8_lossy(text).into_owned())
    }

    pub(crate) fn sqlstate(&self) -> Option<String> {
        self.field(b'C')
    }

    pub(crate) fn message(&self) -> Option<String> {
        self.field(b'M')
    }

    /// `ERROR`, `FATAL`, `NOTICE`… in English; servers before 9.6 send the translated one alone.
    pub(crate) fn severity(&self) -> Option<String> {
        self.field(b'V').or_else(|| self.field(b'S'))
    }
}

/// A step of authentication.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Authentication<'a> {
    Ok,
    /// In clear text.
    Password,
    Md5([u8; 4]),
    Sasl(Mechanisms<'a>),
    SaslContinue(&'a [u8]),
    SaslFinal(&'a [u8]),
    /// Kerberos, GSSAPI, SSPI, or one not yet invented.
    Other,
}

/// SASL mechanisms in the order of the server's preference.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mechanisms<'a>(Cursor<'a>);

impl<'a> Mechanisms<'a> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut cursor = self.0;
        std::iter::from_fn(move || cursor.text().ok().filter(|name| !name.is_empty()))
    }
}

/// The columns of a result.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Columns<'a> {
    count: u16,
    rest: Cursor<'a>,
}

impl<'a> Columns<'a> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = Column<'a>> + use<'a> {
        let mut rest = self.rest;
        (0..self.count).map_while(move |_| Column::read(&mut rest).ok())
    }
}

/// One column of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Column<'a> {
    pub(crate) name: &'a [u8],
    /// Oid of its table and its number therein; 0 where it is no plain column.
    pub(crate) table: u32,
    pub(crate) number: i16,
    /// Oid of its type.
    pub(crate) type_oid: u32,
    /// Bytes of the type; negative where they vary.
    pub(crate) size: i16,
    pub(crate) modifier: i32,
    pub(crate) format: i16,
}

impl<'a> Column<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Field<Self> {
        Ok(Self {
            name: cursor.text()?,
            table: cursor.u32()?,
            number: cursor.i16()?,
            type_oid: cursor.u32()?,
            size: cursor.i16()?,
            modifier: cursor.i32()?,
            format: cursor.i16()?,
        })
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    Error,
    /// The session ends with it.
    Fatal,
    Notice,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
            Self::Notice => "NOTICE",
        }
    }
}

/// An error or notice of countersign's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report<'a> {
    pub(crate) severity: Severity,
    /// SQLSTATE: five characters (PostgreSQL docs, appendix A).
    pub(crate) code: &'a str,
    pub(crate) message: &'a str,
    pub(crate) detail: Option<&'a str>,
    pub(crate) hint: Option<&'a str>,
}

impl Report<'_> {
    /// ErrorResponse or NoticeResponse, as its severity demands.
    pub(crate) fn write(&self, out: &mut BytesMut) {
        let kind = match self.severity {
            Severity::Error | Severity::Fatal => kind::ERROR_RESPONSE,
            Severity::Notice => kind::NOTICE_RESPONSE,
        };
        let severity = self.severity.as_str();
        let always = [(b'S', severity), (b'V', severity), (b'C', self.code), (b'M', self.message)];
        let at_times = [(b'D', self.detail), (b'H', self.hint)];
        put_message(out, kind, |out| {
            let at_times = at_times.into_iter().filter_map(|(code, text)| Some((code, text?)));
            for (code, text) in always.into_iter().chain(at_times) {
                out.put_u8(code);
                put_text(out, text.as_bytes());
            }
            out.put_u8(0);
        });
    }
}

pub(crate) fn ready_for_query(out: &mut BytesMut, transaction: Transaction) {
    put_message(out, kind::READY_FOR_QUERY, |out| {
        out.put_u8(match transaction {
            Transaction::None => b'I',
            Transaction::Open => b'T',
            Transaction::Failed => b'E',
        });
    });
}

pub(crate) fn parameter_status(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    put_message(out, kind::PARAMETER_STATUS, |out| {
        put_text(out, name);
        put_text(out, value);
    });
}

/// The key is four bytes long in protocol 3.0 and may be longer, up to 256, in 3.2.
pub(crate) fn backend_key_data(out: &mut BytesMut, process_id: u32, key: &[u8]) {
    put_message(out, kind::BACKEND_KEY_DATA, |out| {
        out.put_u32(process_id);
        out.put_slice(key);
    });
}

/// Tells a client the version that is spoken, and which of its `_pq_.` options are not known.
pub(crate) fn negotiate_protocol_version(out: &mut BytesMut, version: Version, unknown: &[&[u8]]) {
    put_message(out, kind::NEGOTIATE_PROTOCOL_VERSION, |out| {
        out.put_u32(version.code());
        out.put_u32(u32::try_from(unknown.len()).unwrap_or(u32::MAX));
        unknown.iter().for_each(|option| put_text(out, option));
    });
}

pub(crate) fn authentication_ok(out: &mut BytesMut) {
    put_message(out, kind::AUTHENTICATION, |out| out.put_u32(0));
}

pub(crate) fn authentication_sasl(out: &mut BytesMut, mechanisms: &[&str]) {
    put_message(out, kind::AUTHENTICATION, |out| {
        out.put_u32(10);
        mechanisms.iter().for_each(|mechanism| put_text(out, mechanism.as_bytes()));
        out.put_u8(0);
    });
}

pub(crate) fn authentication_sasl_continue(out: &mut BytesMut, message: &[u8]) {
    put_message(out, kind::AUTHENTICATION, |out| {
        out.put_u32(11);
        out.put_slice(message);
    });
}

pub(crate) fn authentication_sasl_final(out: &mut BytesMut, message: &[u8]) {
    put_message(out, kind::AUTHENTICATION, |out| {
        out.put_u32(12);
        out.put_slice(message);
    });
}

#[cfg(test)]
pub(crate) fn command_complete(out: &mut BytesMut, tag: &[u8]) {
    put_message(out, kind::COMMAND_COMPLETE, |out| put_text(out, tag));
}

#[cfg(test)]
mod tests;
