//! `conure-db`: a node, and what looks into a node's data while it does not run.
//!
//! ```text
//! serve     without a subcommand: reads the settings, runs a node
//! check     says whether a data directory is sound, and what of it is not
//! inspect   shows what its files hold     inspect/page   one page     inspect/log   segments and records
//! offline   the data directory of the two, opened so that nothing changes
//! backup    verify-backup and restore: a backup checked, and made a data directory again
//! recover   a cluster of one node from a survivor, when the quorum is lost for good
//! demo      several nodes in this process, and a shell that kills and parts them
//! ```
//!
//! Exit status of a node: 0 after an ordered close, 1 when it could not start or had to stop, 2 for bad
//! settings. Of the others: 0 sound or done, 1 damaged, 2 what they need cannot be opened or is not there.
#![allow(clippy::disallowed_methods)] // a binary is the outermost layer

mod backup;
mod check;
mod demo;
mod inspect;
mod offline;
mod recover;
mod serve;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use conuredb::config::Cli;
use conuredb::os::pages::{Completions, Man};
use mimalloc::MiMalloc;

/// What one thread allocates for a request another one frees. With the allocator of the C library a seventh of the
/// processor time of the nodes went into that.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// A node of ConureDB, a distributed key-value store.
///
/// Settings come from defaults, overruled by the file, by the environment (CONURE_NODE_ID,
/// CONURE_LIMITS__MAX_VALUE_BYTES) and by flags, in this order.
#[derive(Parser)]
#[command(name = "conure-db", version)]
struct Program {
    #[command(flatten)]
    node: Cli,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    Check(check::Args),
    Inspect(inspect::Args),
    VerifyBackup(backup::VerifyArgs),
    Restore(backup::RestoreArgs),
    Recover(recover::Args),
    Demo(demo::Args),
    Completions(Completions),
    Man(Man),
}

fn main() -> ExitCode {
    let program = Program::parse();
    match program.command {
        None => serve::run(&program.node),
        Some(_) if program.node.has_flags() => {
            eprintln!(
                "conure-db: flags of a node stand without a subcommand; those of one, behind it"
            );
            ExitCode::from(2)
        }
        Some(Command::Check(args)) => check::run(&args),
        Some(Command::Inspect(args)) => inspect::run(&args),
        Some(Command::VerifyBackup(args)) => backup::run_verify(&args),
        Some(Command::Restore(args)) => backup::run_restore(&args),
        Some(Command::Recover(args)) => recover::run(&args),
        Some(Command::Demo(args)) => demo::run(&args),
        Some(Command::Completions(wanted)) => wanted.run(Program::command()),
        Some(Command::Man(wanted)) => wanted.run(Program::command()),
    }
}
