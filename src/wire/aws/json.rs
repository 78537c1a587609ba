//! JSON bodies. Members that stand twice are a contradiction: parsers differ in which one they take.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};
use smallvec::SmallVec;

use super::{BodyError, DEPTH_LIMIT, Reading, VALUE_LIMIT};
use crate::catalog::aws::Service;
use crate::catalog::aws::shape::{Location, Member, Shape};

/// Parses one JSON text strictly.
///
/// # Errors
/// `Contradiction` for a member that stands twice or bytes that are not UTF-8, `Doubt` for anything else.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, BodyError> {
    let count = Cell::new(0);
    from_text(bytes, Strict(&count))
}

/// Reads the members of a structure that travel in the body into `reading`, as strictly as [`parse`].
///
/// # Errors
/// Those of [`parse`]; then `reading` is as it was.
pub(crate) fn read(service: &Service, shape: usize, bytes: &[u8], reading: &mut Reading) -> Result<(), BodyError> {
    let found = Found::default();
    let value = from_text(bytes, Shaped { service, shape, depth: 0, found: &found })?;
    take_members(value, found, reading);
    Ok(())
}

/// Reads a body that is one value of that shape; `None` for null, which AWS treats as absent.
///
/// # Errors
/// Those of [`parse`]; then `reading` is as it was.
pub(crate) fn read_payload(
    service: &Service,
    shape: usize,
    bytes: &[u8],
    reading: &mut Reading,
) -> Result<Option<Value>, BodyError> {
    let found = Found::default();
    let value = from_text(bytes, Shaped { service, shape, depth: 0, found: &found })?;
    found.doubt.into_inner().into_iter().for_each(|doubt| reading.doubt(doubt));
    Ok(value)
}

/// The same as [`read`] for a body that was parsed from another encoding.
///
/// # Errors
/// `Doubt` when it holds more values than any body that is read.
pub(crate) fn read_members(
    service: &Service,
    shape: usize,
    value: Value,
    reading: &mut Reading,
) -> Result<(), BodyError> {
    let found = Found::default();
    let value = Shaped { service, shape, depth: 0, found: &found }.deserialize(value).map_err(|it| body_error(&it))?;
    take_members(value, found, reading);
    Ok(())
}

fn from_text<'de, S: DeserializeSeed<'de>>(bytes: &'de [u8], seed: S) -> Result<S::Value, BodyError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| BodyError::Contradiction("the JSON body is not valid UTF-8".to_owned()))?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = seed.deserialize(&mut deserializer).map_err(|it| body_error(&it))?;
    deserializer.end().map_err(|it| body_error(&it))?;
    Ok(value)
}

fn body_error(error: &serde_json::Error) -> BodyError {
    let message = error.to_string();
    match message.strip_prefix(TWICE) {
        Some(_) => BodyError::Contradiction(format!("the JSON body has the same member twice: {message}")),
        None => BodyError::Doubt(format!("the body is not JSON: {message}")),
    }
}

fn take_members(value: Option<Value>, found: Found, reading: &mut Reading) {
    match value {
        Some(Value::Object(parameters)) => {
            found.doubt.into_inner().into_iter().for_each(|doubt| reading.doubt(doubt));
            reading.add(parameters);
        }
        None => {}
        Some(_) => reading.doubt("the JSON body is not an object"),
    }
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

/// A JSON value none of whose objects has the same member twice; with the number of values read so far.
#[derive(Clone, Copy)]
struct Strict<'c>(&'c Cell<usize>);

fn count<E: de::Error>(values: &Cell<usize>) -> Result<(), E> {
    values.set(values.get() + 1);
    if values.get() > VALUE_LIMIT { Err(E::custom("it holds too many values")) } else { Ok(()) }
}

fn twice<E: de::Error>(name: &str) -> E {
    E::custom(format_args!("{TWICE}`{}`", clipped(name)))
}

fn finite<E: de::Error>(number: f64) -> Result<Value, E> {
    Number::from_f64(number).map(Value::Number).ok_or_else(|| E::custom("a number is out of range"))
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        count(self.0)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
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
        finite(number)
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
            match object.entry(name) {
                Entry::Occupied(entry) => return Err(twice(entry.key())),
                Entry::Vacant(entry) => {
                    entry.insert(entries.next_value_seed(self)?);
                }
            }
        }
        Ok(Value::Object(object))
    }
}

/// What is found besides the value while a body is read along a shape.
#[derive(Default)]
struct Found {
    values: Cell<usize>,
    /// The first thing that is not as the model says.
    doubt: RefCell<Option<String>>,
}

impl Found {
    fn doubt(&self, doubt: impl fmt::Display) {
        self.doubt.borrow_mut().get_or_insert_with(|| doubt.to_string());
    }
}

/// A value of that shape by the names of the model: `None` for null, which AWS treats as absent. What is not as the
/// model says is kept as it is, and noted.
#[derive(Clone, Copy)]
struct Shaped<'r> {
    service: &'r Service,
    shape: usize,
    depth: usize,
    found: &'r Found,
}

impl<'r> Shaped<'r> {
    fn strict(&self) -> Strict<'r> {
        Strict(&self.found.values)
    }

    /// What one level down has that shape.
    fn inner(&self, shape: usize) -> Self {
        Self { shape, depth: self.depth + 1, ..*self }
    }

    /// A value that is no list, map or structure where the model has one.
    fn plain(&self, value: Value) -> Value {
        if !is_kind(self.service.shape(self.shape), &value) {
            self.found.doubt("a member of the body has another type than the model says");
        }
        value
    }

    fn members<'de, A: MapAccess<'de>>(&self, members: &[Member], mut entries: A) -> Result<Value, A::Error> {
        let mut parameters = Map::new();
        let mut seen: SmallVec<[usize; 16]> = SmallVec::new();
        let mut strange: HashSet<String> = HashSet::new();
        while let Some(name) = entries.next_key_seed(Name(members))? {
            match name {
                Named::Member(index, member) => {
                    if seen.contains(&index) {
                        return Err(twice(member.wire_name()));
                    }
                    seen.push(index);
                    if let Some(value) = entries.next_value_seed(self.inner(member.shape))? {
                        parameters.insert(member.name.to_owned(), value);
                    }
                }
                // Services ignore what they do not know; a service younger than the table may know it.
                Named::Other(name) => {
                    if strange.contains(&name) {
                        return Err(twice(&name));
                    }
                    self.found.doubt(format_args!("the body has a member that is not modelled: `{}`", clipped(&name)));
                    let value = entries.next_value_seed(self.strict())?;
                    strange.insert(name.clone());
                    parameters.entry(name).or_insert(value);
                }
            }
        }
        Ok(Value::Object(parameters))
    }
}

impl<'de> DeserializeSeed<'de> for Shaped<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Value>, D::Error> {
        if self.depth > DEPTH_LIMIT {
            self.found.doubt("the body is nested too deeply");
            return self.strict().deserialize(deserializer).map(|_| None);
        }
        count(&self.found.values)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Shaped<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.strict().expecting(f)
    }

    fn visit_unit<E>(self) -> Result<Option<Value>, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Option<Value>, E> {
        Ok(Some(self.plain(Value::Bool(flag))))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Option<Value>, E> {
        Ok(Some(self.plain(Value::Number(number.into()))))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Option<Value>, E> {
        Ok(Some(self.plain(Value::Number(number.into()))))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Option<Value>, E> {
        Ok(Some(self.plain(finite(number)?)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Option<Value>, E> {
        Ok(Some(self.plain(Value::String(text.to_owned()))))
    }

    fn visit_string<E>(self, text: String) -> Result<Option<Value>, E> {
        Ok(Some(self.plain(Value::String(text))))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Option<Value>, A::Error> {
        let Shape::List { element, .. } = self.service.shape(self.shape) else {
            return Ok(Some(self.plain(self.strict().visit_seq(items)?)));
        };
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(self.inner(*element))? {
            array.push(item.unwrap_or(Value::Null));
        }
        Ok(Some(Value::Array(array)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Option<Value>, A::Error> {
        let value = match self.service.shape(self.shape) {
            Shape::Structure(members) => return self.members(members, entries).map(Some),
            Shape::Map { value, .. } => *value,
            _ => return Ok(Some(self.plain(self.strict().visit_map(entries)?))),
        };
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            match object.entry(key) {
                Entry::Occupied(entry) => return Err(twice(entry.key())),
                Entry::Vacant(entry) => {
                    entry.insert(entries.next_value_seed(self.inner(value))?.unwrap_or(Value::Null));
                }
            }
        }
        Ok(Some(Value::Object(object)))
    }
}

/// The name of a structure's member, looked up without a copy.
struct Name<'m>(&'m [Member]);

enum Named<'m> {
    Member(usize, &'m Member),
    Other(String),
}

impl<'de, 'm> DeserializeSeed<'de> for Name<'m> {
    type Value = Named<'m>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Named<'m>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'m> Visitor<'_> for Name<'m> {
    type Value = Named<'m>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a member")
    }

    fn visit_str<E>(self, name: &str) -> Result<Named<'m>, E> {
        let mut members = self.0.iter().enumerate();
        let known = members.find(|(_, it)| it.wire_name() == name && it.location == Location::Body);
        Ok(known.map_or_else(|| Named::Other(name.to_owned()), |(index, it)| Named::Member(index, it)))
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
