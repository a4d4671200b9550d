//! The results as a table, for people: works as rows, engines and then ratios as columns.

use crate::engines::Kind;
use crate::results::Results;

/// A number with three digits that mean something, and commas between thousands.
pub fn figure(value: f64) -> String {
    let decimals = match value.abs() {
        a if a >= 100.0 => 0,
        a if a >= 10.0 => 1,
        a if a >= 1.0 || a == 0.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + rest
}

/// The whole table, in Markdown, so that it can be pasted into a page.
pub fn table(results: &Results) -> String {
    let engines: Vec<Kind> = results.engines().collect();
    let peers = || engines.iter().filter(|kind| **kind != Kind::Conure);
    let mut rows = vec![vec!["work".to_owned(), "unit".to_owned()]];
    rows[0].extend(engines.iter().map(|kind| kind.name().to_owned()));
    rows[0].extend(peers().map(|kind| format!("× {kind}")));
    for work in results.works() {
        let mut row = vec![work.name().to_owned(), work.unit().to_owned()];
        let cell = |value: Option<f64>| value.map_or(String::new(), figure);
        row.extend(engines.iter().map(|kind| cell(results.median(work, *kind))));
        row.extend(peers().map(|kind| cell(results.ratio(work, *kind))));
        rows.push(row);
    }
    draw(&rows)
}

/// Rows as a table in Markdown: the first is the head, the first two columns are words, the rest numbers.
pub fn draw(rows: &[Vec<String>]) -> String {
    let width = |cell: &String| cell.chars().count();
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|column| rows.iter().map(|row| width(&row[column])).max().unwrap_or(0).max(2))
        .collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            text += &match column {
                0 | 1 => format!("| {cell:<width$} "),
                _ => format!("| {cell:>width$} "),
            };
        }
        text += "|\n";
        if index == 0 {
            for (column, width) in widths.iter().enumerate() {
                let end = if column < 2 { '-' } else { ':' };
                text += &format!("|{}{end}", "-".repeat(width + 1));
            }
            text += "|\n";
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::works::Work;

    #[test]
    fn figures_have_three_digits_that_mean_something() {
        for (value, text) in [
            (1_234_567.8, "1,234,568"),
            (123.4, "123"),
            (12.34, "12.3"),
            (1.234, "1.23"),
            (0.01234, "0.012"),
            (0.0, "0.00"),
            (-123.0, "-123"),
        ] {
            assert_eq!(figure(value), text);
        }
    }

    #[test]
    fn the_columns_stand_below_each_other() {
        let mut results = Results::new();
        results.record(0, Work::Get1t, Kind::Conure, 1_500.0);
        results.record(0, Work::Get1t, Kind::Btreemap, 1_000.0);
        results.record(0, Work::LogAppend1, Kind::Conure, 80.0);
        let expected = "\
| work        | unit  | conure | btreemap | × btreemap |
|-------------|-------|-------:|---------:|-----------:|
| get_1t      | ops/s |  1,500 |    1,000 |       1.50 |
| log_append1 | us    |   80.0 |          |            |
";
        assert_eq!(table(&results), expected);
    }
}
