//! Whole clusters under closed-loop clients: real processes with their files on a real disk.
//!
//! The nodes of each system run on this machine throughout; the rounds alternate between the systems, and
//! which one is first moves on. All keys are known by their last value, so every read is compared with it, and after each
//! round a sample is read at every node: one wrong byte ends the run.
//!
//! ```text
//! args      the flags                      client   a system that runs, and its clients
//! process   nodes as processes, /proc      conure · http   our nodes and a lean client for them
//! keys      which keys, what is in them    etcd            etcd's, through gRPC
//! round     the closed loops               report   medians, ratios, table, JSON
//! ```
//!
//! The clients share one thread of this process; their processor time is among the figures. What is left out: clients
//! on other machines, TLS, values that compress.

pub mod args;
pub mod client;
pub mod conure;
pub mod error;
#[cfg(feature = "bench-peers")]
mod etcd;
pub mod http;
pub mod keys;
mod process;
mod report;
pub mod round;

use std::rc::Rc;

use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use self::args::{ClusterArgs, Op, RunArgs, System};
use self::client::Running;
use self::error::ClusterError;
use self::keys::Keys;
use self::report::Report;
use crate::data::Rng;

/// Runs the rounds and prints what they showed.
pub fn run(args: &ClusterArgs) -> Result<(), ClusterError> {
    if args.keys < args.clients {
        let what = "--keys is below --clients: each key belongs to one client";
        return Err(ClusterError::Misuse { what });
    }
    if args.vs.is_some() && cfg!(not(feature = "bench-peers")) {
        return Err(ClusterError::NotBuilt);
    }
    on_one_thread(measure(args))
}

/// Runs to its end, or to a signal that ends the program.
pub fn on_one_thread(
    measure: impl Future<Output = Result<(), ClusterError>>,
) -> Result<(), ClusterError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(ClusterError::io("start a runtime"))?;
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let mut terminate =
            signal(SignalKind::terminate()).map_err(ClusterError::io("wait for signals"))?;
        // Whichever ends first, the nodes are dropped: killed, and their files removed.
        tokio::select! {
            measured = measure => measured,
            _ = tokio::signal::ctrl_c() => Err(ClusterError::Interrupted),
            _ = terminate.recv() => Err(ClusterError::Interrupted),
        }
    })
}

/// Where the nodes' files go; removed when it is dropped.
pub fn directory(args: &RunArgs) -> Result<TempDir, ClusterError> {
    let mut builder = tempfile::Builder::new();
    let dir = builder.prefix("conure-bench-");
    let dir = match &args.dir {
        Some(parent) => dir.tempdir_in(parent),
        None => dir.tempdir(),
    };
    dir.map_err(ClusterError::io("make a directory for the nodes (see --dir)"))
}

async fn measure(args: &ClusterArgs) -> Result<(), ClusterError> {
    let systems = args.systems();
    // Declared before the nodes, so that it is removed after they are killed.
    let dir = directory(&args.run)?;
    let mut all: Vec<(Running, Rc<Keys>)> = Vec::new();
    for &system in &systems {
        eprintln!("starting {system}");
        let running = Running::start(system, args, dir.path()).await?;
        let is_new = args.target.is_empty() || system != System::Conure;
        let keys = Rc::new(Keys::new(args.keys, args.value_bytes, args.run.seed, is_new));
        if args.op.reads() {
            eprintln!("{system}: loading {} keys", args.keys);
            round::load(&running, &keys).await?;
        }
        all.push((running, keys));
    }
    let mut report = Report::default();
    let mut rng = Rng::new(args.run.seed, 0);
    for number in 0..args.rounds {
        let first = number as usize % all.len();
        let (later, earlier) = all.split_at(first);
        for (running, keys) in earlier.iter().chain(later) {
            if args.op == Op::GetStale {
                // A linearizable read at every node: nothing is behind what was loaded any more.
                round::verify(running, keys, &mut rng).await?;
            }
            let figures = round::run(running, keys, args, number).await?;
            report.record(number, args.rounds, running.system, figures);
            round::verify(running, keys, &mut rng).await?;
        }
    }
    println!("{}", report.table(&systems));
    if args.run.json {
        println!("{}", report.json(args, &systems));
    }
    Ok(())
}
