//! Reads the fields of one message from front to back.

/// What of a message is still to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a>(&'a [u8]);

/// A field is not there, or not as its type demands; the reader says in which message.
pub(super) type Field<T> = Result<T, &'static str>;

const TOO_SHORT: &str = "it ends early";

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes(&mut self, len: usize) -> Field<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(TOO_SHORT)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn array<const LEN: usize>(&mut self) -> Field<[u8; LEN]> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(TOO_SHORT)?;
        self.0 = rest;
        Ok(*bytes)
    }

    pub(super) fn byte(&mut self) -> Field<u8> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Field<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn i16(&mut self) -> Field<i16> {
        self.array().map(i16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Field<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Field<i32> {
        self.array().map(i32::from_be_bytes)
    }

    /// Text up to its terminator, which is taken too.
    pub(super) fn text(&mut self) -> Field<&'a [u8]> {
        let end = memchr::memchr(0, self.0).ok_or("a text has no end")?;
        let text = self.bytes(end)?;
        self.byte()?;
        Ok(text)
    }

    /// `count` items of two bytes each.
    pub(super) fn codes(&mut self, count: u16) -> Field<Codes<'a>> {
        let bytes = self.bytes(usize::from(count) * 2)?;
        Ok(Codes(bytes.as_chunks().0))
    }

    /// A value behind its length, or the length -1 of NULL.
    pub(super) fn value(&mut self) -> Field<Option<&'a [u8]>> {
        match self.i32()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| "a value has a negative length")?;
                self.bytes(length).map(Some)
            }
        }
    }

    /// A count and that many values. All are looked at, so that walking them again cannot fail.
    pub(super) fn values(&mut self) -> Field<Values<'a>> {
        let count = self.u16()?;
        let values = Values { count, rest: *self };
        for _ in 0..count {
            self.value()?;
        }
        Ok(values)
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub(super) fn finish(self) -> Field<()> {
        if self.0.is_empty() { Ok(()) } else { Err("there are bytes after its end") }
    }
}

/// Format codes, in place: 0 is text, 1 is binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Codes<'a>(&'a [[u8; 2]]);

impl Codes<'_> {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The code of one value: none at all means text, a single one holds for all of them.
    pub(crate) fn of(&self, index: usize) -> i16 {
        let index = if self.0.len() == 1 { 0 } else { index };
        self.0.get(index).map_or(0, |code| i16::from_be_bytes(*code))
    }
}

/// Bound values, in place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Values<'a> {
    count: u16,
    rest: Cursor<'a>,
}

impl<'a> Values<'a> {
    pub(crate) fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// The values in order; `None` is NULL.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Option<&'a [u8]>> + use<'a> {
        let mut rest = self.rest;
        // They were read whole before.
        (0..self.count).map_while(move |_| rest.value().ok())
    }
}
