//! A mapping that is read and written down at the same time: each key that is asked for becomes a
//! line of `config show` with its value and its origin, so that none can be missing there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::yaml::{Diagnostic, Entry, Fields, Kind, Node, Problems, Source, Span};

/// One mapping of the file, or its absence; then every key has its default.
pub(super) struct Page<'a> {
    fields: Option<Fields<'a>>,
    problems: &'a Problems,
    directory: &'a Path,
    shown: String,
    depth: usize,
}

impl<'a> Page<'a> {
    pub(super) fn new(root: &'a Node, problems: &'a Problems, directory: &'a Path) -> Self {
        let fields = Fields::read(root, "the configuration", problems);
        Self { fields, problems, directory, shown: String::new(), depth: 0 }
    }

    /// Reports the keys nobody asked for and gives the lines written so far.
    pub(super) fn finish(self) -> String {
        if let Some(fields) = self.fields {
            fields.finish();
        }
        self.shown
    }

    pub(super) fn problems(&self) -> &'a Problems {
        self.problems
    }

    /// A mapping under `key`; `what` names it in messages.
    pub(super) fn section<T>(&mut self, key: &'static str, what: &'static str, read: impl FnOnce(&mut Self) -> T) -> T {
        let node = self.node(key);
        self.shown.push_str(&format!("{:1$}{key}:\n", "", self.depth * 2));
        self.inner(node, what, read)
    }

    /// A mapping whose keys are names; each value is a mapping of its own.
    pub(super) fn named<T>(
        &mut self,
        key: &'static str,
        what: &'static str,
        read: impl Fn(&mut Self, &'a Entry) -> Option<T>,
    ) -> Vec<T> {
        let entries = self.entries(key);
        self.depth += 1;
        let read_one = |page: &mut Self, entry: &'a Entry| {
            page.shown.push_str(&format!("{:1$}{2}:\n", "", page.depth * 2, spelled(&entry.key)));
            page.inner(Some(&entry.value), what, |page| read(page, entry))
        };
        let read = entries.iter().filter_map(|entry| read_one(self, entry)).collect();
        self.depth -= 1;
        read
    }

    /// A mapping of names to single values.
    pub(super) fn pairs<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&'a Node, &'a Problems) -> Option<T>,
    ) -> Vec<(&'a str, T)> {
        let entries = self.entries(key);
        let mut pairs = Vec::new();
        for entry in entries {
            let written = entry.value.text(self.problems).map(spelled).unwrap_or_default();
            self.depth += 1;
            self.line(&spelled(&entry.key), &written, Some(&entry.value));
            self.depth -= 1;
            pairs.extend(read(&entry.value, self.problems).map(|value| (entry.key.as_str(), value)));
        }
        pairs
    }

    /// A mapping of names to lists of texts, each text read by `read`.
    pub(super) fn lists(&mut self, key: &'static str, mut read: impl FnMut(&str, &'a Node, &'a Problems, &str)) {
        for entry in self.entries(key) {
            let texts = entry.value.list_of(self.problems, |item, problems| Some((item, item.text(problems)?)));
            let texts = texts.unwrap_or_default();
            let spelled: Vec<_> = texts.iter().map(|(_, text)| spelled(text)).collect();
            self.depth += 1;
            self.line(&self::spelled(&entry.key), &format!("[{}]", spelled.join(", ")), Some(&entry.value));
            self.depth -= 1;
            for (item, text) in texts {
                read(&entry.key, item, self.problems, text);
            }
        }
    }

    /// A value that has a default.
    pub(super) fn value<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&'a Node, &'a Problems) -> Option<T>,
        spell: impl FnOnce(&T) -> String,
    ) -> T {
        let node = self.node(key);
        let value = node.and_then(|node| read(node, self.problems)).unwrap_or(default);
        self.line(key, &spell(&value), node);
        value
    }

    /// A text that may be absent.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&'a Node, &'a Problems) -> Option<T>,
    ) -> Option<T> {
        let node = self.node(key);
        let written = node.and_then(|node| node.text(self.problems));
        self.line(key, &written.map_or_else(|| "null".to_owned(), spelled), node);
        // A node that is no text was reported just now.
        written.and(node).and_then(|node| read(node, self.problems))
    }

    pub(super) fn duration(&mut self, key: &'static str, default: Duration) -> Duration {
        self.value(key, default, Node::duration, |duration| spelled_duration(*duration))
    }

    pub(super) fn size(&mut self, key: &'static str, default: u64) -> u64 {
        self.value(key, default, Node::size, |bytes| spelled_size(*bytes))
    }

    pub(super) fn boolean(&mut self, key: &'static str, default: bool) -> bool {
        self.value(key, default, Node::boolean, ToString::to_string)
    }

    pub(super) fn count(&mut self, key: &'static str, default: usize, highest: usize) -> usize {
        let read = |node: &Node, problems: &Problems| {
            node.integer(problems, 1, highest as u64).and_then(|count| usize::try_from(count).ok())
        };
        self.value(key, default, read, ToString::to_string)
    }

    /// A list of texts, each read by `read`.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        default: &[&str],
        read: impl Fn(&'a Node, &'a Problems, &str) -> Option<T>,
        of_default: impl Fn(&str) -> T,
    ) -> Vec<T> {
        let node = self.node(key);
        let written = node.and_then(|node| match &node.kind {
            Kind::List(items) if items.is_empty() => Some(Vec::new()),
            _ => node.list_of(self.problems, |item, problems| Some((item, item.text(problems)?))),
        });
        let texts = match &written {
            Some(items) => items.iter().map(|(_, text)| *text).collect(),
            None => default.to_vec(),
        };
        let spelled: Vec<_> = texts.iter().map(|text| spelled(text)).collect();
        self.line(key, &format!("[{}]", spelled.join(", ")), node);
        match written {
            Some(items) => items.into_iter().filter_map(|(item, text)| read(item, self.problems, text)).collect(),
            None => default.iter().map(|text| of_default(text)).collect(),
        }
    }

    /// A list of what is more than a text; none where nothing is said.
    pub(super) fn items<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&'a Node, &'a Problems) -> Option<T>,
        spell: impl Fn(&T) -> String,
    ) -> Vec<T> {
        let node = self.node(key).filter(|node| !matches!(&node.kind, Kind::List(items) if items.is_empty()));
        let items = node.and_then(|node| node.list_of(self.problems, read)).unwrap_or_default();
        let spelled: Vec<_> = items.iter().map(spell).collect();
        self.line(key, &format!("[{}]", spelled.join(", ")), node);
        items
    }

    pub(super) fn path(&mut self, key: &'static str, default: &str) -> PathBuf {
        let text = self.value(key, default.to_owned(), |n, p| n.text(p).map(str::to_owned), |text| spelled(text));
        self.resolve(&text)
    }

    /// A path as written, from the directory of the file.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.directory.join(path)
    }

    /// The entries of a mapping of names; writes its head line.
    fn entries(&mut self, key: &'static str) -> &'a [Entry] {
        let node = self.node(key);
        match node.map(|node| &node.kind) {
            Some(Kind::Map(entries)) if !entries.is_empty() => {
                self.shown.push_str(&format!("{:1$}{key}:\n", "", self.depth * 2));
                entries
            }
            kind => {
                if let (Some(node), false) = (node, matches!(kind, None | Some(Kind::Map(_)))) {
                    self.problems.error(node.span, format!("`{key}` must be a mapping of names, not {}", node.noun()));
                }
                self.line(key, "{}", node);
                &[]
            }
        }
    }

    /// Reports a finding at the value of `key`, or at the start of the file when it is the default.
    pub(super) fn report(
        &mut self,
        key: &'static str,
        finding: fn(&Source, Span, String) -> Diagnostic,
        message: &str,
        help: &str,
    ) {
        let span = self.node(key).map(|node| node.span).unwrap_or_default();
        self.problems.push(finding(self.problems.source(), span, message.to_owned()).help(help));
    }

    fn inner<T>(&mut self, node: Option<&'a Node>, what: &'static str, read: impl FnOnce(&mut Self) -> T) -> T {
        let mut page = Self {
            fields: node.and_then(|node| Fields::read(node, what, self.problems)),
            problems: self.problems,
            directory: self.directory,
            shown: String::new(),
            depth: self.depth + 1,
        };
        let value = read(&mut page);
        self.shown.push_str(&page.finish());
        value
    }

    fn node(&mut self, key: &'static str) -> Option<&'a Node> {
        self.fields.as_mut().and_then(|fields| fields.node(key))
    }

    fn line(&mut self, key: &str, value: &str, node: Option<&Node>) {
        let origin = node.map_or_else(
            || "default".to_owned(),
            |node| {
                let source = self.problems.source();
                let file = Path::new(source.name()).file_name().unwrap_or_default().to_string_lossy();
                format!("{file}:{}", source.position(node.span.start).0)
            },
        );
        self.shown.push_str(&format!("{:1$}{key}: {value}  # {origin}\n", "", self.depth * 2));
    }
}

/// A text as a YAML scalar that reads as that text.
pub(super) fn spelled(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/' || c == '.')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._@+-/:".contains(c))
        && !text.ends_with(':')
        && !matches!(text, "null" | "true" | "false");
    if is_plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

pub(super) fn spelled_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let (unit, factor) = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)]
        .into_iter()
        .find(|(_, factor)| millis.is_multiple_of(*factor))
        .unwrap_or(("ms", 1));
    format!("{}{unit}", millis / factor)
}

fn spelled_size(bytes: u64) -> String {
    let (unit, factor) = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]
        .into_iter()
        .find(|(_, factor)| bytes.is_multiple_of(*factor))
        .unwrap_or(("B", 1));
    format!("{}{unit}", bytes / factor)
}
