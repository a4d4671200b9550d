//! Whole clusters in one process, under faults, from a seed: what `conure-sim` runs and the tests use.
//!
//! The nodes are the real ones: their actors, openraft, the log, the tree. Only what they stand in is
//! simulated: disks and the network are memory, clocks and chance come from the seed, and time is tokio's,
//! paused, which steps to the next timer when everybody waits. So a run is a function of its seed, a second of
//! it costs milliseconds, and whatever it finds can be looked at again.
//!
//! In the order to read:
//!
//! ```text
//! surroundings  chance, wall clocks, seeds and settings of a simulated node
//! net           streams with delays, cuts, resets and losses
//! world         machines: start, crash, kill, pause; the trace
//! client        requests to a node that may die before it answers
//! workload      clients that write, read, retry, and note what they saw
//! watchers      clients that are told of changes, from connection to connection
//! history       what was called and answered             linearizable   whether one order explains it
//! values        what is written                           transactions   several keys at once, drawn
//! chronicle     the store's own history, which everything that was seen is held against
//! scribe        writes it down while it is kept
//! sentinel      what must hold at every moment           bounds         and what must never grow
//! faults        what goes wrong, drawn by the seed       operator       who restarts and replaces machines
//! scenario      a seed from the founding to the verdict  report         its figures, and their sums
//! ```
//!
//! It stands outermost, beside `os`, which it takes the place of: nothing but its program
//! (`src/bin/conure-sim`) and the tests imports it. It is a part of the library, so that both share it.
//!
//! Left out: a process that is stopped stops its actors, its disk and its connections, but the timers of its
//! openraft go on, for openraft's tasks belong to the one runtime. A connection is a stream and never
//! duplicates or reorders its bytes, as TCP does not; requests come twice or out of turn where connections are
//! reset and where two of them have different delays. HTTP, threads and the operating system's disk
//! are what `tests/cluster` has real processes for.

mod bounds;
mod chronicle;
pub mod client;
mod faults;
pub mod history;
pub mod linearizable;
pub mod net;
mod operator;
pub mod report;
pub mod scenario;
mod scribe;
mod sentinel;
pub mod surroundings;
pub mod transactions;
pub mod values;
mod watchers;
mod workload;
pub mod world;
