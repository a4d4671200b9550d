//! `conure-db check`: is this data directory sound, and if not, what of it is damaged?

use std::io::{self, Write};
use std::process::ExitCode;

use conuredb::storage::inspect::survey::{Finding, StoreSurvey, Survey, survey};
use conuredb::types::LogId;
use serde_json::{Value, json};

use crate::offline::{DataDir, Failure, Verdict, count, or, say, size, span, tree_name, vote};

/// Check a data directory: every page, every log record
///
/// Exits with 0 when all is sound, 1 when something is damaged, 2 when the directory cannot be opened.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    dir: DataDir,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> ExitCode {
    say(|out| {
        let surveyed = args.dir.open().map_err(Failure::unopened).and_then(|disk| {
            let surveyed = survey(&disk);
            surveyed.map_err(Failure::unopened)
        });
        let survey = match surveyed {
            Err(Failure::Unopened(reason)) if args.json => {
                writeln!(out, "{}", json!({ "status": "unopened", "error": reason }))?;
                return Err(Failure::Unopened(reason));
            }
            surveyed => surveyed?,
        };
        if args.json {
            writeln!(out, "{}", object(&survey))?;
        } else {
            print(out, &survey, &args.dir.data_dir.display().to_string())?;
        }
        Ok(if survey.findings.is_empty() { Verdict::Sound } else { Verdict::Damaged })
    })
}

fn print(out: &mut dyn Write, survey: &Survey, directory: &str) -> io::Result<()> {
    match &survey.identity {
        None => writeln!(out, "identity  none")?,
        Some(identity) => writeln!(
            out,
            "identity  {} ({:016x}) of cluster {}, {:?}",
            identity.name, identity.node_id, identity.cluster_id, identity.standing
        )?,
    }
    print_log(out, survey)?;
    match &survey.store {
        None => writeln!(out, "store     none that can be opened")?,
        Some(store) => print_store(out, store)?,
    }
    for finding in &survey.findings {
        writeln!(out, "DAMAGED   {}", sentence(finding))?;
    }
    if survey.unlisted > 0 {
        writeln!(out, "DAMAGED   and {} more places in the store", survey.unlisted)?;
    }
    if survey.findings.is_empty() {
        return writeln!(out, "{directory} is sound");
    }
    writeln!(
        out,
        "{directory} is damaged. Check the disk; then move the directory away and let the node join its cluster \
         again with an empty one, or restore a backup"
    )
}

fn print_log(out: &mut dyn Write, survey: &Survey) -> io::Result<()> {
    let log = &survey.log;
    let bytes = log.segments.iter().map(|segment| segment.len_bytes).sum();
    let records: u64 = log.segments.iter().map(|segment| segment.records).sum();
    writeln!(
        out,
        "log       {}, {}, {records} records, {}",
        count(log.segments.len(), "segment"),
        size(bytes),
        count(log.spares, "spare")
    )?;
    writeln!(
        out,
        "          first entry {}, last {}, purged {}, vote {}",
        or(log.first_index, "none"),
        or(log.state.last, "none"),
        or(log.state.purged, "none"),
        or(log.state.vote.as_deref().map(vote), "none")
    )?;
    if !log.leftover.is_empty() {
        writeln!(
            out,
            "          to be removed at the next start: {}",
            count(log.leftover.len(), "purged segment")
        )?;
    }
    if let Some(torn) = &log.torn {
        writeln!(
            out,
            "          {} is torn at byte {}: the next start cuts off what was never acknowledged",
            torn.segment, torn.offset
        )?;
    }
    Ok(())
}

fn print_store(out: &mut dyn Write, store: &StoreSurvey) -> io::Result<()> {
    writeln!(
        out,
        "store     {} of {} live, {} free; checkpoint {}, transaction {}",
        or(live_bytes(store).map(size), "an unknown part"),
        size(store.file_bytes),
        or(store.free_bytes.map(size), "an unknown part"),
        store.meta.sequence,
        store.meta.root.txn
    )?;
    writeln!(
        out,
        "          applied {}, revision {}, {}",
        or(store.facts.applied, "nothing"),
        store.facts.revision,
        count(store.facts.sessions, "session")
    )?;
    writeln!(
        out,
        "          {:<14} {:>12} {:>9} {:>9} {:>9} {:>7} {:>6}",
        "tree", "entries", "leaves", "branches", "values", "levels", "fill"
    )?;
    for (id, _, shape) in store.trees.iter().filter(|(_, tree, _)| tree.root.is_some()) {
        writeln!(
            out,
            "          {:<14} {:>12} {:>9} {:>9} {:>9} {:>7} {:>5}%",
            format!("{} {}", id.index(), tree_name(*id)),
            shape.entries,
            shape.leaves(),
            shape.branches(),
            shape.values,
            shape.levels.len(),
            shape.total().fill_percent()
        )?;
    }
    Ok(())
}

fn live_bytes(store: &StoreSurvey) -> Option<u64> {
    store.free_bytes.map(|free| store.end_bytes() - free)
}

/// Where, which part of what, and what is wrong with it.
fn sentence(finding: &Finding) -> String {
    let mut place = format!("{}, byte {}", finding.file, finding.offset);
    if let Some(page) = finding.page {
        place += &format!(", page {page}");
    }
    if let Some((tree, keys)) = &finding.tree {
        place += &format!(", tree {} {}, {}", tree.index(), tree_name(*tree), span(keys));
    }
    if let Some(entry) = finding.entry {
        place += &format!(", entry {entry}");
    }
    format!("{place}: {}", finding.problem)
}

fn object(survey: &Survey) -> Value {
    json!({
        "status": if survey.findings.is_empty() { "sound" } else { "damaged" },
        "findings": survey.findings.iter().map(finding_object).collect::<Vec<_>>(),
        "unlisted_findings": survey.unlisted,
        "identity": survey.identity.as_ref().map(|identity| json!({
            "name": identity.name,
            "node_id": format!("{:016x}", identity.node_id),
            "cluster_id": identity.cluster_id.to_string(),
            "standing": format!("{:?}", identity.standing).to_lowercase(),
        })),
        "log": log_object(survey),
        "store": survey.store.as_ref().map(store_object),
    })
}

fn finding_object(finding: &Finding) -> Value {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    json!({
        "file": finding.file,
        "offset": finding.offset,
        "page": finding.page,
        "tree": finding.tree.as_ref().map(|(tree, _)| tree.index()),
        "keys": finding.tree.as_ref().map(|(_, keys)| json!({
            "from": text(&keys.low),
            "below": keys.high.as_deref().map(text),
        })),
        "entry": finding.entry,
        "problem": finding.problem,
    })
}

fn log_object(survey: &Survey) -> Value {
    let log = &survey.log;
    json!({
        "segments": log.segments.iter().map(|segment| json!({
            "sequence": segment.sequence,
            "bytes": segment.len_bytes,
            "first_record": segment.first_record,
            "records": segment.records,
            "end": segment.end,
        })).collect::<Vec<_>>(),
        "spares": log.spares,
        "first_index": log.first_index,
        "last": log_id(log.state.last),
        "purged": log_id(log.state.purged),
        "vote": log.state.vote.as_deref().map(vote),
        "torn": log.torn.as_ref().map(|torn| json!({ "file": torn.segment, "offset": torn.offset })),
    })
}

fn store_object(store: &StoreSurvey) -> Value {
    let trees = store.trees.iter().filter(|(_, tree, _)| tree.root.is_some());
    json!({
        "file_bytes": store.file_bytes,
        "live_bytes": live_bytes(store),
        "free_bytes": store.free_bytes,
        "checkpoint": store.meta.sequence,
        "transaction": store.meta.root.txn,
        "applied": log_id(store.facts.applied),
        "revision": store.facts.revision,
        "sessions": store.facts.sessions,
        "trees": trees.map(|(id, _, shape)| json!({
            "number": id.index(),
            "name": tree_name(*id),
            "entries": shape.entries,
            "leaves": shape.leaves(),
            "branches": shape.branches(),
            "values": shape.values,
            "levels": shape.levels.len(),
            "fill_percent": shape.total().fill_percent(),
        })).collect::<Vec<_>>(),
    })
}

fn log_id(id: Option<LogId>) -> Value {
    id.map_or(Value::Null, |id| json!({ "term": id.term, "index": id.index }))
}
