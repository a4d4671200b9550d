//! What must stay bounded on every node at every moment, whatever goes wrong: memory, queues, connections, files.
//!
//! Looked at is what the code bounds or counts by itself. Some bounds are settings, which the simulated nodes have
//! small; others tell a leak, such as a watch that is still counted after its client has gone, or the file of a
//! snapshot that nobody will finish.

use super::operator::Operator;
use super::surroundings::options;

/// Connections of a node to each of its peers: one for each lane, and one to find out who answers.
const CONNECTIONS_PER_PEER: u64 = 5;

/// Requests that wait on a node, of a kind: for peers to answer, of peers, for the Raft actor, for the log. For each peer
/// the heartbeats of the seven seconds that a connection may take to fail, which were given up and have their place still,
/// and as much again; and for eight clients some more. What queues up without end exceeds it.
const MOST_WAITING_PER_PEER: u64 = 150;
const MOST_WAITING_BESIDE: u64 = 64;

/// The same when nobody asks for anything: heartbeats, reads of the autopilot and what looks at deadlines.
const MOST_WAITING_AT_REST: u64 = 40;

/// Tasks for each machine, those of its former lives that have not noticed their end yet included: openraft's, and one
/// for each request that is served and for each direction of a connection. Far above what a run needs: it tells those
/// that nobody counts and that only grow.
const TASKS_PER_MACHINE: usize = 1_000;

/// Segments of the log beside what its purge leaves: the one in use, and spares.
const SEGMENTS_BESIDE: u64 = 8;

/// The log of a node is cut when it has so many times the bytes of a checkpoint (`actors::raft::watch`).
const LOG_FACTOR: u64 = 3;

/// Snapshots that are being received, or were and wait to be installed.
const MOST_INCOMING: usize = 2;

/// Looks at all nodes that run.
pub fn look(operator: &Operator, watchers: usize) {
    let peers = operator.names().len() as u64 - 1;
    look_for(operator, watchers, MOST_WAITING_PER_PEER * peers + MOST_WAITING_BESIDE);
}

fn look_for(operator: &Operator, watchers: usize, most_waiting: u64) {
    let world = &operator.world;
    let names = operator.names();
    let exceeds = |what: String| operator.findings.violation(world, what);
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    if tasks > names.len() * TASKS_PER_MACHINE {
        exceeds(format!("{tasks} tasks are alive on {} machines", names.len()));
    }
    for name in &names {
        let Some(load) = world.load(name) else { continue };
        let most_staged = options(name, &[]).log.max_staged_bytes;
        if load.staged_log_bytes > most_staged {
            exceeds(format!("{} bytes wait for the log of {name}", load.staged_log_bytes));
        }
        if load.peer_connections > CONNECTIONS_PER_PEER * (names.len() as u64 - 1) {
            exceeds(format!("{name} holds {} connections to peers", load.peer_connections));
        }
        if load.watchers > watchers as u64 {
            exceeds(format!("{name} counts {} watchers, there are {watchers}", load.watchers));
        }
        for (what, waiting) in load.queues {
            if waiting > most_waiting {
                exceeds(format!("{waiting} requests wait {what} on {name}"));
            }
        }
    }
}

/// Looks at all nodes when they are well and nobody asks them for anything.
pub fn look_at_rest(operator: &Operator) {
    look_for(operator, 0, MOST_WAITING_AT_REST);
    let world = &operator.world;
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    world.note(format_args!("{tasks} tasks are alive"));
    for name in operator.names() {
        let Some(disk) = world.disk(&name) else { continue };
        let options = options(&name, &[]);
        let most_log_bytes = options.timing.checkpoint_bytes * LOG_FACTOR
            + options.log.segment_bytes * SEGMENTS_BESIDE;
        let files = disk.contents();
        let log_files = files.iter().filter(|(file, _)| file.starts_with("log-"));
        let log_bytes: u64 = log_files.map(|(_, content)| content.len() as u64).sum();
        let incoming: Vec<_> = files.keys().filter(|file| file.starts_with("incoming-")).collect();
        if log_bytes > most_log_bytes || incoming.len() > MOST_INCOMING {
            let what = format!(
                "{name} has {log_bytes} bytes of log, and snapshots coming in {incoming:?}"
            );
            operator.findings.violation(world, what);
        }
    }
}
