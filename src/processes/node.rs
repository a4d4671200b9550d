//! One `conure-db` process: its directory, its ports, its log, and the signals it gets.
//!
//! Ports are chosen by binding port 0 and letting go. Another program may take one before the node does: a first
//! start then takes other ports, a restart (whose address its peers know) waits for it to be free again.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::error::ProcessError;
use super::ports::free_port;
use super::wait::{LOOK_EVERY, PATIENCE, until};

/// Lines of a node's log that an error shows.
const LOG_TAIL_LINES: usize = 150;

/// What a node may take to answer that it lives before it is asked again.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// A node. Dropped, it is killed and its directory removed.
pub struct NodeProcess {
    pub name: String,
    program: PathBuf,
    home: TempDir,
    data_dir: PathBuf,
    raft_port: u16,
    http_port: u16,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    process: Option<Child>,
}

/// Why a process that was started gives no answer.
enum Lost {
    Port,
    Otherwise(ExitStatus),
}

impl NodeProcess {
    /// A node with these flags beside its name, directory and addresses. It does not run yet.
    pub fn new(
        program: &Path,
        name: &str,
        flags: &[impl AsRef<str>],
    ) -> Result<NodeProcess, ProcessError> {
        let io = |action| move |source| ProcessError::Io { name: name.to_owned(), action, source };
        let home = tempfile::tempdir().map_err(io("make a directory"))?;
        Ok(NodeProcess {
            name: name.to_owned(),
            program: program.to_owned(),
            data_dir: home.path().join("data"),
            home,
            raft_port: free_port().map_err(io("find a free port"))?,
            http_port: free_port().map_err(io("find a free port"))?,
            flags: flags.iter().map(|flag| flag.as_ref().to_owned()).collect(),
            environment: Vec::new(),
            process: None,
        })
    }

    /// The same with its data elsewhere.
    pub fn with_data_dir(mut self, data_dir: &Path) -> NodeProcess {
        self.data_dir = data_dir.to_owned();
        self
    }

    /// Sets a variable for the next starts. There are no others than those that are set here.
    pub fn set_environment(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Replaces the flags for the next starts.
    pub fn set_flags(&mut self, flags: &[impl AsRef<str>]) {
        self.flags = flags.iter().map(|flag| flag.as_ref().to_owned()).collect();
    }

    /// Gives the node other ports for the next starts.
    pub fn move_away(&mut self) -> Result<(), ProcessError> {
        let port = || free_port().map_err(self.io("find a free port"));
        (self.raft_port, self.http_port) = (port()?, port()?);
        Ok(())
    }

    /// Gives two nodes each other's ports for the next starts.
    pub fn swap_places(&mut self, other: &mut NodeProcess) {
        std::mem::swap(&mut self.raft_port, &mut other.raft_port);
        std::mem::swap(&mut self.http_port, &mut other.http_port);
    }

    /// Starts the node for the first time, and waits until it answers.
    pub async fn start(&mut self) -> Result<(), ProcessError> {
        loop {
            self.spawn()?;
            match self.answers().await? {
                Ok(()) => return Ok(()),
                Err(Lost::Port) => self.move_away()?,
                Err(Lost::Otherwise(status)) => return Err(self.end(status)),
            }
        }
    }

    /// Starts the node again, on its directory and its addresses, and waits until it answers.
    pub async fn restart(&mut self) -> Result<(), ProcessError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.spawn()?;
            match self.answers().await? {
                Ok(()) => return Ok(()),
                Err(Lost::Port) if Instant::now() < deadline => {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                Err(Lost::Port) => return Err(ProcessError::PortTaken { name: self.name.clone() }),
                Err(Lost::Otherwise(status)) => return Err(self.end(status)),
            }
        }
    }

    /// Starts the process, and waits for nothing.
    pub fn spawn(&mut self) -> Result<(), ProcessError> {
        assert!(self.process.is_none(), "{} still runs", self.name);
        let path = self.log_path();
        let log = || OpenOptions::new().create(true).append(true).open(&path);
        let spawn = || self.command().stdout(log()?).stderr(log()?).spawn();
        self.process = Some(spawn().map_err(self.io("start it"))?);
        Ok(())
    }

    /// Waits until a process that was started by [`NodeProcess::spawn`] answers.
    pub async fn wait_until_up(&mut self) -> Result<(), ProcessError> {
        match self.answers().await? {
            Ok(()) => Ok(()),
            Err(Lost::Port) => Err(ProcessError::PortTaken { name: self.name.clone() }),
            Err(Lost::Otherwise(status)) => Err(self.end(status)),
        }
    }

    /// The command that runs this node.
    pub fn command(&self) -> Command {
        let mut command = program(&self.program);
        command.current_dir(self.home.path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.args(["--node-id", &self.name, "--data-dir"]).arg(&self.data_dir);
        command.args(["--raft-addr", &self.raft_addr(), "--http-addr", &self.http_addr()]);
        command.args(&self.flags);
        command
    }

    /// Waits until HTTP is answered or the process has ended.
    async fn answers(&mut self) -> Result<Result<(), Lost>, ProcessError> {
        let begun = self.log().len();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if lives(&self.http_addr()).await {
                return Ok(Ok(()));
            }
            if let Some(status) = self.has_ended()? {
                return Ok(Err(match self.log()[begun..].contains("cannot listen") {
                    true => Lost::Port,
                    false => Lost::Otherwise(status),
                }));
            }
            if Instant::now() > deadline {
                let what = format!("{} to answer", self.name);
                return Err(ProcessError::Waited { what, limit: PATIENCE });
            }
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

    /// Where the node's log is, and its data unless they are elsewhere.
    pub fn home(&self) -> &Path {
        self.home.path()
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

    /// The end of the log.
    pub fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }

    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// The process, while it runs.
    pub fn pid(&self) -> Option<Pid> {
        self.process.as_ref().map(Pid::from_child)
    }

    pub fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        let pid = self.pid().ok_or_else(|| self.not_running())?;
        kill_process(pid, signal).map_err(|error| self.io("signal it")(error.into()))
    }

    /// SIGKILL: no last words, no last writes.
    pub fn kill(&mut self) -> Result<(), ProcessError> {
        let mut process = self.process.take().ok_or_else(|| self.not_running())?;
        process.kill().and_then(|()| process.wait()).map_err(self.io("kill it"))?;
        Ok(())
    }

    /// SIGTERM, and how it ended.
    pub async fn terminate(&mut self) -> Result<ExitStatus, ProcessError> {
        self.signal(Signal::TERM)?;
        self.ended().await
    }

    /// Waits until the process ends by itself.
    pub async fn ended(&mut self) -> Result<ExitStatus, ProcessError> {
        let what = format!("{} to end", self.name);
        until(&what, PATIENCE, async || self.has_ended().transpose()).await?
    }

    /// How the process ended, if it has.
    pub fn has_ended(&mut self) -> Result<Option<ExitStatus>, ProcessError> {
        let Some(process) = &mut self.process else { return Ok(None) };
        let status = process.try_wait().map_err(self.io("look after it"))?;
        if status.is_some() {
            self.process = None;
        }
        Ok(status)
    }

    /// The memory of the process that is in RAM.
    pub fn resident_bytes(&self) -> Result<u64, ProcessError> {
        self.memory_bytes("VmRSS:")
    }

    /// The most that it ever had there.
    pub fn peak_resident_bytes(&self) -> Result<u64, ProcessError> {
        self.memory_bytes("VmHWM:")
    }

    fn memory_bytes(&self, field: &str) -> Result<u64, ProcessError> {
        let pid = self.pid().ok_or_else(|| self.not_running())?;
        let path = format!("/proc/{}/status", pid.as_raw_nonzero());
        let status = fs::read_to_string(path).map_err(self.io("read its memory"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        let missing = || self.io("read its memory")(io::ErrorKind::InvalidData.into());
        Ok(kib.ok_or_else(missing)? * 1024)
    }

    /// Forgets everything the stopped node had on its disk.
    pub fn wipe(&self) -> Result<(), ProcessError> {
        assert!(!self.is_running(), "{} still runs", self.name);
        fs::remove_dir_all(&self.data_dir).map_err(self.io("remove its data"))
    }

    /// Leaves the directory with the log, and the data unless they are elsewhere, for somebody to look at.
    pub fn keep_home(&mut self) -> &Path {
        self.home.disable_cleanup(true);
        self.home.path()
    }

    fn io(&self, action: &'static str) -> impl FnOnce(io::Error) -> ProcessError + use<> {
        let name = self.name.clone();
        move |source| ProcessError::Io { name, action, source }
    }

    fn end(&self, status: ExitStatus) -> ProcessError {
        ProcessError::Ended { name: self.name.clone(), status, said: self.last_words() }
    }

    fn not_running(&self) -> ProcessError {
        ProcessError::NotRunning { name: self.name.clone() }
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Also one that is stopped; it may have ended by itself meanwhile.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A program of this project, untouched by settings in this environment.
pub fn program(path: &Path) -> Command {
    let mut command = Command::new(path);
    command.env_clear().env("RUST_BACKTRACE", "1").stdin(Stdio::null());
    command
}

/// Whether a node answers at this HTTP address.
async fn lives(address: &str) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").await?;
        let mut status_line = [0; b"HTTP/1.1 200".len()];
        stream.read_exact(&mut status_line).await?;
        io::Result::Ok(&status_line == b"HTTP/1.1 200")
    };
    matches!(tokio::time::timeout(ANSWER_LIMIT, ask).await, Ok(Ok(true)))
}
