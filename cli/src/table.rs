//! Aligned text.

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

    /// The text, without a newline at its end.
    pub(crate) fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| chars(cell))
                .max()
        };
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
        let lines: Vec<String> = self.rows.iter().map(|row| line(row, &widths)).collect();
        lines.join("\n")
    }
}

/// Named values, one a line, the values aligned. Values that are empty are left out.
pub(crate) fn fields(fields: &[(&str, String)]) -> String {
    let shown = || fields.iter().filter(|(_, value)| !value.is_empty());
    let width = shown().map(|(name, _)| chars(name)).max().unwrap_or_default();
    let lines: Vec<String> = shown()
        .map(|(name, value)| format!("{name:width$}  {}", one_line(value)))
        .collect();
    lines.join("\n")
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let padded: Vec<String> = cells
        .iter()
        .zip(widths)
        .map(|(cell, width)| format!("{cell:width$}"))
        .collect();
    padded.join("  ").trim_end().to_owned()
}

/// Text from the gateway that people chose, such as labels, must not steer the terminal.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .collect()
}

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
            table.text(),
            "MEMBER    STATE  REASON\n\
             a         ready  -\n\
             member-b  down   its worker ended"
        );
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let mut table = Table::new(&["NAME"]);
        table.row(cells(&["a\u{1b}[2J\nb"]));
        assert_eq!(table.text(), "NAME\na [2J b");
        assert_eq!(fields(&[("name", "a\rb".into())]), "name  a b");
    }

    #[test]
    fn empty_fields_are_left_out() {
        assert_eq!(
            fields(&[("name", "x".into()), ("reason", String::new()), ("primary", "1".into())]),
            "name     x\nprimary  1"
        );
    }
}
