//! The card as text in a fixed width: for terminals and for the API.

use super::{Card, Part};
use crate::gate::HoldView;
use crate::time::Timestamp;

/// Renders the card as it stands at `now`. Ends with a line feed; no line is longer than [`WIDTH`] columns. Every line
/// that the card did not begin itself starts with a gutter that no line of its own has.
pub(crate) fn render(hold: &HoldView, now: Timestamp) -> String {
    let mut lines = Lines(String::new());
    for part in Card::of(hold, now).parts {
        match part {
            Part::Field(field, text) => {
                lines.wrapped(&format!("{:<9}", field.as_str().to_uppercase()), "         ~ ", &text)
            }
            Part::Said(text) => lines.wrapped("         ", "         ~ ", &text),
            Part::Quoted(text) | Part::Claimed(text) => lines.wrapped("         | ", "         ~ ", &text),
        }
    }
    lines.0
}

struct Lines(String);

impl Lines {
    /// Breaks `text` so that no line passes [`WIDTH`] columns, at a space where one is near. A
    /// character outside ASCII counts as two: right for wide ones, harmless for others.
    fn wrapped(&mut self, first: &str, next: &str, text: &str) {
        let mut gutter = first;
        let mut rest = text;
        loop {
            let (line, after) = rest.split_at(line_end(rest, WIDTH - gutter.len()));
            self.0.push_str(gutter);
            self.0.push_str(line);
            let trimmed = self.0.trim_end_matches(' ').len();
            self.0.truncate(trimmed);
            self.0.push('\n');
            if after.is_empty() {
                return;
            }
            rest = after;
            gutter = next;
        }
    }
}

/// Where the line that `text` begins ends when it has that many columns; behind a space when one
/// is in the last third of the line.
fn line_end(text: &str, columns: usize) -> usize {
    let mut used = 0;
    let mut space = None;
    for (index, character) in text.char_indices() {
        used += if character.is_ascii() { 1 } else { 2 };
        if used > columns {
            return space.unwrap_or(index);
        }
        if character == ' ' && used > columns * 2 / 3 {
            space = Some(index + 1);
        }
    }
    text.len()
}

/// Columns of the widest line: a digest behind the gutter and its name.
pub(super) const WIDTH: usize = 90;
