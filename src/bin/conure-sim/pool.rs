//! Seeds on worker processes.
//!
//! Each worker takes every so-manieth seed. One that dies without a report, or takes far too long for a seed, costs
//! that seed, which is reported as failed, and is started again behind it.

use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use conuredb::simulation::report::SeedReport;

/// A seed takes less than a second, in a debug build on a busy machine a few.
const HUNG_AFTER: Duration = Duration::from_secs(300);

/// What is to be run.
#[derive(Clone)]
pub struct Work {
    pub from: u64,
    pub end: u64,
    pub jobs: u64,
    /// A bug to plant.
    pub plant: Option<&'static str>,
}

/// Workers and what they have to say.
pub struct Pool {
    work: Work,
    workers: Vec<Worker>,
    sender: Sender<Said>,
    said: Receiver<Said>,
}

struct Worker {
    child: Child,
    /// The seed it runs.
    seed: u64,
    since: Instant,
    is_done: bool,
}

enum Said {
    Report { worker: usize, report: Box<SeedReport> },
    Ended { worker: usize, process: u32 },
}

impl Pool {
    pub fn start(work: Work) -> io::Result<Pool> {
        let (sender, said) = channel();
        let mut pool = Pool { work, workers: Vec::new(), sender, said };
        for worker in 0..pool.work.jobs.min(pool.work.end - pool.work.from) {
            let seed = pool.work.from + worker;
            let child = pool.spawn(worker as usize, seed)?;
            pool.workers.push(Worker { child, seed, since: Instant::now(), is_done: false });
        }
        Ok(pool)
    }

    fn spawn(&self, worker: usize, from: u64) -> io::Result<Child> {
        let Work { end, jobs, plant, .. } = &self.work;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["worker", &format!("--from={from}"), &format!("--end={end}")]);
        command.arg(format!("--step={jobs}"));
        command.args(plant.iter().map(|name| format!("--plant={name}")));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let (process, out) = (child.id(), child.stdout.take().expect("it is piped"));
        let sender = self.sender.clone();
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let Ok(report) = serde_json::from_str(&line) else { continue };
                let _ = sender.send(Said::Report { worker, report: Box::new(report) });
            }
            let _ = sender.send(Said::Ended { worker, process });
        });
        Ok(child)
    }

    /// The next seed that ended, in no order; `None` after the last, and an error when there is none before
    /// `until`.
    pub fn next(&mut self, until: Instant) -> io::Result<Option<Result<SeedReport, Late>>> {
        loop {
            if self.workers.iter().all(|worker| worker.is_done) {
                return Ok(None);
            }
            let left = until.saturating_duration_since(Instant::now());
            match self.said.recv_timeout(left.min(Duration::from_secs(1))) {
                Ok(Said::Report { worker, report }) => {
                    let jobs = self.work.jobs;
                    let worker = &mut self.workers[worker];
                    // What a worker said just before it was ended for being late.
                    if report.seed != worker.seed {
                        continue;
                    }
                    worker.seed += jobs;
                    worker.since = Instant::now();
                    return Ok(Some(Ok(*report)));
                }
                Ok(Said::Ended { worker, process }) => {
                    if let Some(report) = self.ended(worker, process)? {
                        return Ok(Some(Ok(report)));
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.end_the_hung();
                    if Instant::now() >= until {
                        return Ok(Some(Err(Late)));
                    }
                }
                Err(RecvTimeoutError::Disconnected) => unreachable!("this holds a sender"),
            }
        }
    }

    /// A worker ended: with its work, by a panic that it reported, or without a word.
    fn ended(&mut self, at: usize, process: u32) -> io::Result<Option<SeedReport>> {
        let Work { end, jobs, .. } = self.work;
        let worker = &mut self.workers[at];
        if worker.child.id() != process {
            return Ok(None);
        }
        let status = worker.child.wait()?;
        let mut report = None;
        if status.success() {
            worker.is_done = true;
            return Ok(None);
        }
        // A panic was reported, and counted, before the process ended with this.
        if status.code() != Some(101) && worker.seed < end {
            let how = format!("the process ended with {status}");
            report = Some(SeedReport::aborted(worker.seed, how));
            worker.seed += jobs;
        }
        let seed = worker.seed;
        if seed >= end {
            worker.is_done = true;
        } else {
            let child = self.spawn(at, seed)?;
            let worker = &mut self.workers[at];
            (worker.child, worker.since) = (child, Instant::now());
        }
        Ok(report)
    }

    fn end_the_hung(&mut self) {
        for worker in self.workers.iter_mut().filter(|worker| !worker.is_done) {
            if worker.since.elapsed() > HUNG_AFTER {
                eprintln!("seed {} does not end: it is given up", worker.seed);
                let _ = worker.child.kill();
            }
        }
    }
}

/// No seed ended in the time given.
pub struct Late;

impl Drop for Pool {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            let _ = worker.child.kill();
            let _ = worker.child.wait();
        }
    }
}
