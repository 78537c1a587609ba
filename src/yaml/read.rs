//! Typed reading that goes on after a mistake, so that one run shows them all.
//!
//! ```text
//! let problems = Problems::new(source);
//! if let Some(mut fields) = Fields::read(&root, "the configuration", &problems) {
//!     let listen = fields.text("listen").unwrap_or("127.0.0.1:8080");
//!     let wait = fields.typed("wait", Node::duration).unwrap_or(DEFAULT_WAIT);
//!     fields.finish();                      // reports every key that nobody asked for
//! }
//! problems.into_result()?;
//! ```
//!
//! A reader returns `None` both for an absent field and for one that was wrong; the latter is
//! reported, and then the whole file is refused, so a default taken meanwhile never takes effect.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::time::Duration;

use super::diagnostic::{Diagnostic, Severity, nearest};
use super::{Entry, Kind, Node, Source, Span, Style};

/// Most findings of one file that are kept; each costs a walk through the file to find its line.
const MOST_FINDINGS: usize = 200;

/// The findings of one file, as they collect.
#[derive(Debug)]
pub(crate) struct Problems {
    source: Source,
    found: RefCell<Vec<Diagnostic>>,
}

impl Problems {
    pub(crate) fn new(source: Source) -> Self {
        Self { source, found: RefCell::new(Vec::new()) }
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    pub(crate) fn push(&self, diagnostic: Diagnostic) {
        let mut found = self.found.borrow_mut();
        match found.len().cmp(&MOST_FINDINGS) {
            Ordering::Less => found.push(diagnostic),
            Ordering::Equal => found.push(Diagnostic::file(self.source.name(), "more is wrong than is shown")),
            Ordering::Greater => {}
        }
    }

    /// Nothing more will be shown: reading on is of no use.
    pub(crate) fn is_full(&self) -> bool {
        self.found.borrow().len() > MOST_FINDINGS
    }

    /// Reports an error without label or help.
    pub(crate) fn error(&self, span: Span, message: impl Into<String>) {
        self.push(Diagnostic::error(&self.source, span, message));
    }

    /// Everything found, in the order of the file.
    pub(crate) fn into_vec(self) -> Vec<Diagnostic> {
        let mut found = self.found.into_inner();
        found.sort_by(|a, b| a.place().cmp(&b.place()));
        found
    }

    /// # Errors
    /// Everything found, when any of it is an error.
    pub(crate) fn into_result(self) -> Result<(), Vec<Diagnostic>> {
        let found = self.into_vec();
        if found.iter().any(|diagnostic| diagnostic.severity() == Severity::Error) { Err(found) } else { Ok(()) }
    }
}

/// A mapping being read. Each accessor marks its key as known; [`Fields::finish`] reports the rest.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    problems: &'a Problems,
    entries: &'a [Entry],
    span: Span,
    what: &'static str,
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// `what` names the mapping in messages: `a rule`. Reports a node that is no mapping; nothing
    /// at all counts as an empty one.
    pub(crate) fn read(node: &'a Node, what: &'static str, problems: &'a Problems) -> Option<Self> {
        let entries = match &node.kind {
            Kind::Map(entries) => entries.as_slice(),
            _ if node.is_null() => &[],
            _ => {
                problems.error(node.span, format!("{what} must be a mapping, not {}", node.noun()));
                return None;
            }
        };
        Some(Self { problems, entries, span: node.span, what, known: Vec::new() })
    }

    pub(crate) fn problems(&self) -> &'a Problems {
        self.problems
    }

    /// The whole entry of a key; `None` when absent or null.
    pub(crate) fn entry(&mut self, key: &'static str) -> Option<&'a Entry> {
        self.known.push(key);
        self.entries.iter().find(|entry| entry.key == key && !entry.value.is_null())
    }

    pub(crate) fn node(&mut self, key: &'static str) -> Option<&'a Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// Reports the key when it is absent.
    pub(crate) fn required(&mut self, key: &'static str) -> Option<&'a Node> {
        let node = self.node(key);
        if node.is_none() {
            let place = self.entries.iter().find(|entry| entry.key == key).or(self.entries.first());
            let span = place.map_or(self.span, |entry| entry.key_span);
            self.problems.error(span, format!("{} needs `{key}`", self.what));
        }
        node
    }

    /// A field of a type that has its own reader.
    pub(crate) fn typed<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&'a Node, &'a Problems) -> Option<T>,
    ) -> Option<T> {
        let problems = self.problems;
        self.node(key).and_then(|node| read(node, problems))
    }

    pub(crate) fn text(&mut self, key: &'static str) -> Option<&'a str> {
        self.typed(key, Node::text)
    }

    pub(crate) fn integer(&mut self, key: &'static str, lowest: u64, highest: u64) -> Option<u64> {
        self.typed(key, |node, problems| node.integer(problems, lowest, highest))
    }

    /// A list of texts; one text alone is a list of one.
    pub(crate) fn texts(&mut self, key: &'static str) -> Option<Vec<&'a str>> {
        self.typed(key, |node, problems| node.list_of(problems, Node::text))
    }

    /// Reports every key that was not asked for. Call it when all fields have been read.
    pub(crate) fn finish(self) {
        for entry in self.entries.iter().filter(|entry| !self.known.contains(&entry.key.as_str())) {
            let mut diagnostic =
                Diagnostic::error(&self.problems.source, entry.key_span, format!("unknown key `{}`", entry.key));
            let absent = |key: &&str| !self.entries.iter().any(|entry| entry.key == *key);
            if let Some(near) = nearest(&entry.key, self.known.iter().copied().filter(absent)) {
                diagnostic = diagnostic.label(format!("did you mean `{near}`?"));
            }
            let mut known = self.known.clone();
            known.sort_unstable();
            known.dedup();
            self.problems.push(diagnostic.help(format!("{} knows: {}", self.what, known.join(", "))));
        }
    }
}

impl Node {
    /// The text of a scalar as written, whatever it looks like; not empty.
    pub(crate) fn text<'a>(&'a self, problems: &Problems) -> Option<&'a str> {
        match &self.kind {
            Kind::Scalar { text, .. } if !self.is_null() && !text.trim().is_empty() => Some(text),
            _ => self.wrong(problems, "text", &[]),
        }
    }

    pub(crate) fn boolean(&self, problems: &Problems) -> Option<bool> {
        match &self.kind {
            Kind::Scalar { text, style: Style::Plain } if text == "true" => Some(true),
            Kind::Scalar { text, style: Style::Plain } if text == "false" => Some(false),
            _ => self.wrong(problems, "`true` or `false`", &["only these two spellings are read, without quotes"]),
        }
    }

    /// A whole number in decimal, `lowest..=highest`.
    pub(crate) fn integer(&self, problems: &Problems, lowest: u64, highest: u64) -> Option<u64> {
        let number =
            self.plain().filter(|text| text.bytes().all(|b| b.is_ascii_digit())).and_then(|text| text.parse().ok());
        match number {
            Some(number) if (lowest..=highest).contains(&number) => Some(number),
            _ if highest == u64::MAX => self.wrong(problems, &format!("a whole number from {lowest}"), &[]),
            _ => self.wrong(problems, &format!("a whole number from {lowest} to {highest}"), &[]),
        }
    }

    /// A number with a unit: `500ms`, `90s`, `15m`, `2h`, `1d`; not zero.
    pub(crate) fn duration(&self, problems: &Problems) -> Option<Duration> {
        const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
        match self.with_unit(&UNITS) {
            Some(millis) if millis > 0 => Some(Duration::from_millis(millis)),
            _ => self.wrong(problems, "a duration such as `90s`, `15m` or `2h`", &["units: ms, s, m, h, d"]),
        }
    }

    /// Bytes with a unit: `512B`, `64KiB`, `10MiB`, `1GiB`.
    pub(crate) fn size(&self, problems: &Problems) -> Option<u64> {
        const UNITS: [(&str, u64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)];
        self.with_unit(&UNITS)
            .or_else(|| self.wrong(problems, "a size such as `64KiB` or `10MiB`", &["units: B, KiB, MiB, GiB"]))
    }

    /// Each item of a list, or the value itself when it is no list. Items that are wrong are
    /// reported and left out; an empty list is reported.
    pub(crate) fn list_of<'a, T>(
        &'a self,
        problems: &'a Problems,
        read: impl Fn(&'a Node, &'a Problems) -> Option<T>,
    ) -> Option<Vec<T>> {
        match &self.kind {
            Kind::List(items) if items.is_empty() => self.wrong(problems, "at least one item", &[]),
            Kind::List(items) => Some(items.iter().filter_map(|item| read(item, problems)).collect()),
            _ => read(self, problems).map(|one| vec![one]),
        }
    }

    /// One of several words, case as given; near misses are named.
    pub(crate) fn one_of<T: Copy>(&self, problems: &Problems, what: &str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(problems)?;
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == text) {
            return Some(*choice);
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let mut diagnostic = Diagnostic::error(&problems.source, self.span, format!("unknown {what} `{text}`"))
            .help(format!("one of: {}", names.join(", ")));
        if let Some(near) = nearest(text, names) {
            diagnostic = diagnostic.label(format!("did you mean `{near}`?"));
        }
        problems.push(diagnostic);
        None
    }

    fn plain(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, style: Style::Plain } => Some(text),
            _ => None,
        }
    }

    fn with_unit(&self, units: &[(&str, u64)]) -> Option<u64> {
        let text = self.plain()?;
        let digits = text.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = text.split_at_checked(digits)?;
        let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
        number.parse::<u64>().ok()?.checked_mul(*factor)
    }

    fn wrong<T>(&self, problems: &Problems, wanted: &str, help: &[&str]) -> Option<T> {
        let diagnostic =
            Diagnostic::error(&problems.source, self.span, format!("expected {wanted}, found {}", self.noun()));
        problems.push(help.iter().fold(diagnostic, |diagnostic, line| diagnostic.help(*line)));
        None
    }
}
