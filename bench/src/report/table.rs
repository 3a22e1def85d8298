//! A table in Markdown that people can read as it is.

/// Rows under a title, in columns as wide as what is in them.
pub struct Table {
    title: String,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with the heads of its columns.
    pub fn new(title: &str, heads: &[&str]) -> Self {
        Self {
            title: title.to_owned(),
            rows: vec![heads.iter().map(|text| (*text).to_owned()).collect()],
        }
    }

    /// Adds a row; it has as many cells as there are columns.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let columns = self.rows[0].len();
        let mut row: Vec<String> = cells.into_iter().take(columns).collect();
        row.resize(columns, String::new());
        self.rows.push(row);
    }

    /// The table; ends without a newline.
    pub fn text(&self) -> String {
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max();
        let columns = 0..self.rows[0].len();
        let widths: Vec<usize> = columns.map(|column| width(column).unwrap_or(0).max(3)).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            format!("| {} |", cells.collect::<Vec<_>>().join(" | "))
        };
        let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
        let mut lines = vec![line(&self.rows[0]), format!("| {} |", rule.join(" | "))];
        lines.extend(self.rows[1..].iter().map(line));
        format!("**{}**\n\n{}", self.title, lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_longest_cell() {
        let mut table = Table::new("Speed", &["what", "n"]);
        table.row(["a long one".to_owned(), "1".to_owned()]);
        assert_eq!(
            table.text(),
            "**Speed**\n\n| what       | n   |\n| ---------- | --- |\n| a long one | 1   |"
        );
    }
}
