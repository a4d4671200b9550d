//! Clusters of real processes: the binaries as they are shipped, on real disks and sockets, killed by real signals.
//!
//! What the simulation proves for thousands of schedules is shown here once for the whole: flags, files,
//! signals, TCP, HTTP. A test says one promise in its name and waits for conditions with generous
//! deadlines; none depends on how long something takes. When one fails, the logs of its nodes follow.
//!
//! ```text
//! harness.rs      one process: start, wait, kill, stop, start again
//! cluster.rs      several of them as one cluster
//! http.rs         requests to a node, and what they must answer
//! promql.rs       reads expressions of alerts and panels
//! load.rs         concurrent clients that remember what was acknowledged
//!
//! original.rs     the sequences of the original program, to the letter
//! kills.rs        kill -9 under load
//! damage.rs       files that forget, under load
//! real_input.rs   a text and this repository through REST and the shell, restarts and snapshots
//! catch_up.rs     a node that joins while more is written than the log keeps
//! odd_bytes.rs    odd keys and values at their limits, through leader and follower
//! past.rs         earlier revisions, told alike by all nodes
//! strangers.rs    who talks to the raft port and should not
//! lifecycle.rs    SIGTERM, restart, locks, settings
//! membership.rs   removed, wiped, foreign nodes
//! leadership.rs   transfer, and a node cut off from its leader
//! txn.rs          transactions through followers, and retried
//! expiry.rs       keys that expire, over restarts and changes of the leader
//! leases.rs       keys that end together, likewise
//! locks.rs        locks and elections, whose holders are killed
//! stream.rs       a range as one stream, over a restart
//! examples.rs     the examples, against a node
//! full_disk.rs    a disk without room (needs root)
//! watch.rs        watches, through kills, resumptions and a thousand at a time
//! backup.rs       a backup under writes, checked, restored, started; damaged ones refused
//! bulk.rs         exports and imports of the shell
//! recover.rs      a cluster made of a survivor of a lost quorum
//! upkeep.rs       how long the past is kept, and compactions
//! logs.rs         ids of requests in the logs, slow requests, levels that change
//! observe.rs      dashboard and alerts against the metrics of a real cluster
//! latency.rs      a measurement, printed
//! ```
#![allow(clippy::disallowed_methods)] // real clocks, files and sockets are the point

mod cluster;
mod harness;
mod http;
mod load;
mod promql;

mod backup;
mod bulk;
mod catch_up;
mod damage;
mod examples;
mod expiry;
mod full_disk;
mod kills;
mod latency;
mod leadership;
mod leases;
mod lifecycle;
mod limits;
mod locks;
mod logs;
mod membership;
mod observe;
mod odd_bytes;
mod original;
mod past;
mod real_input;
mod recover;
mod strangers;
mod stream;
mod txn;
mod upkeep;
mod watch;
