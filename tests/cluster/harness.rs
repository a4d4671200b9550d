//! One `conure-db` process: its directory, its ports, its log, and the signals it gets.
//!
//! Ports are chosen by binding port 0 and letting go. Another program may take one before the node does: a first
//! start then takes other ports, a restart (whose address its peers know) waits for it to be free again.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long anything may take on a busy machine before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Pause between two looks at a condition.
pub const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Lines of a node's log that a failing test prints.
const LOG_TAIL_LINES: usize = 150;

/// A node. Dropped, it is killed and its directory removed.
pub struct Node {
    pub name: String,
    home: TempDir,
    data_dir: PathBuf,
    raft_port: u16,
    http_port: u16,
    flags: Vec<String>,
    process: Option<Child>,
    pub http: reqwest::Client,
}

impl Node {
    /// Starts a node with these flags beside its name, directory and addresses, and waits until it answers.
    pub async fn start(name: &str, flags: &[&str]) -> Node {
        let home = tempfile::tempdir().expect("a temporary directory");
        let data_dir = home.path().join("data");
        Node::start_in(name, flags, home, data_dir).await
    }

    /// Starts a node whose data directory is elsewhere.
    pub async fn start_at(name: &str, flags: &[&str], data_dir: &Path) -> Node {
        let home = tempfile::tempdir().expect("a temporary directory");
        Node::start_in(name, flags, home, data_dir.to_owned()).await
    }

    async fn start_in(name: &str, flags: &[&str], home: TempDir, data_dir: PathBuf) -> Node {
        // A connection kept from before a restart would fail the first request after it.
        let http = reqwest::Client::builder().pool_max_idle_per_host(0).no_proxy();
        let mut node = Node {
            name: name.to_owned(),
            home,
            data_dir,
            raft_port: free_port(),
            http_port: free_port(),
            flags: flags.iter().map(ToString::to_string).collect(),
            process: None,
            http: http.timeout(PATIENCE).build().expect("an HTTP client"),
        };
        loop {
            node.spawn();
            match node.answers().await {
                Ok(()) => return node,
                Err(Lost::Port) => (node.raft_port, node.http_port) = (free_port(), free_port()),
                Err(Lost::Otherwise(status)) => panic!("{name} ended with {status}"),
            }
        }
    }

    /// Starts the node again, on its directory and its addresses.
    pub async fn restart(&mut self) {
        assert!(self.process.is_none(), "{} still runs", self.name);
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.spawn();
            match self.answers().await {
                Ok(()) => return,
                Err(Lost::Port) if Instant::now() < deadline => {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                Err(Lost::Port) => panic!("{}: somebody else keeps its port", self.name),
                Err(Lost::Otherwise(status)) => panic!("{} ended with {status}", self.name),
            }
        }
    }

    fn spawn(&mut self) {
        let log = || OpenOptions::new().create(true).append(true).open(self.log_path());
        let child = self
            .command()
            .stdout(log().expect("a log file"))
            .stderr(log().expect("a log file"))
            .spawn()
            .expect("the binary runs");
        self.process = Some(child);
    }

    /// The command that runs this node.
    pub fn command(&self) -> Command {
        let mut command = conure_db();
        command.current_dir(self.home.path());
        command.args(["--node-id", &self.name, "--data-dir"]).arg(&self.data_dir);
        command.args(["--raft-addr", &self.raft_addr(), "--http-addr", &self.http_addr()]);
        command.args(&self.flags);
        command
    }

    /// Waits until HTTP is answered or the process has ended.
    async fn answers(&mut self) -> Result<(), Lost> {
        let begun = self.log().len();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.try_get("/livez").await.is_ok_and(|reply| reply.status == 200) {
                return Ok(());
            }
            if let Some(status) = self.has_ended() {
                return Err(match self.log()[begun..].contains("cannot listen") {
                    true => Lost::Port,
                    false => Lost::Otherwise(status),
                });
            }
            assert!(Instant::now() < deadline, "{} gives no answer", self.name);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    pub fn raft_addr(&self) -> String {
        format!("127.0.0.1:{}", self.raft_port)
    }

    pub fn http_addr(&self) -> String {
        format!("127.0.0.1:{}", self.http_port)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.http_addr())
    }

    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    fn log_path(&self) -> PathBuf {
        self.home.path().join("log")
    }

    /// All that the process has said, over all its starts.
    pub fn log(&self) -> String {
        fs::read(self.log_path())
            .map_or(String::new(), |log| String::from_utf8_lossy(&log).into_owned())
    }

    /// Lines of the log with `text` in them.
    pub fn log_lines(&self, text: &str) -> Vec<String> {
        self.log().lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }

    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(self.process.as_ref().expect("a running node"))
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("a signal to a process of our own");
    }

    /// SIGKILL: no last words, no last writes.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        let mut process = self.process.take().expect("a running node");
        process.wait().expect("the process was reaped");
    }

    /// SIGTERM, and how it ended.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// Waits until the process ends by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let name = self.name.clone();
        until(&format!("{name} to end"), async || self.has_ended()).await
    }

    fn has_ended(&mut self) -> Option<ExitStatus> {
        let status = self.process.as_mut()?.try_wait().expect("a child of ours")?;
        self.process = None;
        Some(status)
    }

    /// The memory of the process that is in RAM.
    pub fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid().as_raw_nonzero().get());
        let status = fs::read_to_string(path).expect("a running node");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        kib.expect("VmRSS in kB") * 1024
    }

    /// Forgets everything the stopped node had on its disk.
    pub fn wipe(&self) {
        assert!(!self.is_running(), "{} still runs", self.name);
        fs::remove_dir_all(&self.data_dir).expect("a data directory to remove");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Also one that is stopped; it may have ended by itself meanwhile.
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..];
            eprintln!("──── log of {} ({}):\n{}\n", self.name, self.raft_addr(), tail.join("\n"));
        }
    }
}

/// Why a process that was started gives no answer.
enum Lost {
    Port,
    Otherwise(ExitStatus),
}

/// The binary, untouched by settings in this environment.
pub fn conure_db() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conure-db"));
    command.env_clear().env("RUST_BACKTRACE", "1").stdin(Stdio::null());
    command
}

/// `conuresh` against this node.
pub fn conuresh(node: &Node, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conuresh"));
    command.env_clear().args(["--server", &node.url()]).args(arguments).stdin(Stdio::null());
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
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A port that was free a moment ago and was not given to another node of these tests.
fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        if GIVEN.lock().expect("no panic while it is held").insert(port) {
            return port;
        }
    }
}
