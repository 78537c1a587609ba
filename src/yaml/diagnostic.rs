//! What is wrong, where, and what to do about it.

use std::fmt;
use std::sync::Arc;

use super::{Source, Span};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, but says something its author can hardly mean.
    Warning,
}

/// One finding at one place. `Display` is the whole text with the source line and a caret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Diagnostic(Box<Finding>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    severity: Severity,
    file: Arc<str>,
    /// Line and column, from 1; line 0 for a finding about the file as a whole.
    line: usize,
    column: usize,
    /// The source line up to its end, and how many characters of it are underlined.
    source_line: String,
    width: usize,
    message: String,
    label: String,
    help: Vec<String>,
}

impl Diagnostic {
    pub(crate) fn error(source: &Source, span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, source, span, message.into())
    }

    pub(crate) fn warning(source: &Source, span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, source, span, message.into())
    }

    /// An error about a file as a whole: it cannot be read, it is missing.
    pub(crate) fn file(name: &str, message: impl Into<String>) -> Self {
        Self(Box::new(Finding {
            severity: Severity::Error,
            file: Arc::from(name),
            line: 0,
            column: 0,
            source_line: String::new(),
            width: 0,
            message: message.into(),
            label: String::new(),
            help: Vec::new(),
        }))
    }

    /// Words beside the caret.
    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.0.label = label.into();
        self
    }

    /// Adds a line that says what to do.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.0.help.push(help.into());
        self
    }

    pub(crate) fn severity(&self) -> Severity {
        self.0.severity
    }

    /// File, line and column, to sort findings by place.
    pub(crate) fn place(&self) -> (&str, usize, usize) {
        (&self.0.file, self.0.line, self.0.column)
    }

    /// The first line alone, for logs: `rules/a.yaml:12:7: error: unknown key`.
    pub(crate) fn headline(&self) -> String {
        let Finding { file, line, column, message, .. } = &*self.0;
        let severity = match self.0.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        match line {
            0 => format!("{file}: {severity}: {message}"),
            _ => format!("{file}:{line}:{column}: {severity}: {message}"),
        }
    }

    fn new(severity: Severity, source: &Source, span: Span, message: String) -> Self {
        let text = source.text();
        let start = floor_boundary(text, span.start);
        let (line, column) = source.position(start);
        let line_start = text.get(..start).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
        let line_end = text.get(start..).and_then(|rest| rest.find('\n')).map_or(text.len(), |at| start + at);
        let end = floor_boundary(text, span.end).clamp(start, line_end);
        let width = text.get(start..end).map_or(0, |covered| covered.trim_end().chars().count());
        Self(Box::new(Finding {
            severity,
            file: Arc::from(source.name()),
            line,
            column,
            source_line: text.get(line_start..line_end).unwrap_or_default().trim_end().to_owned(),
            width: width.max(1),
            message,
            label: String::new(),
            help: Vec::new(),
        }))
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { line, column, source_line, width, label, help, .. } = &*self.0;
        f.write_str(&self.headline())?;
        let gutter = line.to_string().len();
        if *line > 0 {
            let (shown, before, width) = window(source_line, column - 1, *width);
            let label = if label.is_empty() { String::new() } else { format!(" {label}") };
            write!(f, "\n{:gutter$} |", "")?;
            write!(f, "\n{line} | {shown}")?;
            write!(f, "\n{:gutter$} | {:before$}{}{label}", "", "", "^".repeat(width))?;
        }
        for help in help {
            write!(f, "\n{:gutter$} = help: {help}", "")?;
        }
        Ok(())
    }
}

/// All findings as one text, one blank line between two, ending with a line feed; empty for none.
pub(crate) fn render(diagnostics: &[Diagnostic]) -> String {
    let mut text = String::new();
    for diagnostic in diagnostics {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&diagnostic.to_string());
        text.push('\n');
    }
    text
}

/// The candidate that was most probably meant by `word`.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    near_misses(word, candidates, 1).into_iter().next()
}

/// Up to `limit` candidates that `word` may be a slip of, the nearest first.
pub(crate) fn near_misses<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>, limit: usize) -> Vec<&'a str> {
    let lowered = word.to_lowercase();
    let farthest = (word.chars().count() / 3).clamp(1, 3);
    let mut near: Vec<(usize, &str)> = candidates
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(word.len()) <= farthest)
        .map(|candidate| (strsim::damerau_levenshtein(&lowered, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= farthest)
        .collect();
    near.sort();
    near.dedup();
    near.into_iter().take(limit).map(|(_, candidate)| candidate).collect()
}

/// At most 60 characters of a text, for use inside a message.
pub(super) fn shortened(text: &str) -> String {
    let one_line = text.lines().next().unwrap_or_default();
    if one_line.len() == text.len() && text.chars().count() <= 60 {
        return text.to_owned();
    }
    one_line.chars().take(59).chain(['…']).collect()
}

/// The part of a long line around what is underlined: the text to show, the spaces before the
/// caret, and the caret's width. Tabs count as one column; control characters are shown as `·`.
fn window(line: &str, column: usize, width: usize) -> (String, usize, usize) {
    const WIDEST: usize = 120;
    let clean = |c: char| {
        if c == '\t' {
            ' '
        } else if c.is_control() || super::parse::is_invisible(c) {
            '·'
        } else {
            c
        }
    };
    let characters: Vec<char> = line.chars().map(clean).collect();
    if characters.len() <= WIDEST {
        return (characters.into_iter().collect(), column, width);
    }
    let first = if column + width.min(60) <= WIDEST - 10 { 0 } else { column.saturating_sub(30) };
    let mut shown: String = if first > 0 { "…".to_owned() } else { String::new() };
    let before = column - first + shown.chars().count();
    shown.extend(characters.iter().skip(first).take(WIDEST));
    if first + WIDEST < characters.len() {
        shown.push('…');
    }
    let room = shown.chars().count().saturating_sub(before).max(1);
    (shown, before, width.min(room))
}

fn floor_boundary(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}
