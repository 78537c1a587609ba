//! How an HTTP/1.1 request is cut out of a byte stream, with no second reading. No IO.
//!
//! hyper, like most servers, is liberal in a few places where the server behind us may be liberal
//! in another way. So the raw bytes of every request head and every chunk header pass through here
//! first, and what RFC 9112 forbids, or lets a recipient repair, is refused.
//!
//! INVARIANT (one reading): a head that passes has one Host, at most one of Content-Length and
//! Transfer-Encoding, no byte that some parser treats as a line end or a separator where another
//! does not, and no field that asks for another protocol. All rules are in this file.

use std::ops::Range;

use memchr::memchr;

/// Bytes of a request head, request line and last empty line included.
pub(crate) const HEAD_BYTES: usize = 64 * 1024;
/// Field lines of a request head.
pub(crate) const HEAD_FIELDS: usize = 100;

/// Why a request is not answered by a plane. The client gets `status`, the reason as text, and its
/// connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: &'static str,
    pub(super) reason: &'static str,
}

/// Where in a request the next byte belongs.
#[derive(Debug)]
pub(super) enum Framing {
    Head(HeadScan),
    /// So many bytes of body are still to come.
    Length(u64),
    Chunked(ChunkScan),
    /// The request has ended.
    Whole,
}

impl Framing {
    /// Reads on in `bytes`, which in a body start where the last call ended. Returns how many of
    /// them belong to this request and may pass on.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        match self {
            Self::Head(_) | Self::Whole => Ok(0),
            Self::Length(left) => {
                let passed = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= passed as u64;
                if *left == 0 {
                    *self = Self::Whole;
                }
                Ok(passed)
            }
            Self::Chunked(scan) => {
                let passed = scan.follow(bytes)?;
                if matches!(scan, ChunkScan::Ended) {
                    *self = Self::Whole;
                }
                Ok(passed)
            }
        }
    }
}

/// What a head says about itself.
#[derive(Debug)]
pub(super) struct HeadEnd {
    /// Its length in bytes.
    pub(super) len: usize,
    /// True for HTTP/1.1, false for HTTP/1.0.
    pub(super) is_http11: bool,
    /// Where the next byte belongs: `Whole` when there is no body.
    pub(super) then: Framing,
}

/// Reads a head line by line; called again with the same bytes and more until the head is whole.
#[derive(Debug, Default)]
pub(super) struct HeadScan {
    /// Where the first line starts that has not been read.
    at: usize,
    is_http11: bool,
    fields: usize,
    /// Of an absolute-form target.
    authority: Option<Range<usize>>,
    host: Option<Range<usize>>,
    length: Option<u64>,
    chunked: bool,
    expects: bool,
}

impl HeadScan {
    /// `bytes` starts with the head. `None` when its end is not there yet.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> Result<Option<HeadEnd>, Refusal> {
        // A leading line end or blank, a TLS hello or any other protocol is refused on its first byte.
        if bytes.first().is_some_and(|byte| !byte.is_ascii_uppercase()) {
            return refuse("the request does not start with a method");
        }
        while let Some((start, line)) = self.line(bytes)? {
            if start == 0 {
                self.request_line(line)?;
            } else if line.is_empty() {
                return self.end(bytes).map(Some);
            } else {
                self.field(line, start)?;
            }
        }
        Ok(None)
    }

    /// The next line and where it starts, without its end; `None` when its end is not there yet.
    fn line<'b>(&mut self, bytes: &'b [u8]) -> Result<Option<(usize, &'b [u8])>, Refusal> {
        let rest = bytes.get(self.at..).unwrap_or_default();
        let Some(end) = memchr(b'\n', rest) else {
            return if bytes.len() >= HEAD_BYTES { Err(TOO_LARGE) } else { Ok(None) };
        };
        let Some(line) = rest.get(..end).and_then(|line| line.strip_suffix(b"\r")) else {
            return refuse("a line of the head ends in LF without CR");
        };
        let start = self.at;
        self.at += end + 1;
        if self.at > HEAD_BYTES { Err(TOO_LARGE) } else { Ok(Some((start, line))) }
    }

    /// The protocol's version off the end of a request line.
    fn version<'b>(&mut self, line: &'b [u8]) -> Result<&'b [u8], Refusal> {
        if let Some(rest) = line.strip_suffix(b" HTTP/1.1") {
            self.is_http11 = true;
            return Ok(rest);
        }
        match line.strip_suffix(b" HTTP/1.0") {
            Some(rest) => Ok(rest),
            None => refuse("the request line does not end in HTTP/1.1 or HTTP/1.0"),
        }
    }

    fn request_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let rest = self.version(line)?;
        let Some((method, target)) = memchr(b' ', rest).and_then(|space| rest.split_at_checked(space)) else {
            return refuse("the request line does not have three parts");
        };
        let target = target.get(1..).unwrap_or_default();
        if !(1..=METHOD_BYTES).contains(&method.len()) || !method.iter().all(u8::is_ascii_uppercase) {
            return refuse("the method is not a word of capital letters");
        }
        if matches!(method, b"CONNECT" | b"TRACE") {
            return refuse("CONNECT and TRACE are not served");
        }
        if !target.iter().all(|&byte| byte.is_ascii_graphic() && byte != b'#' && byte != b'\\') {
            return refuse("the request target holds a byte that a URL cannot hold");
        }
        if target.first() == Some(&b'/') {
            return Ok(());
        }
        let Some(scheme) = [&b"http://"[..], b"https://"].into_iter().find(|scheme| target.starts_with(scheme)) else {
            return refuse("the request target is neither a path nor an http URL");
        };
        let authority = target.get(scheme.len()..).unwrap_or_default();
        let Some(len) = memchr(b'/', authority) else {
            return refuse("the absolute request target has no path");
        };
        let start = method.len() + 1 + scheme.len();
        self.authority = Some(start..start + len);
        Ok(())
    }

    fn field(&mut self, line: &[u8], start: usize) -> Result<(), Refusal> {
        self.fields += 1;
        if self.fields > HEAD_FIELDS {
            return Err(Refusal {
                status: "431 Request Header Fields Too Large",
                reason: "more than 100 header fields",
            });
        }
        let Some((name, value)) = memchr(b':', line).and_then(|colon| line.split_at_checked(colon)) else {
            return refuse("a header line has no colon");
        };
        // Also refuses a folded line and a space before the colon: neither is a token.
        if name.is_empty() || !name.iter().all(|&byte| is_name_byte(byte)) {
            return refuse("a header field name is not a token of letters, digits and hyphens");
        }
        let value = value.get(1..).unwrap_or_default();
        // Without an early exit the compiler turns this into vector code.
        if value.iter().fold(false, |bad, &byte| bad | (byte < b' ' && byte != b'\t') | (byte == 0x7f)) {
            return refuse("a header field value holds a control character");
        }
        let blanks = value.len() - value.trim_ascii_start().len();
        // Only blanks and tabs are left to trim: the other white space is control characters.
        let value = value.trim_ascii();
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                if value.is_empty() || !value.iter().all(|&byte| is_host_byte(byte)) {
                    return refuse("the Host field is malformed");
                }
                let offset = start + name.len() + 1 + blanks;
                once(&mut self.host, offset..offset + value.len(), "more than one Host field")
            }
            6 if name.eq_ignore_ascii_case(b"expect") => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return refuse("an expectation other than 100-continue");
                }
                if std::mem::replace(&mut self.expects, true) {
                    return refuse("more than one Expect field");
                }
                Ok(())
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                refuse("no other protocol is served, nor a WebSocket: use HTTP/2")
            }
            7 if name.eq_ignore_ascii_case(b"trailer") => refuse("trailer fields are not accepted"),
            10 if name.eq_ignore_ascii_case(b"connection") => connection_options(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                once(&mut self.length, content_length(value)?, "more than one Content-Length field")
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if value != b"chunked" {
                    return refuse("a Transfer-Encoding other than chunked");
                }
                if std::mem::replace(&mut self.chunked, true) {
                    return refuse("more than one Transfer-Encoding field");
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn end(&self, bytes: &[u8]) -> Result<HeadEnd, Refusal> {
        let Some(host) = self.host.clone().and_then(|range| bytes.get(range)) else {
            return refuse("the Host field is missing");
        };
        if let Some(authority) = self.authority.clone().and_then(|range| bytes.get(range))
            && !authority.eq_ignore_ascii_case(host)
        {
            return refuse("the absolute request target names another host than the Host field");
        }
        if self.chunked && self.length.is_some() {
            return refuse("both Content-Length and Transfer-Encoding");
        }
        if self.chunked && !self.is_http11 {
            return refuse("Transfer-Encoding in HTTP/1.0");
        }
        let then = match self.length {
            _ if self.chunked => Framing::Chunked(ChunkScan::default()),
            None | Some(0) => Framing::Whole,
            Some(length) => Framing::Length(length),
        };
        Ok(HeadEnd { len: self.at, is_http11: self.is_http11, then })
    }
}

/// The head of a CONNECT, whole.
#[derive(Debug)]
pub(super) struct ConnectEnd {
    /// Its length in bytes.
    pub(super) len: usize,
    /// Where the `host:port` stands that is asked for.
    pub(super) target: Range<usize>,
    /// Where the value of Proxy-Authorization stands.
    pub(super) authorization: Option<Range<usize>>,
}

/// Reads the head of a CONNECT as strictly as [`HeadScan`] reads that of any other request.
#[derive(Debug, Default)]
pub(super) struct ConnectScan {
    head: HeadScan,
    target: Range<usize>,
    authorization: Option<Range<usize>>,
}

impl ConnectScan {
    /// `bytes` starts with the head. `None` when its end is not there yet.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> Result<Option<ConnectEnd>, Refusal> {
        while let Some((start, line)) = self.head.line(bytes)? {
            if start == 0 {
                let rest = self.head.version(line)?;
                let Some(target) = rest.strip_prefix(CONNECT) else {
                    return refuse("the request line is no CONNECT");
                };
                if !target.iter().all(u8::is_ascii_graphic) {
                    return refuse("the CONNECT target is not host:port");
                }
                self.target = CONNECT.len()..rest.len();
            } else if line.is_empty() {
                return self.end(bytes).map(Some);
            } else {
                self.head.field(line, start)?;
                self.authorization(line, start)?;
            }
        }
        Ok(None)
    }

    fn authorization(&mut self, line: &[u8], start: usize) -> Result<(), Refusal> {
        let Some((name, value)) = memchr(b':', line).and_then(|colon| line.split_at_checked(colon)) else {
            return Ok(());
        };
        if !name.eq_ignore_ascii_case(b"proxy-authorization") {
            return Ok(());
        }
        let place = start + name.len() + 1..start + name.len() + value.len();
        once(&mut self.authorization, place, "more than one Proxy-Authorization field")
    }

    fn end(&self, bytes: &[u8]) -> Result<ConnectEnd, Refusal> {
        let head = &self.head;
        if head.chunked || head.length.is_some_and(|length| length > 0) || head.expects {
            return refuse("a CONNECT with a body");
        }
        let target = bytes.get(self.target.clone()).unwrap_or_default();
        match head.host.clone().and_then(|place| bytes.get(place)) {
            // Some clients leave the port out here.
            Some(host) if !host.eq_ignore_ascii_case(target) && !is_without_port(host, target) => {
                refuse("the CONNECT target names another host than the Host field")
            }
            // Python's client of the standard library speaks 1.0 here, without Host.
            None if head.is_http11 => refuse("the Host field is missing"),
            _ => {
                Ok(ConnectEnd { len: head.at, target: self.target.clone(), authorization: self.authorization.clone() })
            }
        }
    }
}

/// Whether `host` is `target` but for its port.
fn is_without_port(host: &[u8], target: &[u8]) -> bool {
    let Some((name, port)) = target.split_at_checked(host.len()) else { return false };
    name.eq_ignore_ascii_case(host) && port.strip_prefix(b":").is_some_and(|port| port.iter().all(u8::is_ascii_digit))
}

/// What the request line of a CONNECT starts with.
pub(super) const CONNECT: &[u8] = b"CONNECT ";

/// Reads the chunked coding: sizes without extension, data, no trailer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ChunkScan {
    Size {
        digits: u8,
        size: u64,
    },
    SizeLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    /// After the last chunk: the empty line that ends the body.
    EndCr,
    EndLf,
    Ended,
}

impl Default for ChunkScan {
    fn default() -> Self {
        Self::Size { digits: 0, size: 0 }
    }
}

impl ChunkScan {
    fn follow(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            *self = match self {
                Self::Data(left) => {
                    let skip = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    let left = *left - skip as u64;
                    rest = rest.get(skip..).unwrap_or_default();
                    *self = if left == 0 { Self::DataCr } else { Self::Data(left) };
                    continue;
                }
                Self::Ended => break,
                Self::Size { digits, size } => Self::size(*digits, *size, byte)?,
                Self::SizeLf(0) if byte == b'\n' => Self::EndCr,
                Self::SizeLf(size) if byte == b'\n' => Self::Data(*size),
                Self::DataCr if byte == b'\r' => Self::DataLf,
                Self::DataLf if byte == b'\n' => Self::default(),
                Self::EndCr if byte == b'\r' => Self::EndLf,
                Self::EndLf if byte == b'\n' => Self::Ended,
                Self::EndCr => return refuse("trailer fields are not accepted"),
                _ => return refuse("a chunk is longer than its size or does not end in CR LF"),
            };
            rest = after;
        }
        Ok(bytes.len() - rest.len())
    }

    fn size(digits: u8, size: u64, byte: u8) -> Result<Self, Refusal> {
        let digit = match byte {
            b'\r' if digits > 0 => return Ok(Self::SizeLf(size)),
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b';' => return refuse("chunk extensions are not accepted"),
            _ => return refuse("a chunk size is not a hexadecimal number"),
        };
        // Zero padding is legal and some senders pad to eight digits; more only serves to overflow a parser.
        if digits >= 15 || (digits >= 8 && size == 0) {
            return refuse("a chunk size has too many digits");
        }
        Ok(Self::Size { digits: digits + 1, size: size * 16 + u64::from(digit) })
    }
}

/// The longest method in use has seven letters.
const METHOD_BYTES: usize = 16;

const TOO_LARGE: Refusal =
    Refusal { status: "431 Request Header Fields Too Large", reason: "the head is larger than 64 KiB" };

fn refuse<T>(reason: &'static str) -> Result<T, Refusal> {
    Err(Refusal { status: "400 Bad Request", reason })
}

fn once<T>(slot: &mut Option<T>, value: T, reason: &'static str) -> Result<(), Refusal> {
    if slot.replace(value).is_some() { refuse(reason) } else { Ok(()) }
}

/// Tokens of RFC 9110 section 5.6.2, without `_`: servers of the CGI family read it as a hyphen, so
/// that `Content_Length` is a second Content-Length to them.
fn is_name_byte(byte: u8) -> bool {
    NAME_BYTES.get(usize::from(byte)).copied().unwrap_or(false)
}

const NAME_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, and the index is below 128")]
        {
            table[byte] = (byte as u8).is_ascii_alphanumeric()
                || matches!(
                    byte as u8,
                    b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'`' | b'|' | b'~'
                );
        }
        byte += 1;
    }
    table
};

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']')
}

/// Digits only, and no leading zero: `+5`, `0x5`, `05`, `5, 5` each have a second reading somewhere.
fn content_length(value: &[u8]) -> Result<u64, Refusal> {
    let number = match value {
        [b'0'] => Some(0),
        [b'1'..=b'9', ..] if value.len() <= 18 && value.iter().all(u8::is_ascii_digit) => {
            Some(value.iter().fold(0, |number: u64, digit| number * 10 + u64::from(digit - b'0')))
        }
        _ => None,
    };
    number.map_or_else(|| refuse("Content-Length is not a plain decimal number"), Ok)
}

/// Other options name fields that a proxy must drop: `Connection: x-amz-target` would remove what
/// was signed and judged.
fn connection_options(value: &[u8]) -> Result<(), Refusal> {
    let known = |option: &[u8]| {
        let option = option.trim_ascii();
        option.eq_ignore_ascii_case(b"close") || option.eq_ignore_ascii_case(b"keep-alive")
    };
    if value.split(|&byte| byte == b',').all(known) {
        Ok(())
    } else {
        refuse("a Connection option other than close and keep-alive; no WebSocket is served")
    }
}

#[cfg(test)]
mod tests;
