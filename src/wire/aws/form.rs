//! Form bodies and query strings of the query and ec2 protocols.
//!
//! Keys are paths (`Filter.1.Value.2`). They are read along the input shape, so that a key that the
//! model does not spell that way is a doubt rather than a parameter nobody looks at.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};
use smallvec::SmallVec;

use super::{BodyError, DEPTH_LIMIT, Reading, scalar, scalar_text};
use crate::catalog::aws::Service;
use crate::catalog::aws::shape::{Location, Member, Shape};

/// Which of the two form protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    Ec2,
    Query,
}

/// Fields in the order sent, decoded.
pub(crate) type Fields<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// More fields than any SDK sends in one request.
const FIELD_LIMIT: usize = 20_000;

/// Splits and decodes a form body.
///
/// # Errors
/// `Contradiction` for broken escapes, bytes that are not UTF-8, or a key that stands twice.
pub(crate) fn parse(bytes: &[u8]) -> Result<Fields<'_>, BodyError> {
    let contradiction = |why: &str| BodyError::Contradiction(why.to_owned());
    let text = std::str::from_utf8(bytes).map_err(|_| contradiction("the form body is not valid UTF-8"))?;
    let mut fields = Fields::new();
    for field in text.split('&').filter(|field| !field.is_empty()) {
        let (name, value) = split_at(field, b'=');
        let value = value.unwrap_or_default();
        fields.push((decode(name)?, decode(value)?));
        if fields.len() > FIELD_LIMIT {
            return Err(BodyError::Doubt(format!("the form has more than {FIELD_LIMIT} fields")));
        }
    }
    check_unique(&fields)?;
    Ok(fields)
}

/// # Errors
/// `Contradiction` when a key stands twice: servers differ in which one they take.
pub(crate) fn check_unique(fields: &Fields<'_>) -> Result<(), BodyError> {
    let mut names: Vec<&str> = fields.iter().map(|(name, _)| &**name).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair.first() == pair.last()).and_then(|pair| pair.first()) {
        Some(name) => Err(BodyError::Contradiction(format!(
            "the form has the same field twice: `{}`",
            name.chars().take(64).collect::<String>()
        ))),
        None => Ok(()),
    }
}

fn decode(text: &str) -> Result<Cow<'_, str>, BodyError> {
    if memchr::memchr2(b'%', b'+', text.as_bytes()).is_none() {
        // Without a way out in its middle the loop runs on many bytes at a time.
        if text.bytes().fold(false, |found, b| found | b.is_ascii_control()) {
            return Err(BodyError::Contradiction("the form holds a raw control character".to_owned()));
        }
        return Ok(Cow::Borrowed(text));
    }
    let broken = || BodyError::Contradiction("the form holds a broken escape".to_owned());
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let (high, low) = (bytes.next().and_then(nibble), bytes.next().and_then(nibble));
                high.zip(low).map(|(high, low)| high << 4 | low).ok_or_else(broken)?
            }
            byte => byte,
        });
    }
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| broken())
}

/// The value of a hexadecimal digit.
fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// What stands before and behind the first such byte.
fn split_at(text: &str, byte: u8) -> (&str, Option<&str>) {
    let at = memchr::memchr(byte, text.as_bytes()).and_then(|at| Some((text.get(..at)?, text.get(at + 1..)?)));
    at.map_or((text, None), |(before, behind)| (before, Some(behind)))
}

/// A key's remaining path and its value; no path at the end of the key.
type Rest<'a> = (Option<&'a str>, &'a str);

/// Fields by the next part of their paths.
type Groups<'s, 'a> = SmallVec<[(&'a str, &'s mut [Rest<'a>]); 8]>;

/// The next part of a path.
fn token<'a>(rest: &Rest<'a>) -> Option<&'a str> {
    rest.0.map(|path| split_at(path, b'.').0)
}

/// Reads fields into `reading` along the input shape.
pub(crate) fn read<'a>(
    service: &Service,
    shape: usize,
    flavour: Flavour,
    fields: impl Iterator<Item = (&'a str, &'a str)>,
    reading: &mut Reading,
) {
    let mut rests: Vec<Rest<'a>> = fields.map(|(name, value)| (Some(name), value)).collect();
    let mut reader = Reader { service, flavour, reading };
    if let Some(Value::Object(parameters)) = reader.structure(service.shape(shape).members(), &mut rests, 0) {
        reader.reading.add(parameters);
    }
}

struct Reader<'r> {
    service: &'r Service,
    flavour: Flavour,
    reading: &'r mut Reading,
}

impl Reader<'_> {
    fn value(&mut self, shape: usize, is_flat: bool, rests: &mut [Rest<'_>], depth: usize) -> Option<Value> {
        if depth > DEPTH_LIMIT {
            self.reading.doubt("the form is nested too deeply");
            return None;
        }
        let service = self.service;
        match service.shape(shape) {
            Shape::Structure(members) => self.structure(members, rests, depth),
            Shape::List { element, element_name, is_flat: flat } => {
                let is_flat = is_flat || *flat || self.flavour == Flavour::Ec2;
                self.list(*element, *element_name, is_flat, rests, depth)
            }
            Shape::Map { value, key_name, value_name, is_flat: flat } => {
                let names = (key_name.unwrap_or("key"), value_name.unwrap_or("value"));
                self.map(*value, names, is_flat || *flat, rests, depth)
            }
            shape => match rests {
                [(None, text)] => {
                    let value = scalar(shape, text);
                    if value.is_none() {
                        self.reading.doubt("a field of the form has another type than the model says");
                    }
                    value.or_else(|| Some(Value::String((*text).to_owned())))
                }
                _ => {
                    self.reading.doubt("a field of the form is deeper than the model says");
                    None
                }
            },
        }
    }

    fn structure(&mut self, members: &[Member], rests: &mut [Rest<'_>], depth: usize) -> Option<Value> {
        let mut object = Map::new();
        for (token, rests) in self.grouped(rests) {
            let name =
                |it: &&Member| form_token(self.service, it, self.flavour) == token && it.location == Location::Body;
            let named = members.iter().find(name).or_else(|| {
                let is_query = self.flavour == Flavour::Query;
                members
                    .iter()
                    .find(|it| is_query && it.newer_form_name() == Some(token) && it.location == Location::Body)
            });
            let Some(member) = named else {
                self.reading.doubt(format_args!(
                    "the form has a field that is not modelled: `{}`",
                    token.chars().take(64).collect::<String>()
                ));
                continue;
            };
            if let Some(value) = self.value(member.shape, member.is_flat, rests, depth + 1)
                && object.insert(member.name.to_owned(), value).is_some()
            {
                self.reading.doubt(format_args!("the form has two spellings of `{}`", member.name));
            }
        }
        Some(Value::Object(object))
    }

    fn list(
        &mut self,
        element: usize,
        name: Option<&str>,
        is_flat: bool,
        rests: &mut [Rest<'_>],
        depth: usize,
    ) -> Option<Value> {
        // `Names=` is how SDKs write the empty list.
        if let [(None, "")] = rests {
            return Some(Value::Array(Vec::new()));
        }
        let rests = if is_flat { rests } else { self.unwrapped(rests, &[name.unwrap_or("member"), "member"])? };
        let items = self.numbered(rests)?;
        Some(Value::Array(items.into_iter().filter_map(|item| self.value(element, false, item, depth + 1)).collect()))
    }

    fn map(
        &mut self,
        value: usize,
        names: (&str, &str),
        is_flat: bool,
        rests: &mut [Rest<'_>],
        depth: usize,
    ) -> Option<Value> {
        let rests = if is_flat { rests } else { self.unwrapped(rests, &["entry"])? };
        let mut object = Map::new();
        for entry in self.numbered(rests)? {
            let (mut key, mut item) = (None, None);
            for (token, rests) in self.grouped(entry) {
                let is_key = token.eq_ignore_ascii_case(names.0) || self.service.entry.id == "sqs" && token == "Name";
                let is_item = !is_key && token.eq_ignore_ascii_case(names.1);
                if is_key && key.is_some() || is_item && item.is_some() {
                    self.reading.doubt("a map entry of the form has its key or its value in two spellings");
                }
                if is_key {
                    key = match rests {
                        [(None, text)] => Some((*text).to_owned()),
                        _ => None,
                    };
                } else if is_item {
                    item = self.value(value, false, rests, depth + 1);
                } else {
                    self.reading.doubt("a map entry of the form has a field besides key and value");
                }
            }
            match key {
                Some(key) if !object.contains_key(&key) => {
                    object.insert(key, item.unwrap_or_else(|| Value::String(String::new())));
                }
                _ => self.reading.doubt("a map of the form has an entry without key, or a key twice"),
            }
        }
        Some(Value::Object(object))
    }

    /// Groups by the next part of the path, sorted by it, and takes that part off.
    fn grouped<'s, 'a>(&mut self, rests: &'s mut [Rest<'a>]) -> Groups<'s, 'a> {
        rests.sort_by_key(token);
        let values = rests.partition_point(|(path, _)| path.is_none());
        if values > 0 {
            self.reading.doubt("a field of the form is both a value and a group");
        }
        let groups = rests.get_mut(values..).unwrap_or_default().chunk_by_mut(|one, next| token(one) == token(next));
        groups
            .map(|group| {
                let name = group.first().and_then(token).unwrap_or_default();
                for (path, _) in group.iter_mut() {
                    *path = path.and_then(|path| split_at(path, b'.').1);
                }
                (name, group)
            })
            .collect()
    }

    /// Takes the wrapping part (`member`, `entry`, an element name) off every path.
    fn unwrapped<'s, 'a>(&mut self, rests: &'s mut [Rest<'a>], names: &[&str]) -> Option<&'s mut [Rest<'a>]> {
        let mut groups = self.grouped(rests);
        match (groups.pop(), groups.is_empty()) {
            (Some((token, rests)), true) if names.contains(&token) => Some(rests),
            _ => {
                self.reading.doubt("a list of the form is not numbered as the model says");
                None
            }
        }
    }

    /// The groups of `1.…`, `2.…` in their order. Gaps are closed: SDKs leave them for empty items. Other spellings
    /// of numbers are doubts.
    fn numbered<'s, 'a>(&mut self, rests: &'s mut [Rest<'a>]) -> Option<SmallVec<[&'s mut [Rest<'a>]; 8]>> {
        let mut items: SmallVec<[(usize, &mut [Rest<'_>]); 8]> = SmallVec::new();
        for (token, rests) in self.grouped(rests) {
            match token.parse::<usize>() {
                Ok(number) if !token.starts_with(['0', '+']) && number <= FIELD_LIMIT => items.push((number, rests)),
                _ => {
                    self.reading.doubt("a list of the form is not numbered from 1");
                    return None;
                }
            }
        }
        items.sort_by_key(|(number, _)| *number);
        Some(items.into_iter().map(|(_, rests)| rests).collect())
    }
}

/// The part of a key that stands for a member: a flat query list goes by the name of its elements.
fn form_token(service: &Service, member: &Member, flavour: Flavour) -> &'static str {
    match service.shape(member.shape) {
        Shape::List { element_name: Some(name), is_flat, .. }
            if flavour == Flavour::Query && (*is_flat || member.is_flat) =>
        {
            name
        }
        _ => member.form_name(),
    }
}

/// Writes parameters as form fields, in the order of `parameters`.
///
/// # Errors
/// The name of the parameter that is not modelled or has the wrong kind.
pub(crate) fn write(
    service: &Service,
    shape: usize,
    flavour: Flavour,
    parameters: &Map<String, Value>,
) -> Result<Vec<(String, String)>, String> {
    let mut writer = Writer { service, flavour, fields: Vec::new() };
    writer.structure("", service.shape(shape).members(), parameters)?;
    Ok(writer.fields)
}

/// Serialises fields as a form body, with the escapes SDKs use.
pub(crate) fn encode<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    let mut text = String::new();
    for (name, value) in fields {
        if !text.is_empty() {
            text.push('&');
        }
        text.extend(utf8_percent_encode(name, KEPT));
        text.push('=');
        text.extend(utf8_percent_encode(value, KEPT));
    }
    text
}

struct Writer<'s> {
    service: &'s Service,
    flavour: Flavour,
    fields: Vec<(String, String)>,
}

impl Writer<'_> {
    fn structure(&mut self, prefix: &str, members: &[Member], parameters: &Map<String, Value>) -> Result<(), String> {
        for (name, value) in parameters {
            let member =
                members.iter().find(|it| it.name == name).ok_or_else(|| format!("`{name}` is not modelled"))?;
            let path = joined(prefix, form_token(self.service, member, self.flavour));
            self.value(&path, member.shape, member.is_flat, value).map_err(|()| {
                format!("`{name}` has another type than the model says, or cannot be written as a form field")
            })?;
        }
        Ok(())
    }

    fn value(&mut self, path: &str, shape: usize, is_flat: bool, value: &Value) -> Result<(), ()> {
        let service = self.service;
        match (service.shape(shape), value) {
            (Shape::Structure(members), Value::Object(object)) => self.structure(path, members, object).map_err(|_| ()),
            (Shape::List { .. }, Value::Array(items)) if items.is_empty() => {
                self.fields.push((path.to_owned(), String::new()));
                Ok(())
            }
            (Shape::List { element, element_name, is_flat: flat }, Value::Array(items)) => {
                let is_flat = is_flat || *flat || self.flavour == Flavour::Ec2;
                let path = if is_flat { path.to_owned() } else { joined(path, element_name.unwrap_or("member")) };
                for (item, number) in items.iter().zip(1..) {
                    self.value(&format!("{path}.{number}"), *element, false, item)?;
                }
                Ok(())
            }
            (Shape::Map { value: shape, key_name, value_name, is_flat: flat }, Value::Object(object)) => {
                let path = if is_flat || *flat { path.to_owned() } else { joined(path, "entry") };
                // The model of SQS carries the JSON names; its forms have these.
                let names = match (self.service.entry.id, path.as_str()) {
                    ("sqs", "Tag") => ("Key", "Value"),
                    ("sqs", _) => ("Name", "Value"),
                    _ => (key_name.unwrap_or("key"), value_name.unwrap_or("value")),
                };
                for ((key, item), number) in object.iter().zip(1..) {
                    self.fields.push((format!("{path}.{number}.{}", names.0), key.clone()));
                    self.value(&format!("{path}.{number}.{}", names.1), *shape, false, item)?;
                }
                Ok(())
            }
            (shape, value) => {
                let text = scalar_text(value).ok_or(())?;
                // Only what would be read back as the same value may be written.
                if scalar(shape, &text).as_ref() != Some(value) {
                    return Err(());
                }
                self.fields.push((path.to_owned(), text));
                Ok(())
            }
        }
    }
}

fn joined(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}
