//! The results in one line, for programs:
//! `{"results":[{"engine":…,"work":…,"value":…,"unit":…}],"ratios":{"<work>":{"<peer>":…}}}`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::engines::Kind;
use crate::results::Results;

#[derive(Serialize)]
struct Report {
    results: Vec<Row>,
    ratios: BTreeMap<&'static str, BTreeMap<&'static str, f64>>,
}

#[derive(Serialize)]
struct Row {
    engine: &'static str,
    work: &'static str,
    value: f64,
    unit: &'static str,
}

/// The line, without its end.
pub fn line(results: &Results) -> String {
    let mut report = Report { results: Vec::new(), ratios: BTreeMap::new() };
    for work in results.works() {
        let mut ratios = BTreeMap::new();
        for engine in results.engines() {
            if let Some(value) = results.median(work, engine) {
                let (engine, work, unit) = (engine.name(), work.name(), work.unit());
                report.results.push(Row { engine, work, value, unit });
            }
            if engine != Kind::Conure
                && let Some(ratio) = results.ratio(work, engine)
            {
                ratios.insert(engine.name(), ratio);
            }
        }
        if !ratios.is_empty() {
            report.ratios.insert(work.name(), ratios);
        }
    }
    serde_json::to_string(&report).expect("text and finite numbers")
}
