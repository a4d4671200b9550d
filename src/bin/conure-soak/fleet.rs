//! The nodes of a run: founded, looked at, started again.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use conuredb::client::{Members, Status};
use conuredb::processes::{LOOK_EVERY, NodeProcess, ProcessError};

use crate::Failure;
use crate::clocks::Clock;
use crate::disks::Disk;
use crate::http::Http;
use crate::network::Network;

/// How long a cluster may take to be well again, on a busy machine.
const WELL_LIMIT: Duration = Duration::from_secs(180);

/// How long an operator waits for an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// A node as clients know it.
pub struct Station {
    pub url: String,
    /// Counts its lives: another process begins where its disk ended, and a node that is joined again with nothing.
    lives: AtomicU64,
}

impl Station {
    /// Which of its lives the node is in; `None` while one ends and another begins.
    pub fn life(&self) -> Option<u64> {
        let life = self.lives.load(Ordering::SeqCst);
        life.is_multiple_of(2).then_some(life)
    }

    /// One life ends, and none begins before [`Station::begin`]. Twice is once.
    pub fn end(&self) {
        self.lives.fetch_or(1, Ordering::SeqCst);
    }

    pub fn begin(&self) {
        self.end();
        self.lives.fetch_add(1, Ordering::SeqCst);
    }
}

/// What stands around the nodes.
#[derive(Default)]
pub struct Around {
    pub network: Option<Network>,
    pub disks: Vec<Disk>,
    pub clocks: Vec<Clock>,
}

pub struct Fleet {
    pub nodes: Vec<NodeProcess>,
    pub stations: Arc<Vec<Station>>,
    pub around: Around,
    pub http: Http,
    flags: Vec<String>,
}

impl Fleet {
    /// Founds a cluster of so many voters. With a library for clocks, each node gets one of its own.
    pub async fn found(
        program: &Path,
        count: usize,
        flags: &[&str],
        mut around: Around,
        clocks: Option<&Path>,
    ) -> Result<Fleet, Failure> {
        let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
        let mut nodes = Vec::new();
        for number in 0..count {
            let mut node =
                NodeProcess::new(program, &format!("node{}", number + 1), &[] as &[&str])?;
            if let Some(disk) = around.disks.get(number) {
                node = node.with_data_dir(&disk.root().join("data"));
            }
            if let Some(library) = clocks {
                around.clocks.push(Clock::give(&mut node, library)?);
            }
            nodes.push(node);
        }
        let stations = Arc::new(Vec::new());
        let mut fleet = Fleet { nodes, stations, around, http: Http::new(ANSWER_LIMIT)?, flags };
        for number in 0..count {
            // The first has nobody to ask.
            let seeds: Vec<String> =
                fleet.nodes[..number.min(1)].iter().map(NodeProcess::url).collect();
            fleet.set_flags(number, &seeds);
            fleet.nodes[number].start().await?;
            fleet.meet(number);
        }
        let station = |node: &NodeProcess| Station { url: node.url(), lives: AtomicU64::new(0) };
        fleet.stations = Arc::new(fleet.nodes.iter().map(station).collect());
        fleet.become_well().await?;
        // From now on each node finds the cluster through any other, whatever it has lost.
        for number in 0..count {
            let seeds: Vec<String> =
                fleet.others(number).map(|other| fleet.nodes[other].url()).collect();
            fleet.set_flags(number, &seeds);
        }
        Ok(fleet)
    }

    fn set_flags(&mut self, number: usize, seeds: &[String]) {
        let mut flags = self.flags.clone();
        if let Some(network) = &self.around.network {
            flags.push(format!("--raft-advertise-addr={}", network.door(number)));
        }
        if !seeds.is_empty() {
            flags.extend(["--bootstrap=false".to_owned(), format!("--seeds={}", seeds.join(","))]);
        }
        self.nodes[number].set_flags(&flags);
    }

    /// Tells the network where a node that has just started is, and who it is.
    fn meet(&self, number: usize) {
        if let Some(network) = &self.around.network {
            network.route(number, self.nodes[number].raft_addr());
            network.meet(number, &self.nodes[number]);
        }
    }

    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    pub fn name(&self, number: usize) -> &str {
        &self.nodes[number].name
    }

    pub fn others(&self, number: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.count()).filter(move |other| *other != number)
    }

    /// Where peers reach a node.
    pub fn peer_address(&self, number: usize) -> String {
        match &self.around.network {
            Some(network) => network.door(number),
            None => self.nodes[number].raft_addr(),
        }
    }

    /// Starts a node that is down.
    pub async fn start(&mut self, number: usize) -> Result<(), Failure> {
        self.stations[number].begin();
        let deadline = Instant::now() + WELL_LIMIT;
        loop {
            self.nodes[number].spawn()?;
            // Its first words to its peers may be said before it answers HTTP.
            self.meet(number);
            match self.nodes[number].wait_until_up().await {
                // Of somebody's connection, which ends.
                Err(ProcessError::PortTaken { .. }) if Instant::now() < deadline => {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                started => return Ok(started?),
            }
        }
    }

    pub async fn status(&self, number: usize) -> Option<Status> {
        self.http.document(format!("{}/status", self.nodes[number].url())).await
    }

    pub async fn members(&self, number: usize) -> Option<Members> {
        self.http.document(format!("{}/raft/config", self.nodes[number].url())).await
    }

    /// Which node leads; waits for one that does.
    pub async fn leader(&self) -> Result<usize, Failure> {
        let deadline = Instant::now() + WELL_LIMIT;
        loop {
            for number in 0..self.count() {
                let running = self.nodes[number].is_running();
                if running && self.status(number).await.is_some_and(|status| status.is_leader) {
                    return Ok(number);
                }
            }
            if Instant::now() > deadline {
                return Err(format!("no node leads after {WELL_LIMIT:?}").into());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until all nodes are voters, ready, and know their leader; an error says what is still amiss.
    ///
    /// Asked one after the other, nodes may tell of different moments: the first, before another one joined, of the former
    /// voter that has its name. So all of them have to be well twice without a pause: who takes a cluster for whole that
    /// is not takes its quorum next.
    pub async fn become_well(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + WELL_LIMIT;
        let mut looks = 0;
        while looks < 2 * self.count() {
            let number = looks % self.count();
            match self.is_well(number).await {
                Ok(()) => looks += 1,
                Err(reason) if Instant::now() > deadline => {
                    let name = self.name(number);
                    return Err(format!("{name} is not well after {WELL_LIMIT:?}: {reason}").into());
                }
                Err(_) => {
                    looks = 0;
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        }
        Ok(())
    }

    async fn is_well(&self, number: usize) -> Result<(), String> {
        let members = self.members(number).await.ok_or("it does not answer")?;
        let voters = members.servers.iter().filter(|member| member.suffrage == "voter").count();
        if members.servers.len() != self.count()
            || voters != self.count()
            || members.leader.is_empty()
        {
            let list: Vec<String> = members
                .servers
                .iter()
                .map(|member| format!("{} {}", member.id, member.suffrage))
                .collect();
            return Err(format!("leader {:?}, members {}", members.leader, list.join(", ")));
        }
        match self.http.get(format!("{}/readyz", self.nodes[number].url())).await {
            Ok(reply) if reply.status == 200 => Ok(()),
            Ok(reply) => Err(reply.text()),
            Err(_) => Err("it does not answer".to_owned()),
        }
    }

    /// Leaves all logs and data for somebody to look at, and says where they are.
    pub fn keep(&mut self) -> String {
        let homes = self.nodes.iter_mut().map(|node| node.keep_home().display().to_string());
        let mut places: Vec<String> = homes.collect();
        places.extend(self.around.disks.iter_mut().map(|disk| disk.keep().display().to_string()));
        places.join(" ")
    }

    /// The last words of all nodes, for a failure.
    pub fn last_words(&self) -> String {
        let words =
            self.nodes.iter().map(|node| format!("──── {}:\n{}\n", node.name, node.last_words()));
        words.collect()
    }
}
