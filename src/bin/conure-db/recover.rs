//! `conure-db recover`: a new cluster of one node, from what a survivor of a lost quorum holds.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use conuredb::actors::raft::recover::Survivor;
use conuredb::env::Clock;
use conuredb::os::OsClock;
use conuredb::storage::backup::file::About;
use conuredb::storage::backup::restore::{NewNode, restore};
use conuredb::storage::disk::{Disk, FileDisk};
use conuredb::storage::store::StoreOptions;

use crate::backup::new_node;
use crate::offline::{Failure, Verdict, count, or, say};

/// Make a new cluster of one node from a survivor, when the quorum of the old one is lost for good
///
/// Reads the data directory of a node that is stopped, of all survivors best the one that is furthest (run this without
/// --quorum-is-lost on each and compare the last entries), and makes another directory for a cluster with an id of its own. The
/// survivor's directory stays as it is. What the old cluster acknowledged and this node had not received is missing; what
/// this node received and nobody acknowledged may be there. Nodes of the old cluster and the new one refuse each other.
///
/// Exits with 0 when it is done, 1 when only what would be done was told, 2 when something is in the way.
#[derive(clap::Args)]
pub struct Args {
    /// Data directory of the survivor
    #[arg(long, value_name = "DIR", env = "CONURE_DATA_DIR", default_value = "./data")]
    data_dir: PathBuf,
    /// Data directory to make; empty or missing
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
    /// Says that a majority of the voters is gone and will not come back
    #[arg(long)]
    quorum_is_lost: bool,
}

pub fn run(args: &Args) -> ExitCode {
    say(|out| {
        // To look is to find out whether it is there and nobody uses it; to open would make it.
        FileDisk::open_read_only(&args.data_dir).map_err(Failure::unopened)?;
        let disk: Arc<dyn Disk> =
            Arc::new(FileDisk::open(&args.data_dir).map_err(Failure::unopened)?);
        let survivor = Survivor::open(&disk).map_err(Failure::unopened)?;
        out.write_all(describe(&survivor).as_bytes())?;
        if !args.quorum_is_lost {
            writeln!(
                out,
                "nothing was done: say --quorum-is-lost when a majority of the voters is gone for good"
            )?;
            return Ok(Verdict::Damaged);
        }
        let node = new_node(&survivor.identity.name)?;
        let into: Arc<dyn Disk> = Arc::new(FileDisk::open(&args.into).map_err(Failure::unopened)?);
        let last = survivor.last;
        let backup = survivor.into_backup(OsClock.unix_ms());
        let about =
            restore(&into, StoreOptions::default(), &node, backup).map_err(Failure::unopened)?;
        out.write_all(recovered(args, &node, &about).as_bytes())?;
        writeln!(
            out,
            "MISSING   what the old cluster acknowledged after entry {last} and this node had not received; nothing \
             here tells how much that is"
        )?;
        Ok(Verdict::Sound)
    })
}

fn describe(survivor: &Survivor) -> String {
    let identity = &survivor.identity;
    let members: Vec<String> = survivor
        .members
        .iter()
        .map(|member| {
            format!("{} ({})", member.name, if member.voter { "voter" } else { "learner" })
        })
        .collect();
    format!(
        "survivor  {} of cluster {}, whose members were {}\n          checkpoint {}, {} in the log behind it, the last \
         is {}\n",
        identity.name,
        identity.cluster_id,
        or((!members.is_empty()).then(|| members.join(", ")), "not known"),
        or(survivor.checkpoint, "none"),
        count(survivor.replayed, "record"),
        survivor.last,
    )
}

fn recovered(args: &Args, node: &NewNode, about: &About) -> String {
    let directory = args.into.display();
    format!(
        "recovered revision {} into {directory}, as {} of the new cluster {}\n          start it with: conure-db \
         --node-id {} --data-dir {directory}\n          let others join with empty directories: \
         --seeds http://this-node:8081\n",
        about.revision, node.name, node.cluster_id, node.name,
    )
}
