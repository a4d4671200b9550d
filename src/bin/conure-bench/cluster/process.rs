//! The processes of a cluster: started with their files in one directory, measured through `/proc`, and killed
//! when they are dropped, whatever the reason.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::args::System;
use super::error::ClusterError;
use crate::memory;

/// How long a cluster may take to start, on a busy machine.
pub const START_LIMIT: Duration = Duration::from_secs(60);

/// Pause between two looks at whether it has.
pub const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Lines of a node's log that an error shows.
const LOG_TAIL_LINES: usize = 15;

/// What `/proc/<pid>/stat` counts processor time in: the same on every architecture that Linux has now.
const TICKS_PER_SECOND: f64 = 100.0;

/// A running node.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program; its words go to `<dir>/<name>.log`. An environment of its own keeps settings out.
    pub fn start<A: AsRef<OsStr>>(
        program: &Path,
        name: String,
        dir: &Path,
        arguments: &[A],
    ) -> Result<Process, ClusterError> {
        let log = dir.join(format!("{name}.log"));
        let file = File::create(&log).map_err(ClusterError::io("create a node's log"))?;
        let other = file.try_clone().map_err(ClusterError::io("open a node's log twice"))?;
        let child = Command::new(program)
            .args(arguments)
            .env_clear()
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(other)
            .spawn()
            .map_err(ClusterError::io("start a node"))?;
        Ok(Process { name, child, log })
    }

    /// An error when the process runs no more.
    pub fn check(&mut self) -> Result<(), ClusterError> {
        match self.child.try_wait().map_err(ClusterError::io("look after a node"))? {
            None => Ok(()),
            Some(status) => Err(ClusterError::Ended {
                node: self.name.clone(),
                status: status.to_string(),
                said: self.last_words(),
            }),
        }
    }

    /// The end of what it said.
    pub fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }

    fn proc(&self, file: &str) -> Result<String, ClusterError> {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(path).map_err(ClusterError::io("read what /proc says of a node"))
    }

    /// Processor time that all its threads have used.
    pub fn cpu(&self) -> Result<Duration, ClusterError> {
        Ok(cpu_of_stat(&self.proc("stat")?))
    }

    /// Its memory that is in RAM.
    pub fn resident_bytes(&self) -> Result<u64, ClusterError> {
        Ok(memory::parse(&self.proc("status")?, "VmRSS:").unwrap_or(0))
    }

    /// The most that was in RAM since [`Process::forget_peak`].
    pub fn peak_bytes(&self) -> Result<u64, ClusterError> {
        Ok(memory::parse(&self.proc("status")?, "VmHWM:").unwrap_or(0))
    }

    /// Lets the peak begin anew at what is in RAM now.
    pub fn forget_peak(&self) -> Result<(), ClusterError> {
        let path = format!("/proc/{}/clear_refs", self.child.id());
        fs::write(path, "5").map_err(ClusterError::io("let a node's peak of memory begin anew"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time of this process, the load generator's, in nanoseconds: what a short round uses of it is less than a
/// tick of `/proc`.
pub fn own_cpu() -> Duration {
    // Time that a process has used is never negative.
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap_or_default()
}

/// `utime` and `stime`, the 14th and 15th field; the second is a name in parentheses that may hold anything.
fn cpu_of_stat(stat: &str) -> Duration {
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    let times = after_name.split(' ').skip(11).take(2);
    let ticks: u64 = times.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_secs_f64(ticks as f64 / TICKS_PER_SECOND)
}

/// Memory in RAM of the average node.
pub fn mean_resident_bytes(processes: &[Process]) -> Result<u64, ClusterError> {
    let mut total = 0;
    for process in processes {
        total += process.resident_bytes()?;
    }
    Ok(total / processes.len().max(1) as u64)
}

/// Processor time of all of them.
pub fn total_cpu(processes: &[Process]) -> Result<Duration, ClusterError> {
    processes.iter().map(Process::cpu).sum()
}

/// Ports that were free a moment ago. All are held until all are known, so that none comes twice.
pub fn free_ports(count: usize) -> Result<Vec<u16>, ClusterError> {
    let bind = || TcpListener::bind("127.0.0.1:0");
    let held: Result<Vec<TcpListener>, _> = (0..count).map(|_| bind()).collect();
    let held = held.map_err(ClusterError::io("find free ports"))?;
    let ports: Result<Vec<u16>, _> =
        held.iter().map(|listener| listener.local_addr().map(|address| address.port())).collect();
    ports.map_err(ClusterError::io("find free ports"))
}

/// Looks again and again until `look` says that all is well, or a process ends, or it takes too long.
pub async fn wait_ready(
    system: System,
    processes: &mut [Process],
    mut look: impl AsyncFnMut() -> Result<(), String>,
) -> Result<(), ClusterError> {
    let begun = tokio::time::Instant::now();
    loop {
        let Err(what) = look().await else { return Ok(()) };
        processes.iter_mut().try_for_each(Process::check)?;
        if begun.elapsed() > START_LIMIT {
            let said = processes.first().map_or(String::new(), Process::last_words);
            return Err(ClusterError::NotReady { system, waited: START_LIMIT, what, said });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 150 25 0 0 20 0 3 0 9 1 2";
        assert_eq!(cpu_of_stat(stat), Duration::from_millis(1_750));
    }

    #[test]
    fn work_shorter_than_a_tick_is_counted() {
        let before = own_cpu();
        let sum: u64 = std::hint::black_box(0..1_000).sum();
        assert!(own_cpu() > before, "{sum}");
    }
}
