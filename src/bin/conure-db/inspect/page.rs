//! One page of the store.

use std::io::{self, Write};

use conuredb::storage::inspect::StoreFile;
use conuredb::storage::inspect::page::{Body, Carried, Content, NodeDump};

use super::{place, print_meta};
use crate::offline::{Failure, Verdict, or, quoted};

pub fn show(out: &mut dyn Write, store: &StoreFile, number: u64) -> Result<Verdict, Failure> {
    let Some(page) = store.page(number).map_err(Failure::unopened)? else {
        let len = store.len_bytes();
        let what = format!("{}: page {number} is behind its {len} bytes", store.location());
        return Err(Failure::Unopened(what));
    };
    let state = match page.is_live {
        Some(true) => "live",
        Some(false) => "free: what stands there is of the past, or nothing",
        None => "live or free, which the map cannot say",
    };
    writeln!(out, "page {number}, byte {}, {} bytes, {state}", page.offset, page.len_bytes)?;
    let is_free = page.is_live == Some(false);
    match page.content {
        Content::Meta { meta, in_force } => {
            let meta = meta.as_deref();
            print_meta(out, number, meta, in_force)?;
            Ok(if meta.is_ok() { Verdict::Sound } else { Verdict::Damaged })
        }
        Content::Other { first_bytes } => {
            writeln!(out, "no page begins here; the first bytes are {}", quoted(&first_bytes))?;
            Ok(Verdict::Sound)
        }
        Content::Extent { kind, reference, checksum, damage, body } => {
            let kind = kind.map(|kind| format!("{kind:?}").to_lowercase());
            writeln!(out, "  kind      {}", or(kind, "unknown"))?;
            writeln!(out, "  says      {}", place(reference))?;
            let agrees =
                if checksum.stored == checksum.computed { "matches" } else { "does NOT match" };
            let (stored, computed) = (checksum.stored, checksum.computed);
            writeln!(out, "  checksum  {stored:08x} stored, {computed:08x} computed: {agrees}")?;
            if let Some(body) = body {
                print_body(out, &body)?;
            }
            let Some(damage) = damage else { return Ok(Verdict::Sound) };
            writeln!(out, "  DAMAGED: {damage}")?;
            // Nobody reads a free page.
            Ok(if is_free { Verdict::Sound } else { Verdict::Damaged })
        }
    }
}

fn print_body(out: &mut dyn Write, body: &Body) -> io::Result<()> {
    match body {
        Body::Node(node) => print_node(out, node),
        Body::Value { len_bytes, first_bytes } => {
            writeln!(out, "  payload   {len_bytes} bytes, first {}", quoted(first_bytes))
        }
        Body::MapRoot(groups) => {
            writeln!(out, "  map root of {} groups", groups.len())?;
            for (number, (page, free)) in groups.iter().enumerate() {
                let page = or(page.map(place), "no page, all of it is free");
                writeln!(out, "  group {number:<5} {free:>6} free, {page}")?;
            }
            Ok(())
        }
        Body::MapGroup { pages: Some(pages), live } => {
            let free = (pages.end - pages.start).saturating_sub((*live).into());
            writeln!(
                out,
                "  map of pages {} to {}: {live} live, {free} free",
                pages.start,
                pages.end - 1
            )
        }
        Body::MapGroup { pages: None, live } => {
            writeln!(out, "  map that the map root does not name: {live} live")
        }
    }
}

fn print_node(out: &mut dyn Write, node: &NodeDump) -> io::Result<()> {
    let NodeDump { level, prefix, used_bytes, dead_bytes, cells } = node;
    writeln!(out, "  level     {level}")?;
    writeln!(out, "  cells     {}, {used_bytes} bytes used, {dead_bytes} dead", cells.len())?;
    writeln!(out, "  prefix    {} bytes, {}", prefix.len(), quoted(prefix))?;
    for (slot, cell) in cells.iter().enumerate() {
        let carries = match cell.carries {
            Carried::Value { len_bytes } => format!("value of {len_bytes} bytes"),
            Carried::LongValue { len_bytes, head_bytes, page } => {
                format!(
                    "value of {len_bytes} bytes, {head_bytes} here, the rest on {}",
                    place(page)
                )
            }
            Carried::Child(page) => format!("child on {}", place(page)),
        };
        writeln!(out, "  {slot:>4} at {:>5}  {}  {carries}", cell.offset, quoted(&cell.key))?;
    }
    Ok(())
}
