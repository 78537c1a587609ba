//! CBOR bodies (RFC 8949) of the rpc-v2-cbor protocol, read as the JSON value they stand for: byte
//! strings as base64, tagged times as their number.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value};

use super::{BodyError, DEPTH_LIMIT, VALUE_LIMIT};

/// Parses one CBOR item.
///
/// # Errors
/// `Contradiction` for a map key that stands twice or text that is not UTF-8, `Doubt` for anything else.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, BodyError> {
    let mut reader = Reader { rest: bytes, values: 0 };
    let value = reader.item(0)?.ok_or_else(broken)?;
    if reader.rest.is_empty() { Ok(value) } else { Err(broken()) }
}

fn broken() -> BodyError {
    BodyError::Doubt("the body is not CBOR as the protocol has it".to_owned())
}

struct Reader<'b> {
    rest: &'b [u8],
    /// Values read so far.
    values: usize,
}

impl<'b> Reader<'b> {
    /// One item; `None` for the break that ends an indefinite one.
    fn item(&mut self, depth: usize) -> Result<Option<Value>, BodyError> {
        if depth > DEPTH_LIMIT {
            return Err(BodyError::Doubt("the CBOR body is nested too deeply".to_owned()));
        }
        self.values += 1;
        if self.values > VALUE_LIMIT {
            return Err(BodyError::Doubt("the CBOR body holds too many values".to_owned()));
        }
        let (&initial, rest) = self.rest.split_first().ok_or_else(broken)?;
        self.rest = rest;
        let (major, low) = (initial >> 5, initial & 31);
        if major == 7 {
            return self.simple(low);
        }
        let argument = if low == 31 { None } else { Some(self.argument(low)?) };
        Ok(Some(match (major, argument) {
            (0, Some(number)) => Value::Number(number.into()),
            (1, Some(number)) => {
                let number = i64::try_from(number).map_err(|_| broken())?;
                Value::Number((-1 - number).into())
            }
            (2, length) => Value::String(STANDARD.encode(self.string(2, length)?)),
            (3, length) => Value::String(utf8(self.string(3, length)?)?),
            (4, length) => self.array(length, depth)?,
            (5, length) => self.map(length, depth)?,
            // Tag 1 is a time in seconds; no other tag is in the protocol.
            (6, Some(1)) => self.item(depth + 1)?.filter(Value::is_number).ok_or_else(broken)?,
            _ => return Err(broken()),
        }))
    }

    fn simple(&mut self, low: u8) -> Result<Option<Value>, BodyError> {
        Ok(Some(match low {
            20 => Value::Bool(false),
            21 => Value::Bool(true),
            22 | 23 => Value::Null,
            25 => float(half(u16::from_be_bytes(self.array_of()?)))?,
            26 => float(f32::from_be_bytes(self.array_of()?).into())?,
            27 => float(f64::from_be_bytes(self.array_of()?))?,
            31 => return Ok(None),
            _ => return Err(broken()),
        }))
    }

    fn argument(&mut self, low: u8) -> Result<u64, BodyError> {
        Ok(match low {
            0..=23 => low.into(),
            24 => u8::from_be_bytes(self.array_of()?).into(),
            25 => u16::from_be_bytes(self.array_of()?).into(),
            26 => u32::from_be_bytes(self.array_of()?).into(),
            27 => u64::from_be_bytes(self.array_of()?),
            _ => return Err(broken()),
        })
    }

    fn string(&mut self, major: u8, length: Option<u64>) -> Result<Vec<u8>, BodyError> {
        let Some(length) = length else { return self.chunked(major) };
        Ok(self.take(length)?.to_vec())
    }

    fn chunked(&mut self, major: u8) -> Result<Vec<u8>, BodyError> {
        let mut whole = Vec::new();
        loop {
            let (&initial, rest) = self.rest.split_first().ok_or_else(broken)?;
            self.rest = rest;
            if initial == 0xff {
                return Ok(whole);
            }
            if initial >> 5 != major || initial & 31 == 31 {
                return Err(broken());
            }
            let length = self.argument(initial & 31)?;
            whole.extend_from_slice(self.take(length)?);
        }
    }

    fn array(&mut self, length: Option<u64>, depth: usize) -> Result<Value, BodyError> {
        let mut items = Vec::new();
        while length.is_none_or(|length| (items.len() as u64) < length) {
            match (self.item(depth + 1)?, length) {
                (Some(item), _) => items.push(item),
                (None, None) => break,
                (None, Some(_)) => return Err(broken()),
            }
        }
        Ok(Value::Array(items))
    }

    fn map(&mut self, length: Option<u64>, depth: usize) -> Result<Value, BodyError> {
        let mut object = Map::new();
        while length.is_none_or(|length| (object.len() as u64) < length) {
            let key = match (self.item(depth + 1)?, length) {
                (Some(Value::String(key)), _) => key,
                (None, None) => break,
                _ => return Err(broken()),
            };
            let value = self.item(depth + 1)?.ok_or_else(broken)?;
            if object.insert(key, value).is_some() {
                return Err(BodyError::Contradiction("the CBOR body has the same member twice".to_owned()));
            }
        }
        Ok(Value::Object(object))
    }

    fn take(&mut self, length: u64) -> Result<&'b [u8], BodyError> {
        let length = usize::try_from(length).map_err(|_| broken())?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(broken)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array_of<const N: usize>(&mut self) -> Result<[u8; N], BodyError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or_else(broken)?;
        self.rest = rest;
        Ok(*taken)
    }
}

fn utf8(bytes: Vec<u8>) -> Result<String, BodyError> {
    String::from_utf8(bytes)
        .map_err(|_| BodyError::Contradiction("the CBOR body holds text that is not UTF-8".to_owned()))
}

fn float(number: f64) -> Result<Value, BodyError> {
    let named = if number.is_nan() {
        "NaN"
    } else if number == f64::INFINITY {
        "Infinity"
    } else if number == f64::NEG_INFINITY {
        "-Infinity"
    } else {
        return Number::from_f64(number).map(Value::Number).ok_or_else(broken);
    };
    Ok(Value::String(named.to_owned()))
}

/// RFC 8949 appendix D: half precision.
fn half(bits: u16) -> f64 {
    let exponent = i32::from(bits >> 10 & 31);
    let mantissa = f64::from(bits & 1023);
    let magnitude = match exponent {
        0 => mantissa * 2_f64.powi(-24),
        31 if mantissa == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (mantissa + 1024.0) * 2_f64.powi(exponent - 25),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}
