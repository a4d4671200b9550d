//! Columns under headings, for people.

/// Longest cell that others are aligned to. A longer one stands out instead of moving all.
const WIDEST: usize = 48;

/// How wide each column is, so that several blocks of rows can be aligned alike.
pub struct Columns {
    widths: Vec<usize>,
}

impl Columns {
    /// Wide enough for the headings and for `rows`.
    pub fn fitting<'a>(headings: &[&str], rows: impl Iterator<Item = &'a [String]>) -> Columns {
        let mut widths: Vec<usize> = headings.iter().map(|heading| width(heading)).collect();
        for row in rows {
            for (widest, cell) in widths.iter_mut().zip(row) {
                *widest = (*widest).max(width(cell).min(WIDEST));
            }
        }
        Columns { widths }
    }

    /// One line. Its last cell is followed by nothing.
    pub fn line<S: AsRef<str>>(&self, cells: &[S]) -> String {
        let mut line = String::new();
        for (cell, widest) in cells.iter().map(AsRef::as_ref).zip(&self.widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', widest.saturating_sub(width(cell)) + 2));
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    }
}

/// All of a table at once.
pub fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let columns = Columns::fitting(headings, rows.iter().map(Vec::as_slice));
    let mut text = columns.line(headings);
    text.extend(rows.iter().map(|row| columns.line(row)));
    text
}

/// Characters, which are columns for most scripts.
fn width(cell: &str) -> usize {
    cell.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_up_to_a_bound() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let long = "x".repeat(WIDEST + 9);
        assert_eq!(
            table(&["A", "LONG", "C"], &[row(["käse", "b", "c"]), row(["", "", ""])]),
            "A     LONG  C\nkäse  b     c\n\n"
        );
        let text = table(&["A", "B"], &[row([&long, "b", ""]), row(["a", "b", ""])]);
        assert_eq!(text.lines().nth(2), Some(&*format!("a{}b", " ".repeat(WIDEST + 1))));
    }
}
