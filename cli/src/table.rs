//! Aligned text.

use crate::paint::Paint;
use prost_types::Timestamp;
use std::{collections::BTreeMap, time::Duration};

/// Rows of cells in aligned columns, without spaces at the ends of lines. An empty cell is shown as `-`.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(heads: &[&str]) -> Self {
        Self {
            rows: vec![heads.iter().map(|head| (*head).to_owned()).collect()],
        }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let shown = |cell: String| {
            if cell.is_empty() {
                "-".to_owned()
            } else {
                one_line(&cell)
            }
        };
        self.rows.push(cells.into_iter().map(shown).collect());
    }

    /// The text, without a newline at its end. Heads are painted, and states by their word.
    pub(crate) fn text(&self, paint: Paint) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| chars(cell))
                .max()
        };
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
        let state = self.rows[0].iter().position(|head| head == STATE);
        let painted = |row: usize, column: usize, cell: &str| match row {
            0 => paint.head(cell),
            _ if state == Some(column) => paint.state(cell),
            _ => cell.to_owned(),
        };
        let rows = self.rows.iter().enumerate();
        let lines: Vec<String> = rows
            .map(|(at, row)| line(row, &widths, |column, cell| painted(at, column, cell)))
            .collect();
        lines.join("\n")
    }
}

/// Named values, one a line, the values aligned. Values that are empty are left out.
pub(crate) fn fields(paint: Paint, fields: &[(&str, String)]) -> String {
    let shown = || fields.iter().filter(|(_, value)| !value.is_empty());
    let width = shown().map(|(name, _)| chars(name)).max().unwrap_or_default();
    let lines: Vec<String> = shown()
        .map(|(name, value)| {
            let space = " ".repeat(width - chars(name) + GAP);
            let value = match *name {
                "state" => paint.state(&one_line(value)),
                _ => one_line(value),
            };
            format!("{}{space}{value}", paint.head(name))
        })
        .collect();
    lines.join("\n")
}

/// A row: each cell but the last one that says something is as wide as its column.
fn line(cells: &[String], widths: &[usize], painted: impl Fn(usize, &str) -> String) -> String {
    let mut line = String::new();
    let mut wanting = 0;
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let cell = cell.trim_end();
        if !cell.is_empty() {
            line.push_str(&" ".repeat(wanting));
            line.push_str(&painted(column, cell));
            wanting = 0;
        }
        wanting += width - chars(cell) + GAP;
    }
    line
}

/// The time of an event, empty where there was none.
pub(crate) fn time(time: Option<Timestamp>) -> String {
    time.map(|time| time.to_string()).unwrap_or_default()
}

/// How long something waits, empty where nobody said.
pub(crate) fn window(window: Option<prost_types::Duration>) -> String {
    let window = window.and_then(|window| Duration::try_from(window).ok());
    window
        .map(|window| humantime::format_duration(window).to_string())
        .unwrap_or_default()
}

/// Labels in one line, sorted.
pub(crate) fn labels(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join(" ")
}

/// The last part of a resource name.
pub(crate) fn last_part(name: &str) -> String {
    name.rsplit('/').next().unwrap_or_default().to_owned()
}

/// Text from the gateway that people chose, such as labels, must not steer the terminal.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .collect()
}

/// The head of the column of states.
const STATE: &str = "STATE";

/// Spaces between columns.
const GAP: usize = 2;

fn chars(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(row: &[&str]) -> Vec<String> {
        row.iter().map(|cell| (*cell).to_owned()).collect()
    }

    #[test]
    fn columns_are_aligned_and_lines_end_where_their_text_does() {
        let mut table = Table::new(&["MEMBER", "STATE", "REASON"]);
        table.row(cells(&["a", "ready", ""]));
        table.row(cells(&["member-b", "down", "its worker ended"]));
        assert_eq!(
            table.text(Paint::PLAIN),
            "MEMBER    STATE  REASON\n\
             a         ready  -\n\
             member-b  down   its worker ended"
        );
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let mut table = Table::new(&["NAME"]);
        table.row(cells(&["a\u{1b}[2J\nb"]));
        assert_eq!(table.text(Paint::PLAIN), "NAME\na [2J b");
        assert_eq!(fields(Paint::PLAIN, &[("name", "a\rb".into())]), "name  a b");
    }

    #[test]
    fn empty_fields_are_left_out() {
        assert_eq!(
            fields(
                Paint::PLAIN,
                &[("name", "x".into()), ("reason", String::new()), ("primary", "1".into())]
            ),
            "name     x\nprimary  1"
        );
    }
}
