//! The end of a node that nobody prepared: what the death of its process would be, where the process goes on because
//! other nodes live in it.
//!
//! Its threads stop where they wait next. What was written stays written, as the system keeps it for a dead process;
//! what was queued, staged or unanswered is lost, and nobody is told. A call of the disk that is under way is finished,
//! as the kernel would finish it.

use actix::prelude::*;

use super::Node;

impl Node {
    /// Stops every thread of its own at once. They are returned: whoever opens the disk again joins them first. The
    /// thread for consensus and the one that started the node belong to the caller, who ends them too.
    pub fn kill(self) -> Vec<Arbiter> {
        for arbiter in &self.arbiters {
            arbiter.stop();
        }
        // Cuts the connections of peers, also where the runtime that they run on lives on.
        drop(self.tasks);
        self.arbiters
    }
}
