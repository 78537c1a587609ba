//! XML bodies. DTDs are a contradiction; comments and processing instructions are doubts, since they
//! may split a text that another parser joins.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use serde_json::{Map, Value};

use super::{BodyError, DEPTH_LIMIT, Reading, scalar};
use crate::catalog::aws::Service;
use crate::catalog::aws::shape::{Location, Member, Shape};

/// One element.
#[derive(Debug, Default)]
pub(crate) struct Element {
    /// Name as written, with prefix.
    pub(crate) name: String,
    attributes: Vec<(String, String)>,
    children: Vec<Element>,
    text: String,
}

impl Element {
    pub(crate) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|it| it.name == name)
    }

    pub(crate) fn children<'e>(&'e self, name: &'e str) -> impl Iterator<Item = &'e Self> {
        self.children.iter().filter(move |it| it.name == name)
    }

    pub(crate) fn take_child(&mut self, name: &str) -> Option<Self> {
        let at = self.children.iter().position(|it| it.name == name)?;
        Some(self.children.swap_remove(at))
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

/// More elements than any modelled request has.
const ELEMENT_LIMIT: usize = 200_000;

/// Parses one XML document.
///
/// # Errors
/// `Contradiction` for a DTD, an attribute twice or bytes that are not UTF-8, `Doubt` for anything else.
pub(crate) fn parse(bytes: &[u8]) -> Result<Element, BodyError> {
    let doubt = |why: &str| BodyError::Doubt(why.to_owned());
    let text = std::str::from_utf8(bytes)
        .map_err(|_| BodyError::Contradiction("the XML body is not valid UTF-8".to_owned()))?;
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Element> = Vec::new();
    let mut root = None;
    let mut elements = 0;
    loop {
        match reader.read_event().map_err(|error| BodyError::Doubt(format!("the body is not XML: {error}")))? {
            Event::Start(start) => {
                elements += 1;
                if open.len() >= DEPTH_LIMIT || elements > ELEMENT_LIMIT || root.is_some() {
                    return Err(doubt("the XML body has too many elements, or more than one root"));
                }
                open.push(element(&start)?);
            }
            Event::Empty(start) => {
                elements += 1;
                if elements > ELEMENT_LIMIT || root.is_some() {
                    return Err(doubt("the XML body has too many elements, or more than one root"));
                }
                close(element(&start)?, &mut open, &mut root);
            }
            Event::End(_) => {
                let element = open.pop().ok_or_else(|| doubt("the XML body ends an element that is not open"))?;
                close(element, &mut open, &mut root);
            }
            Event::Text(text) => push_text(&text, &mut open)?,
            Event::CData(text) => push_text(&text, &mut open)?,
            Event::GeneralRef(reference) => {
                let character = match reference.resolve_char_ref() {
                    Ok(Some(character)) => character,
                    _ => predefined(&reference)
                        .ok_or_else(|| doubt("the XML body refers to an entity that is not predefined"))?,
                };
                push_text(character.encode_utf8(&mut [0; 4]), &mut open)?;
            }
            Event::DocType(_) => return Err(BodyError::Contradiction("the XML body has a DTD".to_owned())),
            Event::Decl(declaration) => {
                let encoding = declaration.encoding().and_then(Result::ok);
                if encoding.is_some_and(|name| !name.eq_ignore_ascii_case("utf-8")) {
                    return Err(BodyError::Contradiction(
                        "the XML body declares an encoding other than UTF-8".to_owned(),
                    ));
                }
            }
            Event::Comment(_) | Event::PI(_) => {
                return Err(doubt("the XML body has a comment or a processing instruction"));
            }
            Event::Eof => break,
        }
    }
    root.filter(|_| open.is_empty()).ok_or_else(|| doubt("the XML body is not one whole element"))
}

/// Reads the members of a structure that travel in the body into `reading`.
pub(crate) fn read_members(service: &Service, members: &[Member], root: Element, reading: &mut Reading) {
    let parameters = read_structure(service, members, root, 0, reading);
    reading.parameters.extend(parameters);
}

/// Reads an element as a structure of that shape.
pub(crate) fn read_value(service: &Service, shape: usize, element: Element, reading: &mut Reading) -> Option<Value> {
    read(service, shape, element, 0, reading)
}

fn read(service: &Service, shape: usize, element: Element, depth: usize, reading: &mut Reading) -> Option<Value> {
    if depth > DEPTH_LIMIT {
        reading.doubt("the XML body is nested too deeply");
        return None;
    }
    match service.shape(shape) {
        Shape::Structure(members) => Some(Value::Object(read_structure(service, members, element, depth, reading))),
        Shape::List { element: shape, element_name, .. } => {
            let name = element_name.unwrap_or("member");
            let mut items = Vec::with_capacity(element.children.len());
            for child in element.children {
                if child.name == name {
                    items.extend(read(service, *shape, child, depth + 1, reading));
                } else {
                    reading.doubt(unmodelled(&child.name));
                }
            }
            Some(Value::Array(items))
        }
        Shape::Map { value, key_name, value_name, is_flat } => {
            let names = (key_name.unwrap_or("key"), value_name.unwrap_or("value"));
            let mut object = Map::new();
            let entries = if *is_flat { vec![element] } else { element.children };
            for entry in entries {
                let (mut key, mut item) = (None, None);
                for child in entry.children {
                    if child.name == names.0 {
                        key = Some(child.text);
                    } else if child.name == names.1 {
                        item = read(service, *value, child, depth + 1, reading);
                    } else {
                        reading.doubt(unmodelled(&child.name));
                    }
                }
                match (key, item) {
                    (Some(key), Some(item)) if !object.contains_key(&key) => {
                        object.insert(key, item);
                    }
                    _ => reading.doubt("an XML map has an entry without key, or a key twice"),
                }
            }
            Some(Value::Object(object))
        }
        shape => {
            if !element.children.is_empty() {
                reading.doubt("an XML element has children where the model has text");
                return None;
            }
            let value = scalar(shape, &element.text);
            if value.is_none() {
                reading.doubt("an XML element has another type than the model says");
            }
            value
        }
    }
}

fn read_structure(
    service: &Service,
    members: &[Member],
    element: Element,
    depth: usize,
    reading: &mut Reading,
) -> Map<String, Value> {
    let mut object = Map::new();
    for (name, value) in element.attributes {
        match members.iter().find(|it| it.wire_name() == name) {
            Some(member) => {
                object.insert(member.name.to_owned(), Value::String(value));
            }
            None => reading.doubt(unmodelled(&name)),
        }
    }
    if !element.children.is_empty() && !element.text.trim().is_empty() {
        reading.doubt("an XML element has both text and children");
    }
    for child in element.children {
        let Some((member, is_item)) = member_for(service, members, &child.name) else {
            reading.doubt(unmodelled(&child.name));
            continue;
        };
        if is_item {
            let Shape::List { element: shape, .. } = service.shape(member.shape) else { continue };
            let item = read(service, *shape, child, depth + 1, reading);
            if let Value::Array(items) = object.entry(member.name).or_insert_with(|| Value::Array(Vec::new())) {
                items.extend(item);
            }
        } else if let Some(value) = read(service, member.shape, child, depth + 1, reading) {
            let is_flat_map = matches!(service.shape(member.shape), Shape::Map { is_flat: true, .. });
            match (object.get_mut(member.name), value) {
                (None, value) => {
                    object.insert(member.name.to_owned(), value);
                }
                (Some(Value::Object(there)), Value::Object(more)) if is_flat_map => there.extend(more),
                _ => reading.doubt("an XML element stands twice"),
            }
        }
    }
    object
}

/// The member an element stands for, and whether the element is one item of a flat list.
fn member_for<'m>(service: &Service, members: &'m [Member], name: &str) -> Option<(&'m Member, bool)> {
    members.iter().filter(|it| it.location == Location::Body).find_map(|member| {
        match service.shape(member.shape) {
            Shape::List { element_name, is_flat, .. } if *is_flat || member.is_flat => {
                // The member's own name counts first; models spell most flat lists with it.
                (member.wire_name() == name || *element_name == Some(name)).then_some((member, true))
            }
            _ => (member.wire_name() == name).then_some((member, false)),
        }
    })
}

fn element(start: &BytesStart<'_>) -> Result<Element, BodyError> {
    let mut attributes = Vec::new();
    for attribute in start.attributes() {
        let attribute =
            attribute.map_err(|_| BodyError::Contradiction("the XML body has a malformed attribute".to_owned()))?;
        let name = attribute.key.as_ref().to_owned();
        if name != "xmlns" && !name.starts_with("xmlns:") {
            let value = attribute.value.into_owned();
            if value.contains('&') {
                return Err(BodyError::Doubt("an XML attribute holds an entity".to_owned()));
            }
            attributes.push((name, value));
        }
    }
    Ok(Element { name: start.name().as_ref().to_owned(), attributes, ..Element::default() })
}

fn close(element: Element, open: &mut [Element], root: &mut Option<Element>) {
    match open.last_mut() {
        Some(parent) => parent.children.push(element),
        None => *root = Some(element),
    }
}

fn push_text(text: &str, open: &mut [Element]) -> Result<(), BodyError> {
    match open.last_mut() {
        Some(element) => element.text.push_str(text),
        None if text.trim_matches([' ', '\t', '\r', '\n', '\u{feff}']).is_empty() => {}
        None => return Err(BodyError::Doubt("the XML body has text outside its root".to_owned())),
    }
    Ok(())
}

fn predefined(name: &str) -> Option<char> {
    Some(match name {
        "amp" => '&',
        "apos" => '\'',
        "gt" => '>',
        "lt" => '<',
        "quot" => '"',
        _ => return None,
    })
}

fn unmodelled(name: &str) -> String {
    format!("the XML body has an element that is not modelled: `{}`", name.chars().take(64).collect::<String>())
}
