//! Nodes and programs for tests: what goes wrong with a process is a failure of the test, told with the node's log.
//! The processes themselves are `conuredb::processes`, which `conure-soak` has in common with these tests.

use std::fs::{self, File};
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::{Command, ExitStatus, Output};
use std::time::Instant;

use conuredb::processes::{self, NodeProcess, ProcessError, node};
use rustix::process::Signal;

pub use conuredb::processes::{LOOK_EVERY, PATIENCE};

/// A node. Dropped, it is killed and its directory removed.
pub struct Node {
    process: NodeProcess,
    pub http: reqwest::Client,
}

impl Deref for Node {
    type Target = NodeProcess;

    fn deref(&self) -> &NodeProcess {
        &self.process
    }
}

impl DerefMut for Node {
    fn deref_mut(&mut self) -> &mut NodeProcess {
        &mut self.process
    }
}

impl Node {
    /// Starts a node with these flags beside its name, directory and addresses, and waits until it answers.
    pub async fn start(name: &str, flags: &[&str]) -> Node {
        Node::start_process(made(name, flags)).await
    }

    /// Starts a node whose data directory is elsewhere.
    pub async fn start_at(name: &str, flags: &[&str], data_dir: &Path) -> Node {
        Node::start_process(made(name, flags).with_data_dir(data_dir)).await
    }

    async fn start_process(process: NodeProcess) -> Node {
        // A connection kept from before a restart would fail the first request after it.
        let http = reqwest::Client::builder().pool_max_idle_per_host(0).no_proxy();
        let http = http.timeout(PATIENCE).build().expect("an HTTP client");
        let mut node = Node { process, http };
        must(node.process.start().await);
        node
    }

    /// Starts the node again, on its directory and its addresses.
    pub async fn restart(&mut self) {
        must(self.process.restart().await);
    }

    pub fn signal(&self, signal: Signal) {
        must(self.process.signal(signal));
    }

    /// SIGKILL: no last words, no last writes.
    pub fn kill(&mut self) {
        must(self.process.kill());
    }

    /// SIGTERM, and how it ended.
    pub async fn terminate(&mut self) -> ExitStatus {
        must(self.process.terminate().await)
    }

    /// Waits until the process ends by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        must(self.process.ended().await)
    }

    /// The memory of the process that is in RAM.
    pub fn resident_bytes(&self) -> u64 {
        must(self.process.resident_bytes())
    }

    /// Forgets everything the stopped node had on its disk.
    pub fn wipe(&self) {
        must(self.process.wipe());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (name, address) = (&self.name, self.raft_addr());
            eprintln!("──── log of {name} ({address}):\n{}\n", self.last_words());
        }
    }
}

fn made(name: &str, flags: &[&str]) -> NodeProcess {
    must(NodeProcess::new(Path::new(env!("CARGO_BIN_EXE_conure-db")), name, flags))
}

#[track_caller]
fn must<T>(done: Result<T, ProcessError>) -> T {
    done.unwrap_or_else(|error| panic!("{error}"))
}

/// The binary, untouched by settings in this environment.
pub fn conure_db() -> Command {
    node::program(Path::new(env!("CARGO_BIN_EXE_conure-db")))
}

/// `conuresh` against this node.
pub fn conuresh(node: &Node, arguments: &[&str]) -> Command {
    let mut command = node::program(Path::new(env!("CARGO_BIN_EXE_conuresh")));
    command.args(["--server", &node.url()]).args(arguments);
    command
}

/// Runs a command that ends by itself; kills it when it does not.
pub async fn run(mut command: Command) -> Output {
    let home = tempfile::tempdir().expect("a temporary directory");
    let (out, err) = (home.path().join("out"), home.path().join("err"));
    command.stdout(File::create(&out).expect("a file")).stderr(File::create(&err).expect("a file"));
    let mut child = command.spawn().expect("the binary runs");
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            break status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let said = fs::read_to_string(&err).unwrap_or_default();
            panic!("{command:?} does not end:\n{said}");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    Output {
        status,
        stdout: fs::read(out).expect("its output"),
        stderr: fs::read(err).expect("its errors"),
    }
}

/// Waits until `look` gives something.
pub async fn until<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    must(processes::until(what, PATIENCE, look).await)
}
