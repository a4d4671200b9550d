//! The rounds of all systems, and what is printed of them: medians, and ratios above 1 where ConureDB is better.
//!
//! A ratio is the median of the ratios of the rounds: see [`crate::results`].

use serde::Serialize;

use super::args::{ClusterArgs, System};
use super::round::Figures;
use crate::stats::median;
use crate::table;

/// A column of figures.
struct Metric {
    name: &'static str,
    unit: &'static str,
    /// What has to be multiplied to get the unit of the table.
    scale: f64,
    of: fn(&Figures) -> Option<f64>,
    /// Its name among the ratios, and whether more of it is better.
    ratio: Option<(&'static str, bool)>,
}

const METRICS: [Metric; 6] = [
    Metric {
        name: "throughput",
        unit: "ops/s",
        scale: 1.0,
        of: |figures| Some(figures.ops_per_s),
        ratio: Some(("throughput", true)),
    },
    Metric {
        name: "p50",
        unit: "ms",
        scale: 1e-3,
        of: |figures| Some(figures.p50_us),
        ratio: Some(("p50", false)),
    },
    Metric {
        name: "p99",
        unit: "ms",
        scale: 1e-3,
        of: |figures| Some(figures.p99_us),
        ratio: Some(("p99", false)),
    },
    Metric {
        name: "cpu of all nodes",
        unit: "us/op",
        scale: 1.0,
        of: |figures| figures.cpu_us_per_op,
        ratio: Some(("cpu_per_op", false)),
    },
    Metric {
        name: "cpu of the clients",
        unit: "us/op",
        scale: 1.0,
        of: |figures| Some(figures.client_cpu_us_per_op),
        ratio: None,
    },
    Metric {
        name: "memory of a node",
        unit: "MiB",
        scale: 1.0 / 1_048_576.0,
        of: |figures| figures.rss_bytes,
        ratio: Some(("rss", false)),
    },
];

/// The rounds as they come.
#[derive(Default)]
pub struct Report {
    rounds: Vec<(System, Figures)>,
}

impl Report {
    /// Takes a round down and tells of it on standard error.
    pub fn record(&mut self, round: u32, rounds: u32, system: System, figures: Figures) {
        let cells: Vec<String> = METRICS
            .iter()
            .filter_map(|metric| {
                let value = table::figure((metric.of)(&figures)? * metric.scale);
                Some(format!("{} {value} {}", metric.name, metric.unit))
            })
            .collect();
        eprintln!("round {}/{rounds}: {system:<6} {}", round + 1, cells.join(", "));
        self.rounds.push((system, figures));
    }

    fn values(&self, system: System, metric: &Metric) -> Vec<f64> {
        let own = self.rounds.iter().filter(|(of, _)| *of == system);
        own.filter_map(|(_, figures)| (metric.of)(figures)).collect()
    }

    fn median(&self, system: System, metric: &Metric) -> Option<f64> {
        median(&self.values(system, metric))
    }

    fn ratio(&self, peer: System, metric: &Metric) -> Option<f64> {
        let (_, more_is_better) = metric.ratio?;
        let own = self.values(System::Conure, metric);
        let pairs = own.into_iter().zip(self.values(peer, metric));
        let ratios = pairs.map(|(own, other)| match more_is_better {
            true => own / other,
            false => other / own,
        });
        median(&ratios.filter(|ratio| ratio.is_finite()).collect::<Vec<_>>())
    }

    /// For people.
    pub fn table(&self, systems: &[System]) -> String {
        let mut rows = vec![vec!["median".to_owned(), "unit".to_owned()]];
        rows[0].extend(systems.iter().map(ToString::to_string));
        rows[0].extend(systems[1..].iter().map(|peer| format!("× {peer}")));
        for metric in &METRICS {
            let cell = |value: Option<f64>| value.map_or(String::new(), table::figure);
            let mut row = vec![metric.name.to_owned(), metric.unit.to_owned()];
            let scaled = |system| self.median(system, metric).map(|value| value * metric.scale);
            row.extend(systems.iter().map(|system| cell(scaled(*system))));
            row.extend(systems[1..].iter().map(|peer| cell(self.ratio(*peer, metric))));
            rows.push(row);
        }
        table::draw(&rows)
    }

    /// For programs, without the line's end.
    pub fn json(&self, args: &ClusterArgs, systems: &[System]) -> String {
        let median = |system, index: usize| self.median(system, &METRICS[index]);
        let results = systems.iter().map(|&system| Row {
            system: system.name(),
            op: args.op.name(),
            clients: args.clients,
            throughput_per_s: median(system, 0),
            p50_us: median(system, 1),
            p99_us: median(system, 2),
            cpu_us_per_op: median(system, 3),
            client_cpu_us_per_op: median(system, 4),
            rss_bytes: median(system, 5),
        });
        let peers = systems[1..].iter();
        let ratios = peers.flat_map(|&peer| {
            METRICS.iter().filter_map(move |metric| {
                Some((metric.ratio?.0, serde_json::Value::from(self.ratio(peer, metric)?)))
            })
        });
        let ratios = ratios.map(|(name, ratio)| (name.to_owned(), ratio)).collect();
        let document = Document { results: results.collect(), ratios };
        serde_json::to_string(&document).expect("text and finite numbers")
    }
}

#[derive(Serialize)]
struct Document {
    results: Vec<Row>,
    ratios: serde_json::Map<String, serde_json::Value>,
}

#[derive(Serialize)]
struct Row {
    system: &'static str,
    op: &'static str,
    clients: u32,
    throughput_per_s: Option<f64>,
    p50_us: Option<f64>,
    p99_us: Option<f64>,
    cpu_us_per_op: Option<f64>,
    client_cpu_us_per_op: Option<f64>,
    rss_bytes: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_above_one_is_better_for_the_project() {
        let figures = |factor: f64| Figures {
            ops_per_s: 100.0 * factor,
            p50_us: 10.0 * factor,
            p99_us: 10.0,
            cpu_us_per_op: Some(5.0),
            client_cpu_us_per_op: 1.0,
            rss_bytes: None,
        };
        let mut report = Report::default();
        for (own, other) in [(2.0, 1.0), (9.0, 3.0), (8.0, 1.0)] {
            report.record(0, 3, System::Conure, figures(own));
            report.record(0, 3, System::Etcd, figures(other));
        }
        assert_eq!(report.ratio(System::Etcd, &METRICS[0]), Some(3.0));
        assert_eq!(report.ratio(System::Etcd, &METRICS[1]), Some(1.0 / 3.0));
        assert_eq!(report.ratio(System::Etcd, &METRICS[3]), Some(1.0));
        assert_eq!(report.ratio(System::Etcd, &METRICS[4]), None, "the clients are no part of it");
        assert_eq!(report.ratio(System::Etcd, &METRICS[5]), None, "never measured");
    }
}
