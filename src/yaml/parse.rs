//! Text to one tree of nodes.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, StrInput};

use super::{Diagnostic, Entry, Kind, Node, Source, Span, Style};

/// Largest file that is read, in bytes: ten thousand generous rules.
const LARGEST_BYTES: usize = 16 << 20;
/// Deepest nesting of lists and mappings; nothing that is read here needs a third of it.
const DEEPEST: usize = 24;

/// Reads one document. An empty text is a null node.
///
/// # Errors
/// The first thing that is not YAML, or not of the subset: after it the rest cannot be trusted.
pub(crate) fn parse(source: &Source) -> Result<Node, Diagnostic> {
    let text = source.text();
    if text.len() > LARGEST_BYTES {
        return Err(Diagnostic::file(source.name(), format!("larger than {LARGEST_BYTES} bytes"))
            .help("split it into several files"));
    }
    if let Some((at, character)) = text.char_indices().find(|(_, c)| is_refused(*c)) {
        let span = Span { start: at, end: at + character.len_utf8() };
        return Err(Diagnostic::error(source, span, format!("invisible character U+{:04X}", u32::from(character)))
            .label("remove it, or write it as an escape in double quotes")
            .help("such characters make a file read differently from what it means"));
    }
    Tree { source, offsets: Offsets::of(text), open: Vec::new(), root: None }.build()
}

/// Formatting characters that show nothing, or change the order in which their neighbours show.
pub(super) fn is_invisible(character: char) -> bool {
    matches!(character, '\u{85}' | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

fn is_refused(character: char) -> bool {
    (character.is_control() && !matches!(character, '\n' | '\r' | '\t')) || is_invisible(character)
}

/// The parser counts characters; places are kept in bytes.
struct Offsets(Option<Vec<usize>>);

impl Offsets {
    fn of(text: &str) -> Self {
        Self((!text.is_ascii()).then(|| text.char_indices().map(|(at, _)| at).chain([text.len()]).collect()))
    }

    fn byte(&self, index: usize) -> usize {
        match &self.0 {
            Some(offsets) => offsets.get(index).or(offsets.last()).copied().unwrap_or(0),
            None => index,
        }
    }
}

/// A list or mapping whose end has not come yet.
struct Open {
    start: usize,
    contents: Contents,
}

enum Contents {
    List(Vec<Node>),
    /// The key that waits for its value, and where each key was first used.
    Map {
        entries: Vec<Entry>,
        key: Option<(String, Span)>,
        seen: HashMap<String, Span>,
    },
}

struct Tree<'a> {
    source: &'a Source,
    offsets: Offsets,
    open: Vec<Open>,
    root: Option<Node>,
}

impl<'a> Tree<'a> {
    fn build(mut self) -> Result<Node, Diagnostic> {
        let mut parser: Parser<'a, StrInput<'a>> = Parser::new_from_str(self.source.text());
        let mut documents = 0;
        while let Some(event) = parser.next_event() {
            let (event, marks) = event.map_err(|error| self.explain(&error))?;
            let span =
                Span { start: self.offsets.byte(marks.start.index()), end: self.offsets.byte(marks.end.index()) };
            if let Event::DocumentStart(_) = event {
                documents += 1;
                if documents > 1 {
                    return Err(self
                        .error(span, "a second document")
                        .help("one file holds one document: remove the `---`"));
                }
                continue;
            }
            self.take(event, span)?;
        }
        Ok(self
            .root
            .unwrap_or(Node { span: Span::default(), kind: Kind::Scalar { text: String::new(), style: Style::Plain } }))
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Diagnostic> {
        match event {
            Event::Alias(_) => Err(self.alias(span)),
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_properties(span, anchor, tag.is_some())?;
                let kind = Kind::Scalar { text: text.into_owned(), style: style_of(style) };
                self.place(Node { span, kind })
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_properties(span, anchor, tag.is_some())?;
                self.begin(span, Contents::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_properties(span, anchor, tag.is_some())?;
                self.begin(span, Contents::Map { entries: Vec::new(), key: None, seen: HashMap::new() })
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                Ok(())
            }
        }
    }

    fn begin(&mut self, span: Span, contents: Contents) -> Result<(), Diagnostic> {
        if self.open.len() >= DEEPEST {
            return Err(self.error(span, format!("nested deeper than {DEEPEST} levels")));
        }
        if matches!(self.open.last(), Some(Open { contents: Contents::Map { key: None, .. }, .. })) {
            return Err(self.error(span, "a key must be text").help("put text that starts with `[` or `{` in quotes"));
        }
        self.open.push(Open { start: span.start, contents });
        Ok(())
    }

    fn end(&mut self, closed_at: Span) -> Result<(), Diagnostic> {
        let Some(Open { start, contents }) = self.open.pop() else { return Ok(()) };
        let last_end = |node: Option<&Node>| node.map_or(closed_at.end, |node| node.span.end.max(start));
        let (end, kind) = match contents {
            Contents::List(items) => (last_end(items.last()), Kind::List(items)),
            Contents::Map { entries, .. } => (last_end(entries.last().map(|entry| &entry.value)), Kind::Map(entries)),
        };
        self.place(Node { span: Span { start, end }, kind })
    }

    /// Puts a finished node where it belongs: into the innermost open collection.
    fn place(&mut self, node: Node) -> Result<(), Diagnostic> {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.contents {
            Contents::List(items) => items.push(node),
            Contents::Map { entries, key, .. } if key.is_some() => {
                if let Some((key, key_span)) = key.take() {
                    entries.push(Entry { key, key_span, value: node });
                }
            }
            Contents::Map { key, seen, .. } => {
                let span = node.span;
                let Kind::Scalar { text, style } = node.kind else { return Ok(()) };
                if style == Style::Plain && text == "<<" {
                    return Err(self.error(span, "merge keys are not supported").help("write the members out"));
                }
                if let Some(&first) = seen.get(&text) {
                    let (line, _) = self.source.position(first.start);
                    return Err(self
                        .error(span, format!("key `{text}` is given twice"))
                        .label(format!("first given on line {line}")));
                }
                seen.insert(text.clone(), span);
                *key = Some((text, span));
            }
        }
        Ok(())
    }

    fn refuse_properties(&self, span: Span, anchor: usize, tagged: bool) -> Result<(), Diagnostic> {
        if tagged {
            return Err(self.error(span, "tags are not supported").help("put text that starts with `!` in quotes"));
        }
        if anchor != 0 {
            return Err(self.error(span, "anchors are not supported").help("put text that starts with `&` in quotes"));
        }
        Ok(())
    }

    fn alias(&self, span: Span) -> Diagnostic {
        let quoted = format!("\"{}\"", self.source.slice(span).trim_end());
        self.error(span, "aliases are not supported")
            .label(if quoted.len() < 60 { format!("for a glob write {quoted}") } else { String::new() })
            .help("text that starts with `*` must be in quotes")
    }

    fn error(&self, span: Span, message: impl Into<Cow<'static, str>>) -> Diagnostic {
        Diagnostic::error(self.source, span, message.into())
    }

    /// Adds to the parser's own words the slip that usually causes them.
    fn explain(&self, error: &ScanError) -> Diagnostic {
        let at = self.offsets.byte(error.marker().index());
        let text = self.source.text();
        let rest = text.get(at..).unwrap_or_default();
        let span = Span { start: at, end: at + rest.chars().next().map_or(0, char::len_utf8) };
        let line = text.get(..at).unwrap_or_default().lines().last().unwrap_or_default();
        if rest.starts_with('*') || error.info().contains("unknown anchor") {
            let end = rest.find(|c: char| c.is_whitespace() || ",]}".contains(c)).map_or(text.len(), |len| at + len);
            return self.alias(Span { start: at, end });
        }
        let diagnostic = self.error(span, error.info().to_owned());
        if rest.starts_with('\t') || line.starts_with('\t') {
            return diagnostic.help("indent with spaces, never with tabs");
        }
        if error.info().contains("mapping values are not allowed") {
            return diagnostic.help("text that holds `: ` must be in quotes, or stand below `|`");
        }
        if rest.starts_with(['@', '%', '`']) {
            return diagnostic.help("put text that starts with `@`, `%` or a back-quote in quotes");
        }
        if error.info().contains("unexpected end of stream") {
            return diagnostic.label("opened here and never closed");
        }
        if line.contains(['"', '\'']) {
            return diagnostic
                .help("after a closing quote the value is over: put the whole value in the other kind of quotes, or below `|`");
        }
        diagnostic
    }
}

fn style_of(style: ScalarStyle) -> Style {
    match style {
        ScalarStyle::Plain => Style::Plain,
        ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Style::Quoted,
        ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
    }
}
