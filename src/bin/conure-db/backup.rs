//! `conure-db verify-backup` and `conure-db restore`: what `GET /backup` gave, checked and brought back to life.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use conuredb::actors::raft::anew::membership_of_one;
use conuredb::env::Chance;
use conuredb::os::OsChance;
use conuredb::storage::TreeId;
use conuredb::storage::backup::file::{About, BackupError, Contents, verify};
use conuredb::storage::backup::restore::{NewNode, RestoreError, restore};
use conuredb::storage::disk::{Disk, FileDisk};
use conuredb::storage::store::StoreOptions;
use conuredb::types::{ClusterId, MAX_NODE_NAME_BYTES, is_node_name};
use serde_json::{Value, json};

use crate::offline::{Failure, Verdict, count, say, size, tree_name};

/// How much of a file is read at a time.
const READ_BYTES: usize = 256 * 1024;

/// What stands for standard input.
const STDIN: &str = "-";

/// Check a backup: read all of it, compare every checksum, see that it is complete
///
/// Exits with 0 when all is sound, 1 when it is damaged or incomplete, 2 when it cannot be read.
#[derive(clap::Args)]
pub struct VerifyArgs {
    /// File that `GET /backup` or `conuresh backup` gave; - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Make a data directory of a backup, for a new cluster that begins with one node
///
/// The node keeps records, revisions, deadlines, the past and what makes retried writes apply once. It founds a cluster
/// with an id of its own, which others join as any cluster (--seeds). Start it with the name given here. The directory
/// must be empty or missing; after an error, or a crash, it is not one that a node starts on.
///
/// Exits with 0 when it is restored, 1 when the backup is damaged or incomplete, 2 when something else is in the way.
#[derive(clap::Args)]
pub struct RestoreArgs {
    /// Backup to restore; - for standard input
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Data directory to make
    #[arg(long, value_name = "DIR", env = "CONURE_DATA_DIR", default_value = "./data")]
    data_dir: PathBuf,
    /// Name of the node that will run on it
    #[arg(long, value_name = "NAME", env = "CONURE_NODE_ID", default_value = "node1", value_parser = node_name)]
    node_id: String,
}

/// The names that `node_id` takes.
fn node_name(text: &str) -> Result<String, String> {
    match is_node_name(text) {
        true => Ok(text.to_owned()),
        false => Err(format!("a name is 1 to {MAX_NODE_NAME_BYTES} of A-Z a-z 0-9 . _ -")),
    }
}

pub fn run_verify(args: &VerifyArgs) -> ExitCode {
    say(|out| {
        let opened = open(&args.file).map_err(|error| unopened(&args.file, error));
        let (verdict, document, text) = match opened.map(verify) {
            Err(reason) if args.json => {
                writeln!(out, "{}", json!({ "status": "unopened", "error": reason }))?;
                return Err(Failure::Unopened(reason));
            }
            Err(reason) => return Err(Failure::Unopened(reason)),
            Ok(Ok(contents)) => {
                let text = describe(&args.file, &contents);
                (Verdict::Sound, object(&contents), text)
            }
            Ok(Err(BackupError::Read { offset, source })) => {
                let reason = format!("{} at byte {offset}", unopened(&args.file, source));
                return Err(Failure::Unopened(reason));
            }
            Ok(Err(error)) => {
                let document = json!({ "status": "damaged", "error": error.to_string(), "offset": offset(&error) });
                (
                    Verdict::Damaged,
                    document,
                    format!("DAMAGED   {}: {error}\n", args.file.display()),
                )
            }
        };
        match args.json {
            true => writeln!(out, "{document}")?,
            false => out.write_all(text.as_bytes())?,
        }
        Ok(verdict)
    })
}

pub fn run_restore(args: &RestoreArgs) -> ExitCode {
    say(|out| {
        let from =
            open(&args.from).map_err(|error| Failure::Unopened(unopened(&args.from, error)))?;
        let disk: Arc<dyn Disk> =
            Arc::new(FileDisk::open(&args.data_dir).map_err(Failure::unopened)?);
        let node = new_node(&args.node_id)?;
        match restore(&disk, StoreOptions::default(), &node, from) {
            Ok(about) => {
                out.write_all(restored(args, &node, &about).as_bytes())?;
                Ok(Verdict::Sound)
            }
            Err(RestoreError::Backup(error)) if is_damage(&error) => {
                writeln!(out, "DAMAGED   {}: {error}", args.from.display())?;
                writeln!(out, "nothing was restored, {} is empty", args.data_dir.display())?;
                Ok(Verdict::Damaged)
            }
            Err(error) => Err(Failure::unopened(error)),
        }
    })
}

/// A node of this name that begins a cluster of its own.
pub fn new_node(name: &str) -> Result<NewNode, Failure> {
    let node_id = OsChance.next_u64();
    Ok(NewNode {
        name: name.to_owned(),
        node_id,
        cluster_id: ClusterId(OsChance.next_u128()),
        membership: membership_of_one(node_id, name).map_err(Failure::unopened)?,
    })
}

fn open(path: &Path) -> io::Result<Box<dyn Read>> {
    Ok(match path.as_os_str() == STDIN {
        true => Box::new(io::stdin().lock()),
        false => Box::new(BufReader::with_capacity(READ_BYTES, File::open(path)?)),
    })
}

fn unopened(path: &Path, error: io::Error) -> String {
    format!("cannot read {}: {error}", path.display())
}

/// Whether the backup itself is at fault.
fn is_damage(error: &BackupError) -> bool {
    !matches!(error, BackupError::Read { .. } | BackupError::Storage(_))
}

/// Where a backup is not what it should be.
fn offset(error: &BackupError) -> u64 {
    match error {
        BackupError::Damaged { offset, .. }
        | BackupError::Truncated { offset }
        | BackupError::Trailing { offset }
        | BackupError::Read { offset, .. } => *offset,
        BackupError::Foreign { .. } | BackupError::Version { .. } | BackupError::Storage(_) => 0,
    }
}

/// The last moment that has a date of four digits.
const LAST_DATE_MS: u64 = 253_402_300_799_000;

fn taken_at(about: &About) -> String {
    let at = UNIX_EPOCH + Duration::from_millis(about.taken_at_ms.min(LAST_DATE_MS));
    humantime::format_rfc3339_seconds(at).to_string()
}

fn describe(file: &Path, contents: &Contents) -> String {
    let about = &contents.about;
    let mut text = format!(
        "backup    of cluster {}, taken {}\n          revision {}, applied {}\n          {} in {}, {}\n",
        about.cluster_id,
        taken_at(about),
        about.revision,
        about.applied,
        count(contents.records(), "record"),
        count(contents.pieces, "piece"),
        size(contents.bytes)
    );
    text.push_str(&format!("          {:<14} {:>12}\n", "tree", "records"));
    for id in TreeId::all().filter(|id| contents.entries(*id) > 0) {
        let name = format!("{} {}", id.index(), tree_name(id));
        text.push_str(&format!("          {name:<14} {:>12}\n", contents.entries(id)));
    }
    text.push_str(&format!("{} is sound and complete\n", file.display()));
    text
}

fn object(contents: &Contents) -> Value {
    let about = &contents.about;
    let trees = TreeId::all().filter(|id| contents.entries(*id) > 0);
    json!({
        "status": "sound",
        "cluster_id": about.cluster_id.to_string(),
        "taken_at_ms": about.taken_at_ms,
        "revision": about.revision,
        "applied": { "term": about.applied.term, "index": about.applied.index },
        "bytes": contents.bytes,
        "pieces": contents.pieces,
        "records": contents.records(),
        "trees": trees.map(|id| json!({
            "number": id.index(),
            "name": tree_name(id),
            "entries": contents.entries(id),
        })).collect::<Vec<_>>(),
    })
}

fn restored(args: &RestoreArgs, node: &NewNode, about: &About) -> String {
    let directory = args.data_dir.display();
    format!(
        "restored  revision {} of cluster {}, taken {}\n          into {directory}, as {} of the new cluster {}\n\
         start it with: conure-db --node-id {} --data-dir {directory}\n",
        about.revision,
        about.cluster_id,
        taken_at(about),
        node.name,
        node.cluster_id,
        node.name,
    )
}
