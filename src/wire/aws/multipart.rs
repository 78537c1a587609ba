//! The fields of a `multipart/form-data` body up to its file: an upload to S3 by a browser's form.
//!
//! S3 ignores what stands behind the file, so nothing behind it is read. What two readers of RFC 7578
//! could take differently (a field twice, text before the first boundary, an escape in a name) is a
//! contradiction.

use memchr::memmem;

use super::BodyError;

/// The fields in the order sent, and the file's name.
#[derive(Debug)]
pub(crate) struct Form<'b> {
    pub(crate) fields: Vec<(&'b str, &'b str)>,
    /// As the client calls its file; `None` where it does not say.
    pub(crate) file_name: Option<&'b str>,
}

/// Reads the fields.
///
/// # Errors
/// `Contradiction` where there are two readings, `Doubt` where there is no file or more than a form has.
pub(crate) fn parse<'b>(content_type: &str, body: &'b [u8]) -> Result<Form<'b>, BodyError> {
    let boundary = boundary(content_type)?;
    let (first, between) = (format!("--{boundary}\r\n"), format!("\r\n--{boundary}"));
    let between = memmem::Finder::new(&between);
    let mut rest =
        body.strip_prefix(first.as_bytes()).ok_or(contradiction("the form does not begin with its boundary"))?;
    let mut fields: Vec<(&str, &str)> = Vec::new();
    loop {
        let end = memmem::find(rest.get(..HEAD_LIMIT).unwrap_or(rest), b"\r\n\r\n");
        let end = end.ok_or(contradiction("a part of the form has no end of its head"))?;
        let (head, content) = (rest.get(..end).unwrap_or_default(), rest.get(end + 4..).unwrap_or_default());
        let part = part(text(head)?)?;
        if part.name.eq_ignore_ascii_case("file") {
            return Ok(Form { fields, file_name: part.file_name });
        }
        if part.file_name.is_some() {
            return Err(contradiction("a part that is not the file has a file's name"));
        }
        let end = between.find(content).ok_or(contradiction("a part of the form has no end"))?;
        if fields.iter().any(|(name, _)| name.eq_ignore_ascii_case(part.name)) {
            return Err(contradiction("the form has the same field twice"));
        }
        if fields.len() == FIELD_LIMIT {
            return Err(BodyError::Doubt("the form has more fields than are looked at".to_owned()));
        }
        fields.push((part.name, text(content.get(..end).unwrap_or_default())?));
        rest = match content.get(end + between.needle().len()..).unwrap_or_default() {
            [b'\r', b'\n', rest @ ..] => rest,
            [b'-', b'-', ..] => return Err(BodyError::Doubt("the form has no file".to_owned())),
            _ => return Err(contradiction("the form holds its boundary in a part")),
        };
    }
}

fn boundary(content_type: &str) -> Result<&str, BodyError> {
    let mut found = None;
    for parameter in content_type.split(';').skip(1) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if name.trim().eq_ignore_ascii_case("boundary") && found.replace(value.trim()).is_some() {
            return Err(contradiction("the content type has two boundaries"));
        }
    }
    let quoted = found.unwrap_or_default();
    let boundary = quoted.strip_prefix('"').and_then(|it| it.strip_suffix('"')).unwrap_or(quoted);
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(&b);
    if !(1..=70).contains(&boundary.len()) || !boundary.bytes().all(is_plain) {
        return Err(contradiction("the content type has no boundary, or a malformed one"));
    }
    Ok(boundary)
}

struct Part<'b> {
    name: &'b str,
    file_name: Option<&'b str>,
}

fn part(head: &str) -> Result<Part<'_>, BodyError> {
    let mut disposition = None;
    for line in head.split("\r\n") {
        let (name, value) = line.split_once(':').ok_or(contradiction("a part's head has a malformed line"))?;
        match () {
            () if name.eq_ignore_ascii_case("content-disposition") && disposition.is_none() => {
                disposition = Some(value)
            }
            () if name.eq_ignore_ascii_case("content-type") => {}
            () => return Err(contradiction("a part's head has a field that no form needs, or one twice")),
        }
    }
    let rest = disposition.and_then(|it| it.trim_start_matches(' ').strip_prefix("form-data"));
    let mut rest = rest.ok_or(contradiction("a part of the form has no name"))?;
    let (mut name, mut file_name) = (None, None);
    while let Some(parameter) = rest.strip_prefix(';') {
        let parameter = parameter.trim_start_matches(' ');
        let (key, value) = parameter.split_once("=\"").ok_or(contradiction("a part's name is not quoted"))?;
        let (value, behind) = value.split_once('"').ok_or(contradiction("a part's name does not end"))?;
        let slot = match key {
            "name" => &mut name,
            "filename" => &mut file_name,
            _ => return Err(contradiction("a part of the form has an unknown parameter")),
        };
        if slot.replace(value).is_some() || value.contains(['\\', '\r', '\n']) {
            return Err(contradiction("a part of the form has two names, or an escape in its name"));
        }
        rest = behind;
    }
    match (name, rest.trim_end_matches(' ')) {
        (Some(name), "") if !name.is_empty() => Ok(Part { name, file_name }),
        _ => Err(contradiction("a part of the form has no name")),
    }
}

fn text(bytes: &[u8]) -> Result<&str, BodyError> {
    str::from_utf8(bytes).map_err(|_| contradiction("a field of the form is not valid UTF-8"))
}

fn contradiction(why: &str) -> BodyError {
    BodyError::Contradiction(why.to_owned())
}

/// Largest head of a part, in bytes.
const HEAD_LIMIT: usize = 4096;
/// More fields than any form has.
const FIELD_LIMIT: usize = 256;
