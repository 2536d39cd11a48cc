//! Tables for people to read: columns as wide as what is in them.

use std::fmt;

/// Rows under their heads, each line two spaces in, as it stands below what the table is of.
#[derive(Debug)]
pub struct Table<const N: usize> {
    /// The first one is the heads.
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// A table of these rows. Each cell has one line.
    pub fn new(heads: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> Self {
        Table { rows: std::iter::once(heads.map(str::to_owned)).chain(rows).collect() }
    }

    /// Whether it has nothing but heads.
    pub fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or_default()
        };
        let widths: [usize; N] = std::array::from_fn(width);
        for row in &self.rows {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("  {cell:<width$}"));
            writeln!(f, "{}", cells.collect::<String>().trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a", "1000", "é"], ["bc", "1", "x"]].map(|row| row.map(str::to_owned));
        let text = Table::new(["NAME", "N", "WHY"], rows).to_string();
        assert_eq!(text, "  NAME  N     WHY\n  a     1000  é\n  bc    1     x\n");
    }

    #[test]
    fn without_rows_it_is_empty() {
        assert!(Table::new(["A"], []).is_empty());
        assert!(!Table::new(["A"], [[String::new()]]).is_empty());
    }
}
