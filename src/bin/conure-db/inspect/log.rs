//! The segments of the log, and the records of one.

use std::io::Write;

use conuredb::storage::disk::Disk;
use conuredb::storage::log::inspect::{dump, survey};
use conuredb::storage::log::{LogError, LogState};

use crate::offline::{Failure, Verdict, count, or, vote};

pub fn segments(out: &mut dyn Write, disk: &dyn Disk) -> Result<Verdict, Failure> {
    let survey = survey(disk).map_err(Failure::unopened)?;
    writeln!(
        out,
        "log: {}, {}",
        count(survey.segments.len(), "segment"),
        count(survey.spares, "spare")
    )?;
    writeln!(out, "  ends with {}", state(&survey.state))?;
    for segment in &survey.segments {
        writeln!(
            out,
            "  segment {}: records {} to {}, bytes up to {} of {}, {}",
            segment.sequence,
            segment.first_record,
            (segment.first_record + segment.records).saturating_sub(1),
            segment.end,
            segment.len_bytes,
            segment.file
        )?;
    }
    if let Some(torn) = &survey.torn {
        writeln!(out, "  torn at byte {} of {}", torn.offset, torn.segment)?;
    }
    for damage in &survey.damages {
        writeln!(out, "  DAMAGED: {damage}")?;
    }
    Ok(if survey.damages.is_empty() { Verdict::Sound } else { Verdict::Damaged })
}

pub fn segment(out: &mut dyn Write, disk: &dyn Disk, sequence: u32) -> Result<Verdict, Failure> {
    let segment = match dump(disk, sequence) {
        Ok(Some(segment)) => segment,
        Ok(None) => {
            let what = format!("{}: there is no segment {sequence}", disk.locate(""));
            return Err(Failure::Unopened(what));
        }
        Err(error @ LogError::Corrupt { .. }) => {
            writeln!(out, "DAMAGED: {error}")?;
            return Ok(Verdict::Damaged);
        }
        Err(error) => return Err(Failure::unopened(error)),
    };
    writeln!(out, "{}, {} bytes", segment.file, segment.len_bytes)?;
    writeln!(out, "  sequence      {}", segment.sequence)?;
    writeln!(out, "  nonce         {:016x}", segment.nonce)?;
    writeln!(out, "  first record  {}", segment.first_record)?;
    writeln!(out, "  before it     {}", state(&segment.state))?;
    writeln!(
        out,
        "{:>10} {:>10} {:>10}  {:<9} {:<14} payload",
        "byte", "record", "synced", "kind", "id"
    )?;
    for record in &segment.records {
        writeln!(
            out,
            "{:>10} {:>10} {:>10}  {:<9} {:<14} {} bytes",
            record.offset,
            record.number,
            record.synced,
            record.kind,
            or(record.id, ""),
            record.payload_bytes
        )?;
    }
    writeln!(out, "{:>10} end of the records", segment.end)?;
    match segment.tail {
        Ok(None) => Ok(Verdict::Sound),
        Ok(Some(torn)) => {
            writeln!(out, "{:>10} torn: what follows was never acknowledged", torn.offset)?;
            Ok(Verdict::Sound)
        }
        Err(damage) => {
            writeln!(out, "DAMAGED: {damage}")?;
            Ok(Verdict::Damaged)
        }
    }
}

fn state(state: &LogState) -> String {
    format!(
        "last {}, purged {}, vote {}",
        or(state.last, "none"),
        or(state.purged, "none"),
        or(state.vote.as_deref().map(vote), "none")
    )
}
