//! How far the log may be purged, and for whom it is kept.
//!
//! The log is cut behind a checkpoint. So many entries stay for followers that lag a little (`keep_entries`), unless they take
//! several times the bytes after which a checkpoint is due. A follower that gets a snapshot needs more: all that comes
//! while the snapshot is on its way and until it has caught up. Were that purged, it would get the next snapshot, and under a steady
//! load the one after that. So the log is kept for it, up to a bound: a follower that needs longer begins anew.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::types::{Metrics, RaftLogId};
use crate::types::NodeId;

/// A log of so many times the bytes of a checkpoint is cut to the last one.
const PURGE_FACTOR: u64 = 3;

/// The same, while a follower catches up by a snapshot.
const CATCH_UP_FACTOR: u64 = 16;

/// A follower that lacks so many entries has caught up: under load there are always some.
const CAUGHT_UP_ENTRIES: u64 = 128;

/// The followers that catch up by a snapshot. Shared by the clients of all peers and by who purges.
#[derive(Clone, Default)]
pub struct CatchUps(Arc<Mutex<All>>);

#[derive(Default)]
struct All {
    peers: BTreeMap<NodeId, CatchUp>,
    begun: u64,
}

struct CatchUp {
    /// Which of all that have begun.
    number: u64,
    /// The last index of the snapshot, and of what the follower has or gets.
    snapshot: u64,
    has: u64,
}

impl CatchUp {
    fn is_over(&self, matched: u64, last: u64) -> bool {
        matched >= self.snapshot && matched + CAUGHT_UP_ENTRIES >= last
    }
}

impl CatchUps {
    /// A snapshot up to `index` is being sent; the number is for [`CatchUps::give_up`].
    pub fn begin(&self, peer: NodeId, index: u64) -> u64 {
        let mut all = self.all();
        all.begun += 1;
        let number = all.begun;
        all.peers.insert(peer, CatchUp { number, snapshot: index, has: index });
        number
    }

    /// It was not sent. Another one may be on its way by now.
    pub fn give_up(&self, peer: NodeId, number: u64) {
        self.all().peers.retain(|id, catch_up| *id != peer || catch_up.number != number);
    }

    /// Up to which index the log is needed no more: by those whose entries this node still replicates, so by none
    /// where it does not lead.
    fn spared_by(&self, metrics: &Metrics) -> Option<u64> {
        let last = metrics.last_log_index.unwrap_or(0);
        let progress: BTreeMap<NodeId, u64> = metrics
            .replication
            .iter()
            .flatten()
            .map(|(peer, at): (_, &Option<RaftLogId>)| {
                (*peer, at.as_ref().map_or(0, |id| id.index))
            })
            .collect();
        self.needed(&progress, last, metrics.purged.as_ref().map_or(0, |id| id.index))
    }

    fn needed(&self, progress: &BTreeMap<NodeId, u64>, last: u64, purged: u64) -> Option<u64> {
        let mut all = self.all();
        all.peers.retain(|peer, catch_up| {
            let Some(matched) = progress.get(peer).copied() else { return false };
            catch_up.has = matched.max(catch_up.has);
            // What is purged in spite of it helps it no more.
            !catch_up.is_over(matched, last) && catch_up.has >= purged
        });
        all.peers.values().map(|catch_up| catch_up.has).min()
    }

    fn all(&self) -> MutexGuard<'_, All> {
        // Nothing panics under the lock half way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of what the log is made, when it is asked how much of it may go.
pub struct LogSize {
    pub on_disk_bytes: u64,
    /// Bytes after which a checkpoint is due.
    pub checkpoint_bytes: u64,
    pub keep_entries: u64,
    /// Whether there is no room for what only followers need.
    pub is_disk_full: bool,
}

/// Up to which index the log may go; `None` where nothing more may.
pub fn upto(metrics: &Metrics, size: &LogSize, catch_ups: &CatchUps) -> Option<u64> {
    let checkpoint = metrics.snapshot.as_ref()?.index;
    let upto = bound(checkpoint, size, catch_ups.spared_by(metrics))?;
    let purged = metrics.purged.as_ref().map(|id| id.index);
    purged.is_none_or(|purged| upto > purged).then_some(upto)
}

fn bound(checkpoint: u64, size: &LogSize, needed: Option<u64>) -> Option<u64> {
    let exceeds = |factor: u64| size.on_disk_bytes > factor.saturating_mul(size.checkpoint_bytes);
    let upto = match exceeds(PURGE_FACTOR) {
        true => Some(checkpoint),
        false => checkpoint.checked_sub(size.keep_entries),
    };
    match needed.filter(|_| !size.is_disk_full && !exceeds(CATCH_UP_FACTOR)) {
        Some(needed) => upto.map(|upto| upto.min(needed)),
        None => upto,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(on_disk_bytes: u64) -> LogSize {
        LogSize { on_disk_bytes, checkpoint_bytes: 100, keep_entries: 10, is_disk_full: false }
    }

    #[test]
    fn entries_are_kept_until_they_take_several_checkpoints_bytes() {
        assert_eq!(bound(50, &size(300), None), Some(40));
        assert_eq!(bound(50, &size(301), None), Some(50));
        assert_eq!(bound(5, &size(300), None), None, "fewer than are kept");
    }

    #[test]
    fn what_a_follower_needs_is_kept_up_to_a_bound() {
        assert_eq!(bound(50, &size(301), Some(20)), Some(20));
        assert_eq!(bound(50, &size(300), Some(45)), Some(40));
        assert_eq!(bound(50, &size(1_600), Some(20)), Some(20));
        assert_eq!(bound(50, &size(1_601), Some(20)), Some(50));
        let full = LogSize { is_disk_full: true, ..size(301) };
        assert_eq!(bound(50, &full, Some(20)), Some(50), "it needs the room");
    }

    #[test]
    fn a_follower_needs_the_log_from_its_snapshot_until_it_has_caught_up() {
        let catch_ups = CatchUps::default();
        let progress = |matched: u64| BTreeMap::from([(7, matched), (8, 1_000)]);
        assert_eq!(catch_ups.needed(&progress(0), 1_000, 0), None);
        catch_ups.begin(7, 400);
        assert_eq!(catch_ups.needed(&progress(0), 1_000, 400), Some(400), "it is on its way");
        assert_eq!(
            catch_ups.needed(&progress(600), 1_200, 400),
            Some(600),
            "it goes on by the log"
        );
        catch_ups.begin(8, 500);
        assert_eq!(catch_ups.needed(&progress(600), 2_000, 400), Some(600), "the other has 1,000");
        assert_eq!(catch_ups.needed(&progress(1_900), 2_000, 400), Some(1_000));
        assert_eq!(catch_ups.needed(&progress(1_900), 1_128, 400), None, "both have caught up");
    }

    #[test]
    fn a_follower_without_its_snapshot_has_not_caught_up_however_few_entries_it_lacks() {
        let catch_ups = CatchUps::default();
        catch_ups.begin(7, 50);
        assert_eq!(catch_ups.needed(&BTreeMap::from([(7, 0)]), 60, 50), Some(50));
        assert_eq!(catch_ups.needed(&BTreeMap::from([(7, 50)]), 60, 50), None);
    }

    #[test]
    fn a_snapshot_that_was_not_sent_takes_no_later_one_with_it() {
        let catch_ups = CatchUps::default();
        let first = catch_ups.begin(7, 400);
        catch_ups.begin(7, 600);
        catch_ups.give_up(7, first);
        let progress = BTreeMap::from([(7, 0)]);
        assert_eq!(catch_ups.needed(&progress, 1_000, 400), Some(600));
        assert_eq!(catch_ups.needed(&progress, 9_000, 700), None, "it was purged in spite of it");
        let third = catch_ups.begin(7, 800);
        catch_ups.give_up(7, third);
        assert_eq!(catch_ups.needed(&progress, 9_000, 700), None);
    }

    #[test]
    fn who_was_removed_or_is_led_by_another_needs_nothing() {
        let catch_ups = CatchUps::default();
        catch_ups.begin(7, 400);
        assert_eq!(catch_ups.needed(&BTreeMap::new(), 1_000, 0), None);
        assert_eq!(catch_ups.needed(&BTreeMap::from([(7, 0)]), 1_000, 0), None, "for good");
    }
}
