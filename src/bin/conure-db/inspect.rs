//! `conure-db inspect`: what lies in the files of a data directory, to be read beside docs/FORMAT.md.

mod log;
mod page;

use std::io::Write;
use std::process::ExitCode;

use clap::Subcommand;
use conuredb::storage::TreeId;
use conuredb::storage::inspect::{Meta, MetaError, PageRef, StoreFile};
use conuredb::storage::kv::layout::KvFacts;
use conuredb::storage::kv::{FILE, TREE_NAMES};

use crate::offline::{DataDir, Failure, Verdict, count, or, say, span, tree_name};

/// Show what a data directory holds, byte by byte
///
/// Without more: the meta pages and the log. Exits with 0, with 1 when what it shows is damaged, with 2 when the
/// directory cannot be opened or there is no such thing in it.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    dir: DataDir,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand)]
enum What {
    /// Both meta pages, and which one is in force
    Meta,
    /// One page: header, checksum, cells
    Page { number: u64 },
    /// The shape of a tree, by name or number: levels, nodes, fill
    Tree { tree: String },
    /// The log's segments
    Log,
    /// One segment of the log: its header and its records
    Segment { sequence: u32 },
}

pub fn run(args: &Args) -> ExitCode {
    say(|out| {
        let disk = args.dir.open().map_err(Failure::unopened)?;
        let store = || {
            let file = StoreFile::open(&*disk).map_err(Failure::unopened)?;
            file.ok_or_else(|| {
                Failure::Unopened(format!("{}: there is no such file", disk.locate(FILE)))
            })
        };
        match &args.what {
            None => {
                let verdicts = [meta(out, &store()?)?, log::segments(out, &*disk)?];
                Ok(if verdicts.contains(&Verdict::Damaged) {
                    Verdict::Damaged
                } else {
                    Verdict::Sound
                })
            }
            Some(What::Meta) => meta(out, &store()?),
            Some(What::Page { number }) => page::show(out, &store()?, *number),
            Some(What::Tree { tree }) => shape(out, &store()?, tree_called(tree)?),
            Some(What::Log) => log::segments(out, &*disk),
            Some(What::Segment { sequence }) => log::segment(out, &*disk, *sequence),
        }
    })
}

fn meta(out: &mut dyn Write, store: &StoreFile) -> Result<Verdict, Failure> {
    writeln!(out, "{}, {} bytes", store.location(), store.len_bytes())?;
    let in_force = store.meta();
    for (number, page) in store.meta_pages().iter().enumerate() {
        let is_in_force = matches!((page, &in_force), (Ok(page), Ok(meta)) if page == meta);
        print_meta(out, number as u64, page.as_ref(), is_in_force)?;
    }
    match in_force {
        Err(error) if !error.is_corrupt() => Err(Failure::unopened(error)),
        _ if store.meta_pages().iter().all(Result::is_ok) => Ok(Verdict::Sound),
        _ => Ok(Verdict::Damaged),
    }
}

/// A meta page, field by field.
fn print_meta(
    out: &mut dyn Write,
    number: u64,
    page: Result<&Meta, &MetaError>,
    is_in_force: bool,
) -> std::io::Result<()> {
    let meta = match page {
        Ok(meta) => meta,
        Err(error) => return writeln!(out, "meta page {number}: {error}"),
    };
    writeln!(out, "meta page {number}{}", if is_in_force { ", in force" } else { "" })?;
    writeln!(out, "  checkpoint   {}", meta.sequence)?;
    writeln!(out, "  transaction  {}", meta.root.txn)?;
    writeln!(out, "  end          {} pages", meta.end)?;
    writeln!(out, "  map root     {}", or(meta.map.map(place), "none, nothing is free"))?;
    let facts = KvFacts::decode(&meta.root.facts);
    writeln!(
        out,
        "  facts        applied {}, revision {}, {}",
        or(facts.applied, "nothing"),
        facts.revision,
        count(facts.sessions, "session")
    )?;
    for id in TreeId::all() {
        let tree = meta.root.tree(id);
        if let Some(root) = tree.root {
            let name = format!("{} {}", id.index(), tree_name(id));
            writeln!(out, "  tree {name:<14} {} entries, {}", tree.len, place(root))?;
        }
    }
    Ok(())
}

fn shape(out: &mut dyn Write, store: &StoreFile, id: TreeId) -> Result<Verdict, Failure> {
    let (shape, damages, count) = store.shape(id).map_err(Failure::unopened)?;
    writeln!(out, "tree {} {}: {} entries", id.index(), tree_name(id), shape.entries)?;
    if shape.values > 0 {
        writeln!(out, "{} values in {} pages of their own", shape.values, shape.value_pages)?;
    }
    writeln!(
        out,
        "{:>5} {:>10} {:>12} {:>6} {:>12} {:>9} {:>12}",
        "level", "nodes", "cells", "fill", "cells/node", "key", "prefix"
    )?;
    for (number, level) in shape.levels.iter().enumerate().rev() {
        let average = |sum: u64, of: u64| sum as f64 / of.max(1) as f64;
        writeln!(
            out,
            "{number:>5} {:>10} {:>12} {:>5}% {:>12.1} {:>7.1} B {:>10.1} B",
            level.nodes,
            level.cells,
            level.fill_percent(),
            average(level.cells, level.nodes),
            average(level.key_bytes, level.cells),
            average(level.prefix_bytes, level.nodes)
        )?;
    }
    for damage in &damages {
        let keys = damage.tree.as_ref().map(|(_, keys)| span(keys));
        writeln!(
            out,
            "DAMAGED: page {}, {}: {}",
            damage.page,
            or(keys, "free space"),
            damage.error
        )?;
    }
    if count > damages.len() as u64 {
        writeln!(out, "DAMAGED: and {} more places", count - damages.len() as u64)?;
    }
    Ok(if count == 0 { Verdict::Sound } else { Verdict::Damaged })
}

fn tree_called(text: &str) -> Result<TreeId, Failure> {
    let named = TREE_NAMES.iter().find(|(_, name)| *name == text).map(|(id, _)| *id);
    let numbered = || TreeId::all().find(|id| id.index().to_string() == text);
    named.or_else(numbered).ok_or_else(|| {
        let names: Vec<&str> = TREE_NAMES.iter().map(|(_, name)| *name).collect();
        let most = TreeId::all().count() - 1;
        Failure::Unopened(format!(
            "there is no tree {text:?}: {}, or 0 to {most}",
            names.join(", ")
        ))
    })
}

/// A reference: where it leads, and what it expects there.
fn place(at: PageRef) -> String {
    let pages = if at.span == 1 { String::new() } else { format!(" to {}", at.end() - 1) };
    format!("page {}{pages}, birth {}", at.number, at.birth)
}
