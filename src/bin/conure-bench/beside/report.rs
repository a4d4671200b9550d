//! The pairs of all rounds, and what is printed of them: medians of the figures, and of the ratios of each
//! pair.

use serde::Serialize;

use super::args::Work;
use super::works::Did;
use crate::cluster::round::Figures;
use crate::stats::median;
use crate::table;

/// The clients alone, then beside a work, and what the work did.
pub struct Pair {
    pub alone: Figures,
    pub with: Figures,
    pub did: Did,
}

#[derive(Default)]
pub struct Report {
    pairs: Vec<(Work, Pair)>,
}

/// A row: throughput ratios above 1 and p99 ratios below 1 mean that the clients gained.
#[derive(Serialize)]
struct Row {
    work: &'static str,
    puts_per_s_alone: f64,
    puts_per_s: f64,
    throughput_ratio: f64,
    p99_us_alone: f64,
    p99_us: f64,
    p99_ratio: f64,
    work_per_s: f64,
    work_unit: &'static str,
    memory_grew_bytes: f64,
}

impl Report {
    pub fn record(&mut self, number: u32, rounds: u32, work: Work, pair: Pair) {
        eprintln!(
            "round {} of {rounds}: {}: {:.0} puts/s alone, {:.0} beside; p99 {:.1} and {:.1} ms",
            number + 1,
            work.name(),
            pair.alone.ops_per_s,
            pair.with.ops_per_s,
            pair.alone.p99_us / 1e3,
            pair.with.p99_us / 1e3,
        );
        self.pairs.push((work, pair));
    }

    fn rows(&self) -> Vec<Row> {
        let mut works: Vec<Work> = Vec::new();
        for (work, _) in &self.pairs {
            if !works.contains(work) {
                works.push(*work);
            }
        }
        works.into_iter().map(|work| self.row(work)).collect()
    }

    fn row(&self, work: Work) -> Row {
        let of = |figure: fn(&Pair) -> f64| {
            let pairs = self.pairs.iter().filter(|(other, _)| *other == work);
            let figures: Vec<f64> = pairs.map(|(_, pair)| figure(pair)).collect();
            median(&figures).expect("a row is of a work that ran")
        };
        Row {
            work: work.name(),
            puts_per_s_alone: of(|pair| pair.alone.ops_per_s),
            puts_per_s: of(|pair| pair.with.ops_per_s),
            throughput_ratio: of(|pair| pair.with.ops_per_s / pair.alone.ops_per_s),
            p99_us_alone: of(|pair| pair.alone.p99_us),
            p99_us: of(|pair| pair.with.p99_us),
            p99_ratio: of(|pair| pair.with.p99_us / pair.alone.p99_us),
            work_per_s: of(|pair| pair.did.per_s),
            work_unit: work.unit(),
            memory_grew_bytes: of(|pair| pair.did.grew_bytes),
        }
    }

    pub fn table(&self) -> String {
        let head = [
            "beside",
            "work done",
            "rate",
            "puts/s alone",
            "beside",
            "×",
            "p99 alone, ms",
            "beside",
            "×",
            "memory, +MB",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for row in self.rows() {
            let numbers = [
                row.work_per_s,
                row.puts_per_s_alone,
                row.puts_per_s,
                row.throughput_ratio,
                row.p99_us_alone / 1e3,
                row.p99_us / 1e3,
                row.p99_ratio,
                row.memory_grew_bytes / 1e6,
            ];
            let words = [row.work.to_owned(), row.work_unit.to_owned()];
            rows.push(words.into_iter().chain(numbers.map(table::figure)).collect());
        }
        table::draw(&rows)
    }

    /// For programs, without the line's end.
    pub fn json(&self) -> String {
        let document = serde_json::json!({ "results": self.rows() });
        document.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_of_the_figures_of_one_pair() {
        let figures = |ops_per_s: f64, p99_us: f64| Figures {
            ops_per_s,
            p50_us: 1.0,
            p99_us,
            cpu_us_per_op: None,
            client_cpu_us_per_op: 1.0,
            rss_bytes: None,
        };
        let mut report = Report::default();
        for (alone, with) in [(100.0, 50.0), (900.0, 90.0), (200.0, 180.0)] {
            let (alone, with) = (figures(alone, 10.0), figures(with, alone / 10.0));
            let did = Did { per_s: alone.ops_per_s, grew_bytes: 0.0 };
            report.record(0, 3, Work::Watch, Pair { alone, with, did });
        }
        let row = report.row(Work::Watch);
        assert_eq!((row.throughput_ratio, row.p99_ratio), (0.5, 2.0));
        assert_eq!((row.puts_per_s_alone, row.work_per_s), (200.0, 200.0));
        assert_eq!(report.rows().len(), 1);
    }
}
