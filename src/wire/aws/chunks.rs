//! The coding `aws-chunked` with a signature on each chunk (S3 API reference, "Signature calculations for the
//! Authorization header: transferring payload in multiple chunks" and "… including trailing headers").
//!
//! Only the form that AWS documents is read: sizes in hexadecimal, one extension, lines that end in CRLF.

use std::ops::Range;

/// The largest chunk that is taken, in bytes: its signature stands before its data, so that it is kept whole.
/// SDKs send 64 to 128 KiB.
pub(crate) const CHUNK_LIMIT_BYTES: usize = 256 << 10;
/// The longest line before a chunk, and the most that all lines behind the last one may take.
const LINE_LIMIT_BYTES: usize = 128;
const TRAILER_LIMIT_BYTES: usize = 4096;

const EXTENSION: &[u8] = b";chunk-signature=";
const TRAILER_SIGNATURE: &[u8] = b"x-amz-trailer-signature:";
const SIGNATURE_LEN: usize = 64;

/// A stream of chunks that is read.
#[derive(Debug)]
pub(crate) struct Chunks {
    stage: Stage,
    has_trailer: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Chunk,
    Trailer,
    Done,
}

/// A whole chunk, or the trailer, at the front of what was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) len: usize,
    /// Where its signature stands: 64 hexadecimal digits.
    pub(crate) signature: Range<usize>,
    pub(crate) covered: Covered,
}

/// What a signature covers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Covered {
    Data(Range<usize>),
    /// The trailer's fields as they are signed: each `name:value` and a line feed.
    Trailer(Vec<u8>),
}

/// Why bytes are no such stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signed chunks of the body are malformed: {0}")]
pub(crate) struct ChunkError(&'static str);

impl Chunks {
    pub(crate) fn new(has_trailer: bool) -> Self {
        Self { stage: Stage::Chunk, has_trailer }
    }

    /// Whether all of it was read.
    pub(crate) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// The part at the front of `bytes`; `None` while it is not whole.
    ///
    /// # Errors
    /// When it can be no part of such a stream.
    pub(crate) fn next(&mut self, bytes: &[u8]) -> Result<Option<Part>, ChunkError> {
        match self.stage {
            Stage::Chunk => self.chunk(bytes),
            Stage::Trailer => self.trailer(bytes),
            Stage::Done if bytes.is_empty() => Ok(None),
            Stage::Done => Err(ChunkError("something follows the last of them")),
        }
    }

    fn chunk(&mut self, bytes: &[u8]) -> Result<Option<Part>, ChunkError> {
        let Some(end) = line(bytes, LINE_LIMIT_BYTES)? else { return Ok(None) };
        let head = bytes.get(..end).unwrap_or_default();
        let size_len = head.iter().position(|it| *it == b';').ok_or(ChunkError("a chunk has no signature"))?;
        let (size, rest) = head.split_at(size_len);
        let size = (1..=8).contains(&size.len()).then(|| std::str::from_utf8(size).ok()).flatten();
        let size = size.filter(|it| it.bytes().all(|it| it.is_ascii_hexdigit()));
        let size = size.and_then(|it| usize::from_str_radix(it, 16).ok()).ok_or(ChunkError("a chunk has no size"))?;
        if size > CHUNK_LIMIT_BYTES {
            return Err(ChunkError("a chunk has more than 256 KiB"));
        }
        let signature = rest.strip_prefix(EXTENSION).ok_or(ChunkError("a chunk has another extension"))?;
        check_signature(signature)?;
        let at = size_len + EXTENSION.len();
        let data = end + 2..end + 2 + size;
        let is_last = size == 0;
        // Behind the last chunk comes the trailer, where there is one, and else the end of its empty data.
        let closing = if is_last && self.has_trailer { 0 } else { 2 };
        let len = data.end + closing;
        let Some(close) = bytes.get(data.end..len) else { return Ok(None) };
        if closing == 2 && close != b"\r\n" {
            return Err(ChunkError("a chunk is longer than it says"));
        }
        self.stage = match (is_last, self.has_trailer) {
            (false, _) => Stage::Chunk,
            (true, true) => Stage::Trailer,
            (true, false) => Stage::Done,
        };
        Ok(Some(Part { len, signature: at..at + SIGNATURE_LEN, covered: Covered::Data(data) }))
    }

    fn trailer(&mut self, bytes: &[u8]) -> Result<Option<Part>, ChunkError> {
        let (mut at, mut signed) = (0, Vec::new());
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let Some(end) = line(rest, TRAILER_LIMIT_BYTES.saturating_sub(at))? else { return Ok(None) };
            let text = rest.get(..end).unwrap_or_default();
            if let Some(signature) = text.strip_prefix(TRAILER_SIGNATURE) {
                check_signature(signature)?;
                let (from, len) = (at + TRAILER_SIGNATURE.len(), at + end + 4);
                return match bytes.get(at + end + 2..len) {
                    None => Ok(None),
                    Some(b"\r\n") => {
                        self.stage = Stage::Done;
                        let signature = from..from + SIGNATURE_LEN;
                        Ok(Some(Part { len, signature, covered: Covered::Trailer(signed) }))
                    }
                    Some(_) => Err(ChunkError("something follows the signature of the trailer")),
                };
            }
            if !is_field(text) {
                return Err(ChunkError("the trailer holds what is no field"));
            }
            signed.extend_from_slice(text);
            signed.push(b'\n');
            at += end + 2;
        }
    }
}

/// Length of the line at the front, without its CRLF; `None` while it is not whole.
fn line(bytes: &[u8], limit: usize) -> Result<Option<usize>, ChunkError> {
    let window = bytes.get(..limit.min(bytes.len())).unwrap_or_default();
    match window.windows(2).position(|it| it == b"\r\n") {
        Some(end) => Ok(Some(end)),
        None if bytes.len() >= limit => Err(ChunkError("a line is too long")),
        None => Ok(None),
    }
}

fn check_signature(digits: &[u8]) -> Result<(), ChunkError> {
    let is_signature = digits.len() == SIGNATURE_LEN && digits.iter().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
    is_signature.then_some(()).ok_or(ChunkError("a signature is not 64 lower-case hexadecimal digits"))
}

/// A checksum of S3's: a name in lower case and a value without spaces, which can be signed in one way only.
fn is_field(text: &[u8]) -> bool {
    let Some(colon) = text.iter().position(|it| *it == b':') else { return false };
    let (name, value) = text.split_at(colon);
    name.starts_with(b"x-amz-checksum-")
        && name.iter().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || *it == b'-')
        && value.get(1..).is_some_and(|value| !value.is_empty() && value.iter().all(u8::is_ascii_graphic))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: &str = "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648";

    fn read(text: &[u8], has_trailer: bool, step: usize) -> Result<Vec<(Part, Vec<u8>)>, ChunkError> {
        let (mut chunks, mut buffer, mut parts) = (Chunks::new(has_trailer), Vec::new(), Vec::new());
        for piece in text.chunks(step) {
            buffer.extend_from_slice(piece);
            while let Some(part) = chunks.next(&buffer)? {
                let rest = buffer.split_off(part.len);
                parts.push((part, std::mem::replace(&mut buffer, rest)));
                if chunks.is_done() {
                    chunks.next(&buffer)?;
                    break;
                }
            }
        }
        if chunks.is_done() { Ok(parts) } else { Err(ChunkError("cut")) }
    }

    fn data(parts: &[(Part, Vec<u8>)]) -> Vec<u8> {
        let of = |(part, bytes): &(Part, Vec<u8>)| match &part.covered {
            Covered::Data(range) => bytes[range.clone()].to_vec(),
            Covered::Trailer(_) => Vec::new(),
        };
        parts.iter().flat_map(of).collect()
    }

    #[test]
    fn chunks_are_read_however_they_arrive() {
        let text = format!("5;chunk-signature={S}\r\nhel\r\n\r\n0;chunk-signature={S}\r\n\r\n");
        let trailed = format!(
            "3;chunk-signature={S}\r\nabc\r\n0;chunk-signature={S}\r\nx-amz-checksum-crc32c:sOO8/Q==\r\n\
             x-amz-trailer-signature:{S}\r\n\r\n"
        );
        for step in [1, 2, 7, 4096] {
            let parts = read(text.as_bytes(), false, step).unwrap();
            assert_eq!(data(&parts), b"hel\r\n");
            assert!(parts.iter().all(|(part, bytes)| &bytes[part.signature.clone()] == S.as_bytes()));
            let parts = read(trailed.as_bytes(), true, step).unwrap();
            assert_eq!((data(&parts), parts.len()), (b"abc".to_vec(), 3));
            let (last, bytes) = &parts[2];
            assert_eq!(last.covered, Covered::Trailer(b"x-amz-checksum-crc32c:sOO8/Q==\n".to_vec()));
            assert_eq!(&bytes[last.signature.clone()], S.as_bytes());
        }
    }

    #[test]
    fn another_form_is_refused() {
        let end = format!("0;chunk-signature={S}\r\n\r\n");
        for wrong in [
            format!("5\r\nhello\r\n{end}"),
            format!("5;chunk-signature={S};x=y\r\nhello\r\n{end}"),
            format!("+5;chunk-signature={S}\r\nhello\r\n{end}"),
            format!("000000005;chunk-signature={S}\r\nhello\r\n{end}"),
            format!(";chunk-signature={S}\r\nhello\r\n{end}"),
            format!("4;chunk-signature={S}\r\nhello\r\n{end}"),
            format!("6;chunk-signature={S}\r\nhello\r\n{end}"),
            format!("5;chunk-signature={}\r\nhello\r\n{end}", S.to_uppercase()),
            format!("5;chunk-signature={}\r\nhello\r\n{end}", S.get(1..).unwrap()),
            format!("5;chunk-signature={S}\nhello\r\n{end}"),
            format!("40001;chunk-signature={S}\r\n"),
            format!("{end}x"),
            format!("0;chunk-signature={S}\r\nx-amz-checksum-crc32:a\r\n\r\n"),
            format!("5;{}", "a".repeat(200)),
        ] {
            assert!(read(wrong.as_bytes(), false, 4096).is_err(), "{wrong:?}");
        }
        let signed = format!("x-amz-trailer-signature:{S}\r\n\r\n");
        for wrong in
            ["x-amz-meta-a:b\r\n", "X-Amz-Checksum-Crc32:a\r\n", "x-amz-checksum-crc32: a\r\n", "\r\n", "x\r\n"]
        {
            let text = format!("0;chunk-signature={S}\r\n{wrong}{signed}");
            assert!(read(text.as_bytes(), true, 4096).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), has_trailer: bool) {
            let mut chunks = Chunks::new(has_trailer);
            if let Ok(Some(part)) = chunks.next(&bytes) {
                prop_assert!(part.len <= bytes.len() && part.signature.end <= part.len);
            }
        }
    }
}
