//! JSON bodies. Members that stand twice are a contradiction: parsers differ in which one they take.

use std::cell::Cell;
use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{BodyError, DEPTH_LIMIT, Reading, VALUE_LIMIT};
use crate::catalog::aws::Service;
use crate::catalog::aws::shape::{Location, Member, Shape};

/// Parses one JSON text strictly.
///
/// # Errors
/// `Contradiction` for a member that stands twice or bytes that are not UTF-8, `Doubt` for anything else.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, BodyError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| BodyError::Contradiction("the JSON body is not valid UTF-8".to_owned()))?;
    serde_json::from_str::<Strict>(text).map(|strict| strict.0).map_err(|error| {
        let message = error.to_string();
        match message.strip_prefix(TWICE) {
            Some(_) => BodyError::Contradiction(format!("the JSON body has the same member twice: {message}")),
            None => BodyError::Doubt(format!("the body is not JSON: {message}")),
        }
    })
}

/// Reads the members of a structure that travel in the body into `reading`.
pub(crate) fn read_members(service: &Service, shape: usize, value: Value, reading: &mut Reading) {
    let members = service.shape(shape).members();
    match value {
        Value::Object(object) => {
            let parameters = read_object(service, members, object, 0, reading);
            reading.parameters.extend(parameters);
        }
        Value::Null => {}
        _ => reading.doubt("the JSON body is not an object"),
    }
}

/// Reads one value of that shape; `None` for null, which AWS treats as absent.
pub(crate) fn read_value(
    service: &Service,
    shape: usize,
    value: Value,
    depth: usize,
    reading: &mut Reading,
) -> Option<Value> {
    if depth > DEPTH_LIMIT {
        reading.doubt("the body is nested too deeply");
        return None;
    }
    Some(match (service.shape(shape), value) {
        (_, Value::Null) => return None,
        (Shape::Structure(members), Value::Object(object)) => {
            Value::Object(read_object(service, members, object, depth, reading))
        }
        (Shape::List { element, .. }, Value::Array(items)) => Value::Array(
            items
                .into_iter()
                .map(|item| read_value(service, *element, item, depth + 1, reading).unwrap_or(Value::Null))
                .collect(),
        ),
        (Shape::Map { value: shape, .. }, Value::Object(object)) => Value::Object(
            object
                .into_iter()
                .map(|(key, item)| (key, read_value(service, *shape, item, depth + 1, reading).unwrap_or(Value::Null)))
                .collect(),
        ),
        (shape, value) => {
            if !is_kind(shape, &value) {
                reading.doubt("a member of the body has another type than the model says");
            }
            value
        }
    })
}

/// Writes the members of a structure that travel in the body by their wire names.
///
/// # Errors
/// The name of the parameter that is not modelled or has the wrong kind.
pub(crate) fn write_members(
    service: &Service,
    members: &[Member],
    parameters: &Map<String, Value>,
) -> Result<Map<String, Value>, String> {
    parameters
        .iter()
        .map(|(name, value)| {
            let member =
                members.iter().find(|it| it.name == name).ok_or_else(|| format!("`{name}` is not modelled"))?;
            Ok((member.wire_name().to_owned(), write_value(service, member.shape, value, name)?))
        })
        .collect()
}

fn write_value(service: &Service, shape: usize, value: &Value, name: &str) -> Result<Value, String> {
    Ok(match (service.shape(shape), value) {
        (Shape::Structure(members), Value::Object(object)) => Value::Object(write_members(service, members, object)?),
        (Shape::List { element, .. }, Value::Array(items)) => {
            let items = items.iter().map(|item| write_value(service, *element, item, name));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        (Shape::Map { value, .. }, Value::Object(object)) => {
            let entries = object.iter().map(|(key, item)| Ok((key.clone(), write_value(service, *value, item, key)?)));
            Value::Object(entries.collect::<Result<_, String>>()?)
        }
        (shape, value) if is_kind(shape, value) => value.clone(),
        _ => return Err(format!("`{name}` has another type than the model says")),
    })
}

fn read_object(
    service: &Service,
    members: &[Member],
    object: Map<String, Value>,
    depth: usize,
    reading: &mut Reading,
) -> Map<String, Value> {
    let mut parameters = Map::new();
    for (name, value) in object {
        match members.iter().find(|it| it.wire_name() == name && it.location == Location::Body) {
            Some(member) => {
                if let Some(value) = read_value(service, member.shape, value, depth + 1, reading) {
                    parameters.insert(member.name.to_owned(), value);
                }
            }
            // Services ignore what they do not know; a service younger than the table may know it.
            None => {
                reading.doubt(format_args!("the body has a member that is not modelled: `{}`", clipped(&name)));
                parameters.entry(name).or_insert(value);
            }
        }
    }
    parameters
}

fn is_kind(shape: &Shape, value: &Value) -> bool {
    match shape {
        Shape::Document => true,
        Shape::Blob | Shape::Text => value.is_string(),
        Shape::Boolean => value.is_boolean(),
        Shape::Float => value.is_number() || matches!(value.as_str(), Some("NaN" | "Infinity" | "-Infinity")),
        Shape::Integer => value.as_number().is_some_and(is_whole),
        Shape::Timestamp => value.is_number() || value.is_string(),
        // The caller has matched the compound kinds that fit.
        Shape::List { .. } | Shape::Map { .. } | Shape::Structure(_) => false,
    }
}

fn is_whole(number: &Number) -> bool {
    !number.is_f64() || number.as_f64().is_some_and(|it| it.fract() == 0.0)
}

fn clipped(name: &str) -> String {
    name.chars().take(64).collect()
}

const TWICE: &str = "stands twice: ";

/// A JSON value none of whose objects has the same member twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        StrictSeed(&Cell::new(0)).deserialize(deserializer).map(Self)
    }
}

/// With the number of values read so far.
#[derive(Clone, Copy)]
struct StrictSeed<'c>(&'c Cell<usize>);

impl<'de> DeserializeSeed<'de> for StrictSeed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.0.set(self.0.get() + 1);
        if self.0.get() > VALUE_LIMIT {
            return Err(de::Error::custom("it holds too many values"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StrictSeed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Value, E> {
        Number::from_f64(number).map(Value::Number).ok_or_else(|| E::custom("a number is out of range"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            if object.contains_key(&name) {
                return Err(de::Error::custom(format_args!("{TWICE}`{}`", clipped(&name))));
            }
            let value = entries.next_value_seed(self)?;
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::aws::cbor;

    #[test]
    fn a_body_of_countless_small_values_is_a_doubt() {
        let json = |count: usize| format!("[{}0]", "0,".repeat(count - 2));
        assert!(parse(json(VALUE_LIMIT).as_bytes()).is_ok());
        assert!(matches!(parse(json(VALUE_LIMIT + 1).as_bytes()), Err(BodyError::Doubt(_))));
        let cbor_of = |count: usize| [vec![0x9f], vec![0; count - 2], vec![0xff]].concat();
        assert!(cbor::parse(&cbor_of(VALUE_LIMIT)).is_ok());
        assert!(matches!(cbor::parse(&cbor_of(VALUE_LIMIT + 1)), Err(BodyError::Doubt(_))));
    }
}
