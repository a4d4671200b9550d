//! `conure-soak`: clusters of real processes under verified clients, while things go wrong.
//!
//! What `conure-sim` proves of thousands of schedules is shown here of the programs as they are shipped: real disks,
//! sockets, signals and clocks. docs/TESTING.md tells what each fault is and what is checked. In the order to read:
//!
//! ```text
//! cli       the command line                     tools     what this machine allows
//! fleet     the nodes: founding, leader, health  network   a relay for each pair of nodes, that can cut and delay
//! disks     a file system for each node          clocks    a wall clock for each node
//! kinds     what can go wrong, by name           faults    how it is done, and mended
//! foreign   another cluster, misrouted           rollback  an old copy of a data directory
//! http      requests that are sent once          findings  what was found, and counted
//! workload  the clients, and what they remember  judge     what it has to look like in the end
//! watchers  clients that are told of all of it   soak      rounds of all that
//! failover  how long writes wait when the leader goes
//! ```
//!
//! Exit status: 0 when nothing was found, 1 when a promise was broken or the cluster did not run, 2 when
//! wrongly used.
#![allow(clippy::disallowed_methods)] // a binary is the outermost layer

mod cli;
mod clocks;
mod disks;
mod failover;
mod faults;
mod findings;
mod fleet;
mod foreign;
mod http;
mod judge;
mod kinds;
mod network;
mod rollback;
mod soak;
mod tools;
mod watchers;
mod workload;

use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use cli::{Cli, Command};

/// What ends a run before its verdict: the nodes cannot be run, or not in the way that was asked for.
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let done = runtime.block_on(async {
        let work = async {
            match &cli.command {
                Some(Command::Failover(args)) => failover::run(&cli.common, args).await,
                None => soak::run(&cli.common, &cli.soak).await,
            }
        };
        tokio::select! {
            done = work => done,
            why = interrupted() => {
                Err(format!("{why}; the nodes are stopped and their files removed").into())
            }
        }
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(&error),
    }
}

/// Waits for a signal that asks this program to end.
async fn interrupted() -> String {
    let mut terminate = match signal(SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => return format!("signals cannot be waited for: {error}"),
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => "interrupted".to_owned(),
        _ = terminate.recv() => "terminated".to_owned(),
    }
}

fn fail(error: &Failure) -> ExitCode {
    eprintln!("conure-soak: {error}");
    ExitCode::FAILURE
}
