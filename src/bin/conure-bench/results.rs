//! Figures as they come, and what is printed of them: medians over rounds.
//!
//! A ratio is the median of the ratios of each round, not the ratio of the medians: what disturbs the
//! machine in a round disturbs all engines of that round.

use crate::engines::Kind;
use crate::stats::median;
use crate::storage::works::{Better, Work};

/// Below this a figure is taken for this in ratios, so that a growth of nothing has one.
const LEAST: f64 = 0.1;

/// All figures of a run.
pub struct Results {
    figures: Vec<Figure>,
}

struct Figure {
    engine: Kind,
    work: Work,
    round: u32,
    value: f64,
}

impl Results {
    pub fn new() -> Results {
        Results { figures: Vec::new() }
    }

    /// Takes a figure down and tells of it on standard error.
    pub fn record(&mut self, round: u32, work: Work, engine: Kind, value: f64) {
        let text = crate::table::figure(value);
        eprintln!("round {}: {:<20} {engine:<9} {text} {}", round + 1, work.name(), work.unit());
        self.figures.push(Figure { engine, work, round, value });
    }

    fn values(&self, work: Work, engine: Kind) -> impl Iterator<Item = &Figure> {
        self.figures.iter().filter(move |figure| figure.work == work && figure.engine == engine)
    }

    /// The works that have figures, in the order of the list of works.
    pub fn works(&self) -> impl Iterator<Item = Work> {
        Work::ALL.into_iter().filter(|work| self.figures.iter().any(|it| it.work == *work))
    }

    /// The engines that have figures, the project's first.
    pub fn engines(&self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(|kind| self.figures.iter().any(|it| it.engine == *kind))
    }

    pub fn median(&self, work: Work, engine: Kind) -> Option<f64> {
        median(&self.values(work, engine).map(|figure| figure.value).collect::<Vec<_>>())
    }

    /// How much better the project's engine is than `peer`: above 1 it is, whatever the unit.
    pub fn ratio(&self, work: Work, peer: Kind) -> Option<f64> {
        let own = self.values(work, Kind::Conure);
        let pairs = own.filter_map(|own| {
            let other = self.values(work, peer).find(|other| other.round == own.round)?;
            Some((own.value.max(LEAST), other.value.max(LEAST)))
        });
        let ratios = pairs.map(|(own, other)| match work.better() {
            Better::More => own / other,
            Better::Less => other / own,
        });
        median(&ratios.collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_above_one_is_better_for_the_project_whatever_the_unit() {
        let mut results = Results::new();
        for (round, work, own, other) in [
            (0, Work::Get1t, 300.0, 100.0),
            (1, Work::Get1t, 30.0, 15.0),
            (2, Work::Get1t, 500.0, 100.0),
            (0, Work::WriteAmp, 5.0, 50.0),
            (0, Work::GrowthChurn, 0.0, 10.0),
        ] {
            results.record(round, work, Kind::Conure, own);
            results.record(round, work, Kind::Btreemap, other);
        }
        assert_eq!(results.ratio(Work::Get1t, Kind::Btreemap), Some(3.0));
        assert_eq!(results.median(Work::Get1t, Kind::Conure), Some(300.0));
        assert_eq!(results.ratio(Work::WriteAmp, Kind::Btreemap), Some(10.0));
        assert_eq!(results.ratio(Work::GrowthChurn, Kind::Btreemap), Some(100.0));
        assert_eq!(results.ratio(Work::Get1t, Kind::Raw), None);
    }
}
