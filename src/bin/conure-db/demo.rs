//! `conure-db demo`: a cluster to play with, in this process, and a shell on it.
//!
//! ```text
//! cluster    the nodes, each on a thread with an actix system of its own; kill and start
//! links      the network between them, which can be cut by pair
//! commands   what the shell can do to them: nodes, kill, start, partition, heal
//! journal    their log, a file
//! ```
//!
//! The nodes are those that `conure-db` runs, on real files and real sockets of this machine's loopback; a kill drops
//! one where it stands (`actors::node`). However the demo ends, but for SIGKILL, it takes its data with it unless
//! `--keep` says otherwise.

mod cluster;
mod commands;
mod journal;
mod links;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use conuredb::client::{Client, ClientOptions};
use conuredb::shell::{self, Shell, Vocabulary};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use cluster::Cluster;
use commands::Commands;

/// How long the shell looks for a node that answers: all may have been killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a command may take: a write to a node that was cut off waits for that node to give it up (5 s) before
/// another one is asked.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What a shell's exit status adds to the number of the signal that ended a program.
const BY_SIGNAL: i32 = 128;

/// Run a cluster of several nodes here, with a shell to kill and part them
#[derive(clap::Args)]
pub struct Args {
    /// Nodes of the cluster, 1 to 9
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: u8,

    /// Keep the data when the demo ends, and close the nodes in order
    #[arg(long)]
    keep: bool,

    /// Open no shell; run until Ctrl-C or SIGTERM
    #[arg(long)]
    no_shell: bool,

    /// What the nodes log, into a file beside their data
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log_level: String,
}

pub fn run(args: &Args) -> ExitCode {
    match demo(args) {
        Ok(code) => code,
        Err(reason) => {
            eprintln!("conure-db: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn demo(args: &Args) -> Result<ExitCode, String> {
    let failed = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    let home = tempfile::Builder::new().prefix("conure-demo-").tempdir();
    let home =
        home.map_err(failed("cannot make a temporary directory (TMPDIR names its place)"))?;
    let path_of_log = home.path().join("log");
    let log =
        journal::open(&path_of_log, &args.log_level).map_err(failed("cannot open the log"))?;
    let cluster =
        Cluster::new(args.nodes.into(), home.path(), log).map_err(failed("no free port"))?;
    let cluster = Arc::new(cluster);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(failed("cannot start threads"))?;

    let is_prompt = Arc::new(AtomicBool::new(false));
    let ending = Arc::new(Ending {
        cluster: cluster.clone(),
        home: Mutex::new(Some(home)),
        keep: args.keep,
    });
    runtime.spawn(end_by_signal(ending.clone(), is_prompt.clone()));

    let done = runtime.block_on(start_all(&cluster)).and_then(|()| {
        let told = tell_of(&cluster, &path_of_log.display().to_string());
        match args.no_shell {
            true => {
                println!("{told}");
                io::stdout().flush().map_err(failed("cannot write"))?;
                // A signal ends the process.
                runtime.block_on(std::future::pending::<()>());
                Ok(ExitCode::SUCCESS)
            }
            false => {
                eprintln!("{told}\nAlso: nodes, kill ID, start ID, partition ID [ID], heal.");
                is_prompt.store(shell::is_interactive(), Ordering::Relaxed);
                open_shell(&runtime, &cluster)
            }
        }
    });
    runtime.block_on(ending.end());
    done
}

async fn start_all(cluster: &Cluster) -> Result<(), String> {
    eprintln!("starting {} node(s)…", cluster.count());
    for number in 0..cluster.count() {
        cluster.start(number).await?;
    }
    cluster.formed().await
}

/// Where everything is.
fn tell_of(cluster: &Cluster, log: &str) -> String {
    let mut text = String::new();
    for number in 0..cluster.count() {
        let (name, url) = (cluster.name(number), cluster.url(number));
        text.push_str(&format!("{name}  {url}  {}\n", cluster.data_dir(number).display()));
    }
    text.push_str(&format!("log    {log}\n"));
    text.push_str(&format!("try    curl {}/status", cluster.url(0)));
    text
}

fn open_shell(runtime: &Runtime, cluster: &Arc<Cluster>) -> Result<ExitCode, String> {
    let options = ClientOptions {
        patience: PATIENCE,
        timeout: TIMEOUT,
        ..ClientOptions::new(rand::random())
    };
    let client = Client::new(cluster.urls(), options).map_err(|error| error.to_string())?;
    let commands = Commands::new(cluster.clone(), client.clone());
    let vocabulary = Vocabulary { extra: Some(Arc::new(commands)) };
    let shell = Shell { runtime, client, output: None, vocabulary };
    Ok(match shell::is_interactive() {
        true => shell.prompt(),
        false => shell.lines(false),
    })
}

/// Tells the person. After a hangup there is nobody left to tell, and the demo has to end all the same.
fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// What is done once, however the demo ends.
struct Ending {
    cluster: Arc<Cluster>,
    /// Taken by whoever ends the demo.
    home: Mutex<Option<TempDir>>,
    keep: bool,
}

impl Ending {
    /// Ends the nodes and removes their data. Where that is being done already, waits for the end of the process.
    async fn end(&self) {
        let home = self.home.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(home) = home else { return std::future::pending().await };
        if self.keep {
            self.cluster.close_all().await;
            let path = home.keep();
            note(&format!("the data is kept: conure-db check --data-dir {}/node1", path.display()));
            return;
        }
        self.cluster.kill_all().await;
        let path = home.path().to_owned();
        if let Err(error) = home.close() {
            note(&format!("conure-db: {} is left behind: {error}", path.display()));
        }
    }
}

/// Ends the demo when a signal asks for it. At a prompt SIGINT is the terminal's Ctrl-C, which ends a command.
async fn end_by_signal(ending: Arc<Ending>, is_prompt: Arc<AtomicBool>) {
    let by = |kind: SignalKind| (signal(kind), kind.as_raw_value());
    let ((interrupt, int), (terminate, term), (hangup, hup)) =
        (by(SignalKind::interrupt()), by(SignalKind::terminate()), by(SignalKind::hangup()));
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) = (interrupt, terminate, hangup)
    else {
        log::error!("cannot wait for signals: a signal leaves the data behind");
        return;
    };
    let number = loop {
        let number = tokio::select! {
            _ = interrupt.recv() => int,
            _ = terminate.recv() => term,
            _ = hangup.recv() => hup,
        };
        if number != int || !is_prompt.load(Ordering::Relaxed) {
            break number;
        }
    };
    ending.end().await;
    shell::restore_terminal();
    std::process::exit(BY_SIGNAL + number);
}
