//! What else a cluster can do while clients write, and what that costs them.
//!
//! Three nodes with keys; closed-loop clients write at the leader. Each round of a work is a pair: the
//! clients alone, then the clients beside it. What is asked of the work is checked: a stream has all keys, a backup
//! its end, every watcher every event, a new node becomes a voter. One wrong byte ends the run.
//!
//! ```text
//! args     the flags                         works   what runs beside the clients
//! body     replies that come in pieces       watch   many watchers, each event counted
//! report   pairs, medians, table, JSON
//! ```

pub mod args;
mod body;
mod report;
mod watch;
mod works;

use std::rc::Rc;

use self::args::BesideArgs;
use self::report::{Pair, Report};
use self::works::Beside;
use crate::cluster::args::{ClusterArgs, Dist, Op, System};
use crate::cluster::client::Running;
use crate::cluster::error::ClusterError;
use crate::cluster::keys::Keys;
use crate::cluster::{self, round};
use crate::data::Rng;

/// Runs the works and prints what they showed.
pub fn run(args: &BesideArgs) -> Result<(), ClusterError> {
    let load = args.load();
    cluster::on_one_thread(measure(args, &load))
}

async fn measure(args: &BesideArgs, load: &ClusterArgs) -> Result<(), ClusterError> {
    let dir = cluster::directory(&load.run)?;
    eprintln!("starting {} nodes", load.nodes);
    let running = Running::start(System::Conure, load, dir.path()).await?;
    let keys = Rc::new(Keys::new(load.keys, load.value_bytes, load.run.seed, true));
    eprintln!("loading {} keys", load.keys);
    round::load(&running, &keys).await?;
    let mut rng = Rng::new(load.run.seed, 0);
    let mut report = Report::default();
    for number in 0..load.rounds {
        for &work in args.works() {
            let alone = round::run(&running, &keys, load, number).await?;
            let beside = Beside::begin(work, args, &running, &keys, dir.path()).await?;
            let with = round::run(&running, &keys, load, number).await?;
            let did = beside.end(&running, &keys).await?;
            round::verify(&running, &keys, &mut rng).await?;
            report.record(number, load.rounds, work, Pair { alone, with, did });
        }
    }
    println!("{}", report.table());
    if args.run.json {
        println!("{}", report.json());
    }
    Ok(())
}

impl BesideArgs {
    /// The clients' part, in the terms of `conure-bench cluster`.
    fn load(&self) -> ClusterArgs {
        ClusterArgs {
            nodes: self.nodes,
            op: Op::Put,
            clients: self.clients,
            value_bytes: self.value_bytes,
            seconds: self.seconds,
            rounds: self.rounds,
            keys: self.keys,
            run: self.run.clone(),
            warmup: 1,
            ops: None,
            dist: Dist::Uniform,
            spread: None,
            vs: None,
            target: Vec::new(),
        }
    }
}
