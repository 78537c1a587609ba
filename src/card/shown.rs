//! Text from outside, so that all of it can be seen.

use std::fmt::Write;

use crate::digest::sha256;

/// Text in which each character can be seen and none moves another: control, format (also
/// bidirectional), unassigned, combining and blank-looking characters become `\u{…}`, and a
/// backslash becomes two, so that an escape cannot be faked.
pub(crate) fn visible(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, character| {
        match character {
            '\\' => shown.push_str("\\\\"),
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            c if is_hidden(c) => push(&mut shown, format_args!("\\u{{{:x}}}", u32::from(c))),
            c => shown.push(c),
        }
        shown
    })
}

/// A name (of an action, a resource, a host…) in which also every letter outside ASCII is escaped:
/// `аdmin` with a Cyrillic first letter must not look like `admin`.
pub(super) fn plain(name: &str) -> String {
    visible(name).chars().fold(String::with_capacity(name.len()), |mut shown, character| {
        if character.is_ascii() {
            shown.push(character);
        } else {
            push(&mut shown, format_args!("\\u{{{:x}}}", u32::from(character)));
        }
        shown
    })
}

pub(super) fn is_hidden(character: char) -> bool {
    // The standard library's printability and grapheme tables say what `Debug` escapes; quotes and
    // the backslash are escaped there for another reason. The rest are letters and symbols by
    // category that show as nothing.
    const BLANK: [char; 5] = ['\u{115f}', '\u{1160}', '\u{2800}', '\u{3164}', '\u{ffa0}'];
    BLANK.contains(&character)
        || (!matches!(character, '\'' | '"' | '\\') && character.escape_debug().next() == Some('\\'))
}

/// Escapes what [`visible`] would hide, in JSON's own spelling (`\u202e`); line feeds stay.
pub(crate) fn escaped_json(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, character| {
        if character != '\n' && is_hidden(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                push(&mut shown, format_args!("\\u{unit:04x}"));
            }
        } else {
            shown.push(character);
        }
        shown
    })
}

/// The beginning and the end of a text over `limit_bytes`, and between them what is missing.
pub(super) fn elided(text: &str, limit_bytes: usize, elisions: &mut usize) -> String {
    if text.len() <= limit_bytes {
        return text.to_owned();
    }
    *elisions += 1;
    let head = text.get(..text.floor_char_boundary(limit_bytes / 2)).unwrap_or_default();
    let tail = text.get(text.ceil_char_boundary(text.len() - limit_bytes / 4)..).unwrap_or_default();
    let digest = sha256(text.as_bytes());
    format!("{head} [... shortened: {} bytes, sha256 {digest} ...] {tail}", text.len())
}

pub(super) fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).unwrap_or(()); // Writing to a String cannot fail.
}
