//! Keeps the states that scans have begun to read, from one page to the next.
//!
//! A scan sees one revision throughout. The past is kept by changes, and a scan of a busy store can take longer
//! than that; so the state itself is pinned, here, on the node that answered the first page, and its past
//! cannot be trimmed meanwhile. States are kept by revision and not by scan: at one revision every node holds
//! the same state, so scans share pins, and a cursor is at home wherever its revision is.
//!
//! A pin keeps the pages of an old state from being used again, so pins are few and short: the
//! one idle longest makes room for a new one, and [`IDLE`] after its last use a pin is dropped by
//! a sweeper, which runs only while there are pins.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use actix_web::rt;
use tokio::time::{Instant, sleep_until};

use crate::actors::messages::View;
use crate::metrics::Metrics;
use crate::types::Revision;

/// How long a state is kept for the next page.
const IDLE: Duration = Duration::from_secs(60);

/// The pinned states of one server, shared by its workers.
pub struct Pins {
    table: Arc<Mutex<Table>>,
}

struct Table {
    pins: HashMap<Revision, Pin>,
    max_pins: usize,
    is_swept: bool,
    metrics: Arc<Metrics>,
}

struct Pin {
    view: Arc<dyn View>,
    last_use: Instant,
}

impl Pins {
    pub fn new(max_pins: usize, metrics: Arc<Metrics>) -> Pins {
        let table = Table { pins: HashMap::new(), max_pins, is_swept: false, metrics };
        Pins { table: Arc::new(Mutex::new(table)) }
    }

    /// Keeps a state until [`IDLE`] from now, or further when it is used.
    pub fn keep(&self, view: Arc<dyn View>) {
        let mut table = lock(&self.table);
        let pin = Pin { last_use: Instant::now(), view };
        let revision = pin.view.revision();
        table.pins.insert(revision, pin);
        while table.pins.len() > table.max_pins {
            let Some(oldest) = table.oldest() else { break };
            table.pins.remove(&oldest);
        }
        table.count();
        if !table.is_swept {
            table.is_swept = true;
            rt::spawn(sweep(Arc::downgrade(&self.table)));
        }
    }

    /// The state of this revision, if it is still kept.
    pub fn find(&self, revision: Revision) -> Option<Arc<dyn View>> {
        let mut table = lock(&self.table);
        let pin = table.pins.get_mut(&revision)?;
        pin.last_use = Instant::now();
        Some(pin.view.clone())
    }
}

impl Table {
    fn oldest(&self) -> Option<Revision> {
        let oldest = self.pins.iter().min_by_key(|(revision, pin)| (pin.last_use, **revision));
        oldest.map(|(&revision, _)| revision)
    }

    fn count(&self) {
        self.metrics.http_pinned_scans.set(self.pins.len() as u64);
    }
}

/// Drops pins as they become idle; ends with the last of them, or with the server.
async fn sweep(table: Weak<Mutex<Table>>) {
    while let Some(table_now) = table.upgrade() {
        let next = {
            let mut table = lock(&table_now);
            let now = Instant::now();
            table.pins.retain(|_, pin| now < pin.last_use + IDLE);
            table.count();
            let next = table.pins.values().map(|pin| pin.last_use + IDLE).min();
            table.is_swept = next.is_some();
            next
        };
        drop(table_now);
        match next {
            Some(next) => sleep_until(next).await,
            None => return,
        }
    }
}

/// The table is whole after every statement, so a panic elsewhere does not spoil it.
fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::actors::messages::{History, LeaseKeys, Leases, NotKept, RequestError, Scan};
    use crate::types::{Key, KeyRange, Lease, LeaseId, Record};

    /// A state without keys.
    pub struct Empty(pub Revision);

    impl View for Empty {
        fn revision(&self) -> Revision {
            self.0
        }

        fn get(&self, _: &Key) -> Result<Option<Record>, RequestError> {
            Ok(None)
        }

        fn scan(&self, _: &KeyRange, _: bool, _: bool) -> Scan<'_> {
            Box::new(std::iter::empty())
        }

        fn in_passing(&self) -> Arc<dyn View> {
            Arc::new(Empty(self.0))
        }

        fn at(&self, _: Revision) -> Result<Arc<dyn View>, NotKept> {
            Err(NotKept::Trimmed { oldest: self.0 })
        }

        fn oldest_revision(&self) -> Revision {
            self.0
        }

        fn history(&self, _: &Key) -> Result<Box<dyn History>, RequestError> {
            Err(RequestError::NotReady { reason: "an empty state has no history".into() })
        }

        fn lease(&self, _: LeaseId) -> Result<Option<Lease>, RequestError> {
            Ok(None)
        }

        fn leases(&self, _: Option<LeaseId>) -> Leases {
            Box::new(std::iter::empty())
        }

        fn lease_keys(&self, _: LeaseId, _: Option<&Key>) -> LeaseKeys {
            Box::new(std::iter::empty())
        }
    }

    #[test]
    fn pins_are_dropped_when_idle_and_only_then() {
        rt::System::new().block_on(async {
            tokio::time::pause();
            let metrics = Arc::new(Metrics::new("test"));
            let pins = Pins::new(8, metrics.clone());
            let (idle, used) = (Arc::new(Empty(1)), Arc::new(Empty(2)));
            pins.keep(idle.clone());
            pins.keep(used.clone());
            tokio::time::sleep(IDLE / 2).await;
            assert!(pins.find(2).is_some());
            tokio::time::sleep(IDLE / 2 + Duration::from_millis(2)).await;
            // Nobody asked for it: the sweeper let the state go.
            assert_eq!((Arc::strong_count(&idle), Arc::strong_count(&used)), (1, 2));
            assert!(pins.find(1).is_none());
            tokio::time::sleep(2 * IDLE).await;
            assert_eq!((Arc::strong_count(&used), metrics.http_pinned_scans.get()), (1, 0));
            pins.keep(used.clone());
            tokio::time::sleep(2 * IDLE).await;
            assert_eq!(Arc::strong_count(&used), 1, "the sweeper starts anew");
        });
    }

    #[test]
    fn the_pin_idle_longest_makes_room() {
        rt::System::new().block_on(async {
            tokio::time::pause();
            let pins = Pins::new(2, Arc::new(Metrics::new("test")));
            for revision in [1, 2] {
                pins.keep(Arc::new(Empty(revision)));
                tokio::time::advance(Duration::from_secs(1)).await;
            }
            assert!(pins.find(1).is_some());
            tokio::time::advance(Duration::from_secs(1)).await;
            pins.keep(Arc::new(Empty(3)));
            let kept = [1, 2, 3].map(|revision| pins.find(revision).is_some());
            assert_eq!(kept, [true, false, true]);
        });
    }
}
