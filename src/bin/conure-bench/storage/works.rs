//! The works of `conure-bench storage`: their names, units, and which way is better. What each does stands in
//! docs/BENCHMARKS.md and in the files named here.

use clap::ValueEnum;
use clap::builder::PossibleValue;

/// Which of two figures is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    More,
    Less,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    Get1t,
    Get2t,
    Snapget1t,
    Snapget2t,
    Scan100On1t,
    Scan100On2t,
    Fullscan,
    LoadRandom,
    LoadSorted,
    Apply100Nosync,
    LogAppend1,
    LogAppend100,
    LogApply100P50,
    FileRandom,
    FileSorted,
    WriteAmp,
    GrowthChurn,
    GrowthReader,
    ReopenKill,
    ReopenReplay,
    CompactRatio,
    ApplyP99Checkpoint,
    SnapshotPin,
    SnapshotStream,
    RssPeak,
}

impl Work {
    /// In the order in which they are printed.
    pub const ALL: [Work; 25] = [
        Work::Get1t,
        Work::Get2t,
        Work::Snapget1t,
        Work::Snapget2t,
        Work::Scan100On1t,
        Work::Scan100On2t,
        Work::Fullscan,
        Work::LoadRandom,
        Work::LoadSorted,
        Work::Apply100Nosync,
        Work::LogAppend1,
        Work::LogAppend100,
        Work::LogApply100P50,
        Work::FileRandom,
        Work::FileSorted,
        Work::WriteAmp,
        Work::GrowthChurn,
        Work::GrowthReader,
        Work::ReopenKill,
        Work::ReopenReplay,
        Work::CompactRatio,
        Work::ApplyP99Checkpoint,
        Work::SnapshotPin,
        Work::SnapshotStream,
        Work::RssPeak,
    ];

    fn row(self) -> (&'static str, &'static str, Better) {
        use Better::{Less, More};
        match self {
            Work::Get1t => ("get_1t", "ops/s", More),
            Work::Get2t => ("get_2t", "ops/s", More),
            Work::Snapget1t => ("snapget_1t", "ops/s", More),
            Work::Snapget2t => ("snapget_2t", "ops/s", More),
            Work::Scan100On1t => ("scan100_1t", "scans/s", More),
            Work::Scan100On2t => ("scan100_2t", "scans/s", More),
            Work::Fullscan => ("fullscan", "keys/s", More),
            Work::LoadRandom => ("load_random", "keys/s", More),
            Work::LoadSorted => ("load_sorted", "keys/s", More),
            Work::Apply100Nosync => ("apply100_nosync", "keys/s", More),
            Work::LogAppend1 => ("log_append1", "us", Less),
            Work::LogAppend100 => ("log_append100", "us", Less),
            Work::LogApply100P50 => ("log_apply100_p50", "ms", Less),
            Work::FileRandom => ("file_random", "B/B", Less),
            Work::FileSorted => ("file_sorted", "B/B", Less),
            Work::WriteAmp => ("write_amp", "B/B", Less),
            Work::GrowthChurn => ("growth_churn", "MB", Less),
            Work::GrowthReader => ("growth_reader", "MB", Less),
            Work::ReopenKill => ("reopen_kill", "ms", Less),
            Work::ReopenReplay => ("reopen_replay", "ms", Less),
            Work::CompactRatio => ("compact_ratio", "B/B", Less),
            Work::ApplyP99Checkpoint => ("apply_p99_checkpoint", "ms", Less),
            Work::SnapshotPin => ("snapshot_pin", "us", Less),
            Work::SnapshotStream => ("snapshot_stream", "GB/s", More),
            Work::RssPeak => ("rss_peak", "B/B", Less),
        }
    }

    pub fn name(self) -> &'static str {
        self.row().0
    }

    pub fn unit(self) -> &'static str {
        self.row().1
    }

    pub fn better(self) -> Better {
        self.row().2
    }
}

impl ValueEnum for Work {
    fn value_variants<'a>() -> &'a [Work] {
        &Work::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()))
    }
}
