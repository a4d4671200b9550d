//! Bounds the work a node accepts: permits for requests, a budget for the bytes of bodies.
//!
//! Mailboxes of actors do not bound anything for their senders (a bound is per sender, and there is one
//! sender per request), so the bound stands here, at the edge. Nobody waits for a permit: a full
//! node says 429 at once, and the client, who knows whether the request still matters, decides.
//!
//! Permits count requests between the floor and the node: a write from its proposal to its outcome,
//! a read from the question for a state to the finished reply. They are taken after the body has
//! arrived, so that slow senders cannot use them up. The byte budget covers a body from its first byte:
//! of a request until the node has answered, of a reply until it was handed to the socket. Bodies
//! below [`FREE_BYTES`] are not counted; permits and connections bound those.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::{Code, Problem};
use super::options::HttpOptions;
use crate::metrics::Metrics;

/// Bodies up to this size pass uncounted, which spares most requests a shared counter.
const FREE_BYTES: usize = 16 * 1024;

/// The budget is taken in steps of this size as a body grows.
const STEP_BYTES: usize = 64 * 1024;

/// Changes of the cluster under way at the same time. They are rare and serialized by the leader; a
/// bound of their own lets a broken member be removed while writes are being refused.
const MAX_INFLIGHT_ADMIN: usize = 16;

/// Backups under way at the same time. Each keeps an old state of the store, and reads all of it from the disk.
const MAX_BACKUPS: usize = 2;

/// A place among the requests of one kind; dropping it gives the place back.
pub type Permit = OwnedSemaphorePermit;

/// The permits and the byte budget of one server, shared by its workers.
pub struct Admission {
    writes: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    admin: Arc<Semaphore>,
    watchers: Arc<Semaphore>,
    backups: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

impl Admission {
    pub fn new(options: &HttpOptions, metrics: Arc<Metrics>) -> Admission {
        // A semaphore panics beyond its greatest count.
        let permits = |count: usize| Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)));
        Admission {
            writes: permits(options.max_inflight_writes),
            reads: permits(options.max_inflight_reads),
            admin: permits(MAX_INFLIGHT_ADMIN),
            watchers: permits(options.max_watchers),
            backups: permits(MAX_BACKUPS),
            bytes: permits(options.max_body_bytes_in_flight as usize),
            metrics,
        }
    }

    pub fn write(&self) -> Result<Permit, Problem> {
        self.permit(&self.writes, "writes")
    }

    pub fn read(&self) -> Result<Permit, Problem> {
        self.permit(&self.reads, "reads")
    }

    pub fn admin(&self) -> Result<Permit, Problem> {
        self.permit(&self.admin, "admin")
    }

    /// A place for as long as a watch lasts.
    pub fn watcher(&self) -> Result<Permit, Problem> {
        self.permit(&self.watchers, "watchers")
    }

    /// A place for as long as a backup is being sent.
    pub fn backup(&self) -> Result<Permit, Problem> {
        self.permit(&self.backups, "backups")
    }

    fn permit(&self, semaphore: &Arc<Semaphore>, limit: &'static str) -> Result<Permit, Problem> {
        semaphore.clone().try_acquire_owned().map_err(|_| {
            self.metrics.observe_rejected(limit);
            Problem::new(
                Code::Overloaded,
                format!("the limit of {limit} in flight on this node is reached; try again later"),
            )
        })
    }

    /// An empty share of the byte budget, which grows with a body.
    pub fn hold(&self) -> Hold {
        Hold { permit: None, budget: self.bytes.clone(), metrics: self.metrics.clone() }
    }
}

/// A share of the byte budget; dropping it gives the bytes back.
pub struct Hold {
    permit: Option<OwnedSemaphorePermit>,
    budget: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

impl Hold {
    /// Another share of the same budget, empty.
    pub fn another(&self) -> Hold {
        Hold { permit: None, budget: self.budget.clone(), metrics: self.metrics.clone() }
    }

    fn held_bytes(&self) -> usize {
        self.permit.as_ref().map_or(0, |permit| permit.num_permits())
    }

    /// Makes the share cover a body of `len_bytes`, if the budget has room; else nothing changes.
    pub fn try_grow(&mut self, len_bytes: usize) -> bool {
        let held = self.held_bytes();
        if len_bytes <= FREE_BYTES.max(held) {
            return true;
        }
        let wanted = len_bytes.next_multiple_of(STEP_BYTES) - held;
        let Ok(count) = u32::try_from(wanted) else { return false };
        let Ok(more) = self.budget.clone().try_acquire_many_owned(count) else { return false };
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            None => self.permit = Some(more),
        }
        self.metrics.http_body_bytes.inc_by(i64::from(count));
        true
    }

    /// [`Hold::try_grow`], with the refusal that clients see.
    pub fn grow(&mut self, len_bytes: usize) -> Result<(), Problem> {
        if self.try_grow(len_bytes) {
            return Ok(());
        }
        self.metrics.observe_rejected("body_bytes");
        Err(Problem::new(
            Code::Overloaded,
            "this node holds as many bytes of bodies as it may; try again later",
        ))
    }

    /// Gives all bytes back, for the share to cover another body.
    pub fn release(&mut self) {
        let held = i64::try_from(self.held_bytes()).unwrap_or(i64::MAX);
        self.metrics.http_body_bytes.dec_by(held);
        self.permit = None;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_byte_budget_is_never_exceeded_and_comes_back() {
        let metrics = Arc::new(Metrics::new("test"));
        let options =
            HttpOptions { max_body_bytes_in_flight: 3 * STEP_BYTES as u32, ..Default::default() };
        let admission = Admission::new(&options, metrics.clone());
        let mut first = admission.hold();
        assert!(first.try_grow(FREE_BYTES) && first.held_bytes() == 0);
        assert!(first.try_grow(FREE_BYTES + 1) && first.held_bytes() == STEP_BYTES);
        assert!(first.try_grow(2 * STEP_BYTES));
        let mut second = admission.hold();
        assert!(second.try_grow(STEP_BYTES));
        assert!(!first.try_grow(2 * STEP_BYTES + 1) && first.held_bytes() == 2 * STEP_BYTES);
        assert!(second.grow(STEP_BYTES + 1).is_err());
        assert_eq!(metrics.http_body_bytes.get(), 3 * STEP_BYTES as i64);
        drop(first);
        assert!(second.grow(3 * STEP_BYTES).is_ok());
        drop(second);
        assert_eq!(metrics.http_body_bytes.get(), 0);
    }
}
