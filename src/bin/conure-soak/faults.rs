//! How each kind of fault is done, and mended. What each returns says in a few words whom it met.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use conuredb::processes::{PATIENCE, until};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rustix::process::Signal;
use serde_json::json;

use crate::findings::Findings;
use crate::fleet::Fleet;
use crate::http::Reply;
use crate::kinds::Kind;
use crate::workload::Workload;
use crate::{Failure, foreign, rollback};

/// How long something lasts that ends by itself, in milliseconds: longer than any election here takes.
const LASTING_MS: std::ops::Range<u64> = 2_200..3_500;

/// How long a dead node stays away.
const AWAY_MS: std::ops::Range<u64> = 0..1_000;

/// How wrong a clock may be.
const CLOCK_SECONDS: i64 = 4 * 3_600;

/// A fault in the making.
pub struct Faults<'a> {
    pub fleet: &'a mut Fleet,
    pub findings: &'a Findings,
    pub load: &'a Arc<Workload>,
    pub chance: &'a mut StdRng,
}

impl Faults<'_> {
    pub async fn inject(&mut self, kind: Kind) -> Result<String, Failure> {
        let nodes = self.fleet.count();
        match kind {
            Kind::KillLeader => {
                let leader = self.fleet.leader().await?;
                self.kill(&[leader]).await
            }
            Kind::KillFollower => {
                let follower = self.follower().await?;
                self.kill(&[follower]).await
            }
            Kind::KillTwo => {
                let two = self.some(2);
                self.kill(&two).await
            }
            Kind::KillAll => self.kill(&(0..nodes).collect::<Vec<_>>()).await,
            Kind::Pause => self.pause().await,
            Kind::Terminate => self.terminate().await,
            Kind::Partition => self.partition().await,
            Kind::OneWayCut => self.one_way_cut().await,
            Kind::SlowLink => self.slow_link().await,
            Kind::ConnectionsReset => self.reset_connections().await,
            Kind::LeaderTransfer => self.transfer().await,
            Kind::MemberRemovedAndJoined => self.remove_and_join().await,
            Kind::WipedDisk => {
                let victim = self.any();
                self.fleet.nodes[victim].kill()?;
                self.replace_disk(victim).await?;
                Ok(self.names(&[victim]))
            }
            Kind::OldBackup => rollback::inject(self).await,
            Kind::MisroutedClusters => foreign::inject(self).await,
            Kind::ClockJump => self.jump().await,
            Kind::DiskFull => self.fill_disk().await,
            Kind::FsyncError => self.fail_fsync().await,
            Kind::PowerCut => {
                let victim = self.any();
                self.cut_power(&[victim]).await
            }
            Kind::PowerCutOfAll => self.cut_power(&(0..nodes).collect::<Vec<_>>()).await,
        }
    }

    pub fn any(&mut self) -> usize {
        self.chance.random_range(0..self.fleet.count())
    }

    pub fn some(&mut self, count: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..self.fleet.count()).collect();
        all.shuffle(self.chance);
        all.truncate(count);
        all
    }

    pub async fn follower(&mut self) -> Result<usize, Failure> {
        let leader = self.fleet.leader().await?;
        let mut others: Vec<usize> = self.fleet.others(leader).collect();
        others.shuffle(self.chance);
        others.pop().ok_or_else(|| "a cluster of one has no follower".into())
    }

    pub fn names(&self, nodes: &[usize]) -> String {
        let names: Vec<&str> = nodes.iter().map(|node| self.fleet.name(*node)).collect();
        names.join(" ")
    }

    pub async fn last(&mut self, range: std::ops::Range<u64>) {
        tokio::time::sleep(Duration::from_millis(self.chance.random_range(range))).await;
    }

    /// Asks node `at` for a change, again while it surely was not made; it has to be made.
    pub async fn change(
        &self,
        at: usize,
        path: &str,
        body: serde_json::Value,
    ) -> Result<Reply, Failure> {
        let url = format!("{}{path}", self.fleet.nodes[at].url());
        let what = format!("{path} {body} to be done");
        let reply = until(&what, PATIENCE, async || {
            let reply = self.fleet.http.post(url.clone(), body.clone()).await.ok()?;
            // A change whose answer was lost on the way may be found done.
            (reply.status < 500).then_some(reply)
        });
        Ok(reply.await?)
    }

    async fn kill(&mut self, victims: &[usize]) -> Result<String, Failure> {
        for victim in victims {
            self.fleet.nodes[*victim].kill()?;
        }
        self.last(AWAY_MS).await;
        for victim in victims {
            self.fleet.start(*victim).await?;
        }
        Ok(self.names(victims))
    }

    async fn pause(&mut self) -> Result<String, Failure> {
        let victim = self.any();
        self.fleet.nodes[victim].signal(Signal::STOP)?;
        self.last(LASTING_MS).await;
        self.fleet.nodes[victim].signal(Signal::CONT)?;
        Ok(self.names(&[victim]))
    }

    async fn terminate(&mut self) -> Result<String, Failure> {
        let victim = self.any();
        let status = self.fleet.nodes[victim].terminate().await?;
        if !status.success() {
            self.findings.violation(format_args!(
                "{} ended with {status} on SIGTERM",
                self.fleet.name(victim)
            ));
        }
        self.last(AWAY_MS).await;
        self.fleet.start(victim).await?;
        Ok(self.names(&[victim]))
    }

    async fn partition(&mut self) -> Result<String, Failure> {
        let count = self.chance.random_range(1..=(self.fleet.count() - 1) / 2);
        let apart = self.some(count);
        for (one, other) in self.pairs() {
            if apart.contains(&one) != apart.contains(&other) {
                self.network().cut(one, other);
            }
        }
        self.end_of_weather(&apart).await;
        Ok(self.names(&apart))
    }

    async fn one_way_cut(&mut self) -> Result<String, Failure> {
        let pair = self.some(2);
        let to_all = self.chance.random();
        for (from, to) in self.pairs() {
            if from == pair[0] && (to_all || to == pair[1]) {
                self.network().cut(from, to);
            }
        }
        self.end_of_weather(&pair[..1]).await;
        let to = if to_all { "all" } else { self.fleet.name(pair[1]) };
        Ok(format!("{} to {to}", self.fleet.name(pair[0])))
    }

    async fn slow_link(&mut self) -> Result<String, Failure> {
        let pair = self.some(2);
        let delay = Duration::from_millis(self.chance.random_range(20..200));
        self.network().slow(pair[0], pair[1], delay);
        self.network().slow(pair[1], pair[0], delay);
        self.end_of_weather(&[]).await;
        Ok(format!("{} by {delay:?}", self.names(&pair)))
    }

    async fn reset_connections(&mut self) -> Result<String, Failure> {
        let victim = self.any();
        for other in self.fleet.others(victim) {
            self.network().reset(victim, other);
        }
        Ok(self.names(&[victim]))
    }

    /// Clears up; half of the time the connections of those that were cut off break.
    async fn end_of_weather(&mut self, apart: &[usize]) {
        self.last(LASTING_MS).await;
        if self.chance.random() {
            for node in apart {
                for other in self.fleet.others(*node) {
                    self.network().reset(*node, other);
                }
            }
        }
        self.network().heal();
    }

    fn pairs(&self) -> Vec<(usize, usize)> {
        let nodes = self.fleet.count();
        (0..nodes)
            .flat_map(|from| (0..nodes).map(move |to| (from, to)))
            .filter(|(a, b)| a != b)
            .collect()
    }

    pub fn network(&self) -> &crate::network::Network {
        self.fleet.around.network.as_ref().expect("a soak has one")
    }

    async fn transfer(&mut self) -> Result<String, Failure> {
        let (at, to) = (self.any(), self.follower().await?);
        let reply = self.change(at, "/transfer", json!({ "ID": self.fleet.name(to) })).await?;
        if reply.status != 200 {
            self.findings.violation(format_args!("a transfer was refused: {}", reply.text()));
        }
        Ok(format!("to {}", self.fleet.name(to)))
    }

    async fn remove_and_join(&mut self) -> Result<String, Failure> {
        let victim = self.follower().await?;
        let others: Vec<usize> = self.fleet.others(victim).collect();
        let name = self.fleet.name(victim).to_owned();
        let removed = self.change(others[0], "/remove", json!({ "ID": name })).await?;
        // 404: a former attempt did it, and its answer was lost.
        if !matches!(removed.status, 200 | 404) {
            self.findings.violation(format_args!("{name} is not removed: {}", removed.text()));
        }
        self.last(AWAY_MS).await;
        // It gives up what it has and is filled anew, all in one process.
        self.fleet.stations[victim].end();
        self.join(victim, others[1]).await?;
        self.fleet.stations[victim].begin();
        Ok(name)
    }

    /// Has a node join again, through another one.
    async fn join(&self, victim: usize, at: usize) -> Result<(), Failure> {
        let name = self.fleet.name(victim);
        let body = json!({ "ID": name, "RaftAddr": self.fleet.peer_address(victim) });
        let joined = self.change(at, "/join", body).await?;
        if joined.status != 200 {
            self.findings.violation(format_args!("{name} is not let in: {}", joined.text()));
        }
        Ok(())
    }

    /// Starts a dead node with nothing on its disk; its seeds let it in under its name.
    pub async fn replace_disk(&mut self, victim: usize) -> Result<(), Failure> {
        self.fleet.nodes[victim].wipe()?;
        self.fleet.start(victim).await
    }

    async fn jump(&mut self) -> Result<String, Failure> {
        let victim = self.any();
        let seconds = self.chance.random_range(-CLOCK_SECONDS..=CLOCK_SECONDS);
        let clock = &self.fleet.around.clocks[victim];
        clock.set(seconds)?;
        self.last(LASTING_MS).await;
        self.fleet.around.clocks[victim].set(0)?;
        Ok(format!("{} by {seconds} s", self.fleet.name(victim)))
    }

    async fn fill_disk(&mut self) -> Result<String, Failure> {
        let victim = self.any();
        self.fleet.around.disks[victim].fill()?;
        self.last(LASTING_MS).await;
        self.fleet.around.disks[victim].give_room()?;
        Ok(self.names(&[victim]))
    }

    /// Fails the next fsync of a node, which has to end by itself.
    async fn fail_fsync(&mut self) -> Result<String, Failure> {
        let victim = self.any();
        let Some(pid) = self.fleet.nodes[victim].pid() else {
            return Err("a node that is well runs".into());
        };
        let _tracer = Tracer::attach(pid.as_raw_nonzero().get())?;
        let status = self.fleet.nodes[victim].ended().await?;
        let name = self.fleet.name(victim);
        if status.code() != Some(1) {
            self.findings
                .violation(format_args!("{name} ended with {status} when an fsync failed"));
        }
        let said = self.fleet.nodes[victim].log_lines("this node stops");
        if said.is_empty() {
            self.findings
                .violation(format_args!("{name} does not say why it ended when an fsync failed"));
        }
        self.fleet.start(victim).await?;
        Ok(self.names(&[victim]))
    }

    async fn cut_power(&mut self, victims: &[usize]) -> Result<String, Failure> {
        for victim in victims {
            self.fleet.around.disks[*victim].cut_power()?;
        }
        // Some notice before their machine is gone.
        self.last(0..200).await;
        for victim in victims {
            // It may have ended by itself.
            if self.fleet.nodes[*victim].has_ended()?.is_none() {
                self.fleet.nodes[*victim].kill()?;
            }
            self.fleet.around.disks[*victim].unmount()?;
        }
        self.last(AWAY_MS).await;
        for victim in victims {
            self.fleet.around.disks[*victim].mount()?;
            self.fleet.start(*victim).await?;
        }
        Ok(self.names(victims))
    }
}

/// strace, which lets one fsync of a process fail.
struct Tracer(Child);

impl Tracer {
    fn attach(pid: i32) -> Result<Tracer, Failure> {
        let mut command = Command::new("strace");
        command.args(["-qq", "-f", "-o", "/dev/null", "-e", "trace=fsync,fdatasync"]);
        command.args(["-e", "inject=fsync,fdatasync:error=EIO:when=1", "-p", &pid.to_string()]);
        Ok(Tracer(
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?,
        ))
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // It ends with the process that it traces, or here.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
