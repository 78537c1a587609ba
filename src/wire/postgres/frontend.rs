//! What a client sends once its session has begun (PostgreSQL docs, section 55.7).

use bytes::{BufMut, BytesMut};

use super::cursor::{Cursor, Field};
use super::{FrameError, HEADER_LEN, Malformed, put_count, put_message, put_text};

pub(crate) use super::cursor::{Codes, Values};

/// The types of messages a client may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Kind {
    Bind = b'B',
    Close = b'C',
    CopyData = b'd',
    CopyDone = b'c',
    CopyFail = b'f',
    Describe = b'D',
    Execute = b'E',
    Flush = b'H',
    FunctionCall = b'F',
    Parse = b'P',
    /// Password, SASLInitialResponse, SASLResponse and GSSResponse: what it is depends on what was asked.
    Password = b'p',
    Query = b'Q',
    Sync = b'S',
    Terminate = b'X',
}

impl Kind {
    fn read(byte: u8) -> Option<Self> {
        Some(match byte {
            b'B' => Self::Bind,
            b'C' => Self::Close,
            b'd' => Self::CopyData,
            b'c' => Self::CopyDone,
            b'f' => Self::CopyFail,
            b'D' => Self::Describe,
            b'E' => Self::Execute,
            b'H' => Self::Flush,
            b'F' => Self::FunctionCall,
            b'P' => Self::Parse,
            b'p' => Self::Password,
            b'Q' => Self::Query,
            b'S' => Self::Sync,
            b'X' => Self::Terminate,
            _ => return None,
        })
    }

    /// Whether it may be as long as a caller allows; the others carry a name or less.
    pub(crate) fn is_large(self) -> bool {
        matches!(self, Self::Bind | Self::CopyData | Self::FunctionCall | Self::Parse | Self::Query)
    }
}

/// The longest message of a type that carries no data: what the server itself allows.
pub(crate) const SMALL_LIMIT: usize = 10_000;
/// The longest message that a server takes: its own allocation limit.
pub(crate) const LARGE_LIMIT: usize = 0x3fff_fffe;

/// Type and length of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    /// Bytes of the whole message, its header included.
    pub(crate) len: usize,
}

impl Header {
    /// Reads a header; `None` while it is not whole. `large_limit` bounds, in bytes, the length field
    /// of messages that carry data; the others have [`SMALL_LIMIT`].
    ///
    /// # Errors
    /// When there is no such type, or the length is impossible or past the limit.
    pub(crate) fn read(bytes: &[u8], large_limit: usize) -> Result<Option<Self>, FrameError> {
        let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
        let kind = Kind::read(first).ok_or(FrameError::Kind(first))?;
        let Some(length) = rest.first_chunk() else { return Ok(None) };
        let length = u32::from_be_bytes(*length);
        let limit = if kind.is_large() { large_limit } else { SMALL_LIMIT };
        match usize::try_from(length) {
            Ok(len) if (4..=limit).contains(&len) => Ok(Some(Self { kind, len: len.saturating_add(1) })),
            _ => Err(FrameError::Length { kind: first, length }),
        }
    }
}

/// One whole message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: Kind,
    /// The message as it came.
    pub(crate) raw: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The first message of `bytes`; `None` while it is not whole.
    ///
    /// # Errors
    /// As [`Header::read`].
    pub(crate) fn split(bytes: &'a [u8], large_limit: usize) -> Result<Option<Self>, FrameError> {
        let header = Header::read(bytes, large_limit)?;
        Ok(header.and_then(|header| Some(Self { kind: header.kind, raw: bytes.get(..header.len)? })))
    }

    pub(crate) fn body(&self) -> &'a [u8] {
        self.raw.get(HEADER_LEN..).unwrap_or_default()
    }

    /// Reads the fields.
    ///
    /// # Errors
    /// When they are not laid out as the type demands.
    pub(crate) fn read(&self) -> Result<Message<'a>, Malformed> {
        self.fields().map_err(|why| Malformed { kind: self.kind as u8, why })
    }

    fn fields(&self) -> Field<Message<'a>> {
        let mut cursor = Cursor::new(self.body());
        let message = match self.kind {
            Kind::Bind => Message::Bind(Bind::read(&mut cursor)?),
            Kind::Close => Message::Close(Target::read(&mut cursor)?),
            Kind::CopyData => {
                cursor.rest();
                Message::CopyData
            }
            Kind::CopyDone => Message::CopyDone,
            Kind::CopyFail => {
                cursor.text()?;
                Message::CopyFail
            }
            Kind::Describe => Message::Describe(Target::read(&mut cursor)?),
            Kind::Execute => {
                let portal = cursor.text()?;
                // The server takes zero and all below it for "no limit".
                Message::Execute(Execute { portal, max_rows: u32::try_from(cursor.i32()?).unwrap_or(0) })
            }
            Kind::Flush => Message::Flush,
            Kind::FunctionCall => Message::FunctionCall(function_call(&mut cursor)?),
            Kind::Parse => Message::Parse(Parse::read(&mut cursor)?),
            Kind::Password => {
                cursor.rest();
                Message::Password
            }
            Kind::Query => Message::Query(cursor.text()?),
            Kind::Sync => Message::Sync,
            Kind::Terminate => Message::Terminate,
        };
        cursor.finish()?;
        Ok(message)
    }
}

/// A message with its fields.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Message<'a> {
    Bind(Bind<'a>),
    Close(Target<'a>),
    CopyData,
    CopyDone,
    CopyFail,
    Describe(Target<'a>),
    Execute(Execute<'a>),
    Flush,
    /// With the oid of what it calls.
    FunctionCall(u32),
    Parse(Parse<'a>),
    /// Not read further: see [`Kind::Password`].
    Password,
    Query(&'a [u8]),
    Sync,
    Terminate,
}

impl Message<'_> {
    /// Whether the server looks names up for it.
    pub(crate) const fn looks_up(&self) -> bool {
        matches!(
            self,
            Self::Bind(_)
                | Self::Describe(_)
                | Self::Execute(_)
                | Self::FunctionCall(_)
                | Self::Parse(_)
                | Self::Query(_)
        )
    }
}

/// Makes a statement; an empty name is the unnamed one, which it replaces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parse<'a> {
    pub(crate) statement: &'a [u8],
    pub(crate) sql: &'a [u8],
    types: &'a [[u8; 4]],
}

impl<'a> Parse<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Field<Self> {
        let (statement, sql) = (cursor.text()?, cursor.text()?);
        let count = cursor.u16()?;
        let types = cursor.bytes(usize::from(count) * 4)?.as_chunks().0;
        Ok(Self { statement, sql, types })
    }

    /// Writes it with more text behind its own.
    pub(crate) fn with_more(&self, out: &mut BytesMut, more: &[u8]) {
        let types: Vec<u32> = self.types().collect();
        parse(out, self.statement, &[self.sql, more].concat(), &types);
    }

    /// Oids of the parameters' types, as far as the client gave any; 0 leaves one to the server.
    pub(crate) fn types(&self) -> impl ExactSizeIterator<Item = u32> + use<'a> {
        self.types.iter().map(|oid| u32::from_be_bytes(*oid))
    }
}

/// Makes a portal of a statement and values for its parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bind<'a> {
    pub(crate) portal: &'a [u8],
    pub(crate) statement: &'a [u8],
    pub(crate) formats: Codes<'a>,
    pub(crate) values: Values<'a>,
    pub(crate) result_formats: Codes<'a>,
    /// All behind the names, as it came.
    arguments: &'a [u8],
}

impl<'a> Bind<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Field<Self> {
        let (portal, statement) = (cursor.text()?, cursor.text()?);
        let mut whole = *cursor;
        let (formats, values) = arguments(cursor)?;
        let count = cursor.u16()?;
        let result_formats = cursor.codes(count)?;
        Ok(Self { portal, statement, formats, values, result_formats, arguments: whole.rest() })
    }

    /// Each value with its format code.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = (i16, Option<&'a [u8]>)> + use<'a> {
        let formats = self.formats;
        self.values.iter().enumerate().map(move |(index, value)| (formats.of(index), value))
    }
}

/// The oid of the function that is called; the values are looked over only.
fn function_call(cursor: &mut Cursor<'_>) -> Field<u32> {
    let function = cursor.u32()?;
    arguments(cursor)?;
    cursor.u16()?;
    Ok(function)
}

/// Values with their formats, of which there are none, one for all, or one for each.
fn arguments<'a>(cursor: &mut Cursor<'a>) -> Field<(Codes<'a>, Values<'a>)> {
    let count = cursor.u16()?;
    let formats = cursor.codes(count)?;
    let values = cursor.values()?;
    if formats.len() > 1 && formats.len() != values.len() {
        return Err("it has another number of formats than of values");
    }
    Ok((formats, values))
}

/// What Describe and Close are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target<'a> {
    Portal(&'a [u8]),
    Statement(&'a [u8]),
}

impl<'a> Target<'a> {
    pub(crate) const fn name(&self) -> &'a [u8] {
        match self {
            Self::Portal(name) | Self::Statement(name) => name,
        }
    }

    fn read(cursor: &mut Cursor<'a>) -> Field<Self> {
        match cursor.byte()? {
            b'P' => cursor.text().map(Self::Portal),
            b'S' => cursor.text().map(Self::Statement),
            _ => Err("it is about neither a portal nor a statement"),
        }
    }
}

/// Runs a portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Execute<'a> {
    pub(crate) portal: &'a [u8],
    /// 0 for all rows.
    pub(crate) max_rows: u32,
}

pub(crate) fn query(out: &mut BytesMut, sql: &[u8]) {
    put_message(out, b'Q', |out| put_text(out, sql));
}

pub(crate) fn parse(out: &mut BytesMut, statement: &[u8], sql: &[u8], types: &[u32]) {
    put_message(out, b'P', |out| {
        put_text(out, statement);
        put_text(out, sql);
        put_count(out, types.len());
        types.iter().for_each(|oid| out.put_u32(*oid));
    });
}

/// A client's Bind with another statement.
pub(crate) fn bind_to(out: &mut BytesMut, bind: &Bind<'_>, statement: &[u8]) {
    put_message(out, b'B', |out| {
        put_text(out, bind.portal);
        put_text(out, statement);
        out.put_slice(bind.arguments);
    });
}

/// Binds values, each in binary format or as text, and asks for the result as text.
pub(crate) fn bind(out: &mut BytesMut, portal: &[u8], statement: &[u8], values: &[(bool, Option<&[u8]>)]) {
    put_message(out, b'B', |out| {
        put_text(out, portal);
        put_text(out, statement);
        put_count(out, values.len());
        values.iter().for_each(|(is_binary, _)| out.put_i16(i16::from(*is_binary)));
        put_count(out, values.len());
        for (_, value) in values {
            match value {
                Some(value) => {
                    out.put_i32(i32::try_from(value.len()).unwrap_or(i32::MAX));
                    out.put_slice(value);
                }
                None => out.put_i32(-1),
            }
        }
        put_count(out, 0);
    });
}

pub(crate) fn describe(out: &mut BytesMut, target: Target<'_>) {
    put_message(out, b'D', |out| put_target(out, target));
}

pub(crate) fn close(out: &mut BytesMut, target: Target<'_>) {
    put_message(out, b'C', |out| put_target(out, target));
}

/// Runs a portal; `max_rows` 0 means all of it.
pub(crate) fn execute(out: &mut BytesMut, portal: &[u8], max_rows: u32) {
    put_message(out, b'E', |out| {
        put_text(out, portal);
        out.put_i32(i32::try_from(max_rows).unwrap_or(0));
    });
}

pub(crate) fn flush(out: &mut BytesMut) {
    put_message(out, b'H', |_| {});
}

pub(crate) fn sync(out: &mut BytesMut) {
    put_message(out, b'S', |_| {});
}

pub(crate) fn terminate(out: &mut BytesMut) {
    put_message(out, b'X', |_| {});
}

/// A password in clear text, or its MD5 answer.
pub(crate) fn password(out: &mut BytesMut, password: &[u8]) {
    put_message(out, b'p', |out| put_text(out, password));
}

pub(crate) fn sasl_initial_response(out: &mut BytesMut, mechanism: &str, response: &[u8]) {
    put_message(out, b'p', |out| {
        put_text(out, mechanism.as_bytes());
        out.put_i32(i32::try_from(response.len()).unwrap_or(i32::MAX));
        out.put_slice(response);
    });
}

pub(crate) fn sasl_response(out: &mut BytesMut, response: &[u8]) {
    put_message(out, b'p', |out| out.put_slice(response));
}

/// Which mechanism a client chose, and its first message if it sent one along.
///
/// # Errors
/// When a [`Kind::Password`] message is no SASLInitialResponse.
pub(crate) fn read_sasl_initial_response(body: &[u8]) -> Result<(&[u8], Option<&[u8]>), Malformed> {
    let mut cursor = Cursor::new(body);
    let mut read = || {
        let mechanism = cursor.text()?;
        let response = cursor.value()?;
        cursor.finish()?;
        Ok((mechanism, response))
    };
    read().map_err(|why| Malformed { kind: b'p', why })
}

fn put_target(out: &mut BytesMut, target: Target<'_>) {
    let (kind, name) = match target {
        Target::Portal(name) => (b'P', name),
        Target::Statement(name) => (b'S', name),
    };
    out.put_u8(kind);
    put_text(out, name);
}

#[cfg(test)]
mod tests;
