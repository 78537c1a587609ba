//! Medians of rounds, as a Markdown table.

use std::fmt::Write as _;

/// What stands in one column. The index is that of a figure in what each round showed.
#[derive(Clone, Copy)]
pub(crate) enum Column {
    /// The figure, with so many decimals.
    Figure(&'static str, usize, usize),
    /// The figure as a multiple of the first row's.
    Ratio(&'static str, usize),
    /// The figure less the first row's.
    Added(&'static str, usize),
}

impl Column {
    fn name(self) -> &'static str {
        match self {
            Self::Figure(name, ..) | Self::Ratio(name, _) | Self::Added(name, _) => name,
        }
    }

    fn show(self, row: &[f64], first: &[f64]) -> String {
        let (value, decimals) = match self {
            Self::Figure(_, index, decimals) => (row[index], decimals),
            Self::Ratio(_, index) => (row[index] / first[index], 2),
            Self::Added(_, index) => (row[index] - first[index], 3),
        };
        if value.is_nan() { String::new() } else { format!("{value:.decimals$}") }
    }
}

/// All rounds of all proxies. The first one is what the others are compared with. A figure that does
/// not apply is NaN and left empty.
pub(crate) struct Table {
    title: String,
    columns: &'static [Column],
    rows: Vec<(&'static str, Vec<Vec<f64>>)>,
}

impl Table {
    pub(crate) fn new(title: impl Into<String>, columns: &'static [Column]) -> Self {
        Self { title: title.into(), columns, rows: Vec::new() }
    }

    pub(crate) fn add(&mut self, name: &'static str, figures: &[f64]) {
        match self.rows.iter_mut().find(|(row, _)| *row == name) {
            Some((_, rounds)) => rounds.push(figures.to_vec()),
            None => self.rows.push((name, vec![figures.to_vec()])),
        }
    }

    /// Whether nobody was measured.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("| {} |", self.title);
        let mut rule = "|---|".to_owned();
        for column in self.columns {
            write!(text, " {} |", column.name()).unwrap();
            rule.push_str("---:|");
        }
        writeln!(text, "\n{rule}").unwrap();
        let medians: Vec<(&str, Vec<f64>)> = self.rows.iter().map(|(name, rounds)| (*name, medians(rounds))).collect();
        for (name, row) in &medians {
            write!(text, "| {name} |").unwrap();
            for column in self.columns {
                write!(text, " {} |", column.show(row, &medians[0].1)).unwrap();
            }
            text.push('\n');
        }
        text
    }
}

/// The median of each figure over the rounds.
fn medians(rounds: &[Vec<f64>]) -> Vec<f64> {
    let median = |index: usize| {
        let mut values: Vec<f64> = rounds.iter().map(|round| round[index]).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    (0..rounds[0].len()).map(median).collect()
}
