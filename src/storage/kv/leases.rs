//! Leases: keys that end together, unless whoever holds the lease keeps it alive.
//!
//! Tree 6 holds the leases, tree 7 their keys, and tree 5 their deadlines beside those of records (`deadlines`). Which
//! lease a record ends with stands in the record; a put without one, or with another, takes the key out.
//!
//! ```text
//! grant      a lease without keys, due its time to live after the clock of the log
//! keepalive  due its whole time to live after that clock again
//! revoke     gone, and its keys deleted
//! expire     the same at its deadline, when the leader says so; its keys expire
//! ```
//!
//! A lease ends in one entry of the log: there is no lease that is half gone, and none that ends can be kept alive.
//! [`MAX_LEASE_KEYS`] bounds what such an entry does. All keys go in one revision; a lease without keys takes none, nor
//! does granting one or keeping it alive.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::batch::Batch;
use super::change::ChangeKind;
use super::layout::{self, BadBytes, Due};
use super::view::KvSnapshot;
use super::{DEADLINES, LEASE_KEYS, LEASES, bad};
use crate::plants::{Plant, planted};
use crate::storage::cursor::Bounds;
use crate::storage::error::StorageError;
use crate::types::{
    Key, KeyRange, Lease, LeaseId, LeaseLimit, Lifetime, MAX_LEASE_KEYS, MAX_LEASES, Outcome,
};

/// Keys of a lease that ends, held at a time: a mebibyte of the longest.
const END_BATCH_KEYS: usize = 256;

impl KvSnapshot {
    pub fn lease(&self, id: LeaseId) -> Result<Option<Lease>, StorageError> {
        let key = layout::encode_lease_id(id);
        let stored = self.snapshot.get(LEASES, &key)?;
        stored.map(|bytes| layout::decode_lease(&key, &bytes).map_err(bad)).transpose()
    }

    /// How many leases there are.
    pub fn lease_count(&self) -> u64 {
        self.snapshot.len(LEASES)
    }

    /// The leases behind one, or all, in the order of their ids.
    pub fn leases(
        &self,
        after: Option<LeaseId>,
    ) -> impl Iterator<Item = Result<Lease, StorageError>> + use<> {
        let start = after.map_or(Bound::Unbounded, |id| {
            Bound::Excluded(Bytes::copy_from_slice(&layout::encode_lease_id(id)))
        });
        let range = self.snapshot.range(LEASES, Bounds { start, end: Bound::Unbounded });
        range.map(|entry| {
            let (id, lease) = entry?;
            layout::decode_lease(&id, &lease).map_err(bad)
        })
    }

    /// The keys of a lease behind one, or all, in their order.
    pub fn lease_keys(
        &self,
        id: LeaseId,
        after: Option<&Key>,
    ) -> impl Iterator<Item = Result<Key, StorageError>> + use<> {
        let mut bounds = bounds_of(id);
        if let Some(after) = after {
            bounds.start = Bound::Excluded(layout::lease_key(id, after.as_bytes()).into());
        }
        self.snapshot.range(LEASE_KEYS, bounds).keys().map(|entry| {
            let entry = entry?;
            let key = Key::new(entry.slice_ref(layout::key_of_lease(&entry).map_err(bad)?));
            key.map_err(|_| bad(BadBytes("a lease has a key of a bad length")))
        })
    }
}

/// Where the keys of a lease stand.
fn bounds_of(id: LeaseId) -> Bounds {
    KeyRange::prefix(layout::encode_lease_id(id).to_vec()).into()
}

impl Batch<'_> {
    fn lease(&self, id: LeaseId) -> Result<Option<Lease>, StorageError> {
        let key = layout::encode_lease_id(id);
        let stored = self.txn.get(LEASES, &key)?;
        stored.map(|bytes| layout::decode_lease(&key, &bytes).map_err(bad)).transpose()
    }

    fn store_lease(&mut self, lease: &Lease) -> Result<(), StorageError> {
        let key = layout::encode_lease_id(lease.id);
        self.txn.put(LEASES, &key, &layout::encode_lease(lease))?;
        Ok(())
    }

    pub(super) fn grant_lease(&mut self, ttl_ms: u64) -> Result<Outcome, StorageError> {
        if self.txn.len(LEASES)? >= MAX_LEASES {
            return Ok(Outcome::LeaseLimit(LeaseLimit::Leases));
        }
        let id = self.new_lease_id()?;
        let lease = Lease { id, ttl_ms, expires_at_ms: self.after(ttl_ms), keys: 0 };
        self.store_lease(&lease)?;
        let deadline = layout::deadline_key(lease.expires_at_ms, Due::Lease(id));
        self.txn.put(DEADLINES, &deadline, &[])?;
        Ok(Outcome::Lease(lease))
    }

    /// An id that no lease has, nor is likely to have had: scattered from where the grant stands in the log and from
    /// when it was made, since a store that was restored may count entries from the beginning again.
    fn new_lease_id(&self) -> Result<LeaseId, StorageError> {
        let index = self.facts.applied.map_or(0, |id| id.index);
        let mut number = first_choice(self.facts.clock_ms, index);
        loop {
            match LeaseId::new(number) {
                Some(id) if self.lease(id)?.is_none() => return Ok(id),
                _ => number = number.wrapping_add(1),
            }
        }
    }

    pub(super) fn keep_lease_alive(&mut self, id: LeaseId) -> Result<Outcome, StorageError> {
        let Some(before) = self.lease(id)? else { return Ok(Outcome::NoLease(id)) };
        let lease = Lease { expires_at_ms: self.after(before.ttl_ms), ..before };
        if lease != before && !planted(Plant::LeaseKeptAliveInVain) {
            let due = Due::Lease(id);
            self.txn.delete(DEADLINES, &layout::deadline_key(before.expires_at_ms, due))?;
            self.txn.put(DEADLINES, &layout::deadline_key(lease.expires_at_ms, due), &[])?;
            self.store_lease(&lease)?;
        }
        Ok(Outcome::Lease(lease))
    }

    pub(super) fn revoke_lease(&mut self, id: LeaseId) -> Result<Outcome, StorageError> {
        if self.lease(id)?.is_none() {
            return Ok(Outcome::NoLease(id));
        }
        let count = self.end_lease(id, ChangeKind::Delete)?;
        Ok(Outcome::Deleted { count, revision: self.facts.revision })
    }

    /// Ends a lease and its keys; says how many there were.
    pub(super) fn end_lease(&mut self, id: LeaseId, why: ChangeKind) -> Result<u64, StorageError> {
        let lease = self.lease(id)?.ok_or(bad(BadBytes("a deadline is of a lease that is not")))?;
        // First the lease, so that its keys need not be counted down (see `leave_lease`).
        self.txn.delete(LEASES, &layout::encode_lease_id(id))?;
        let deadline = layout::deadline_key(lease.expires_at_ms, Due::Lease(id));
        self.txn.delete(DEADLINES, &deadline)?;
        let mut count = 0;
        loop {
            let entries = self.txn.range(LEASE_KEYS, bounds_of(id))?.keys();
            let entries: Vec<Bytes> = entries.take(END_BATCH_KEYS).collect::<Result<_, _>>()?;
            if entries.is_empty() {
                break;
            }
            for entry in &entries {
                let key = layout::key_of_lease(entry).map_err(bad)?;
                if planted(Plant::LeaseKeysStay) && why == ChangeKind::Expire {
                    self.txn.delete(LEASE_KEYS, entry)?;
                    continue;
                }
                let present = self.present(key)?;
                let present = present.ok_or(bad(BadBytes("a lease has a key that is not")))?;
                self.bury(why, key, &present)?;
            }
            count += entries.len() as u64;
        }
        match count == lease.keys {
            true => Ok(count),
            false => Err(bad(BadBytes("a lease has other keys than it counts"))),
        }
    }

    /// Why these puts cannot be made, if they cannot: a lease that is not, or that has no room. A key that leaves a lease
    /// in the same command still counts.
    pub(super) fn refuses<'a>(
        &self,
        puts: impl Iterator<Item = (&'a Key, Lifetime)>,
    ) -> Result<Option<Outcome>, StorageError> {
        let mut keys: BTreeMap<LeaseId, u64> = BTreeMap::new();
        for (key, lifetime) in puts {
            let Lifetime::Lease(id) = lifetime else { continue };
            let Some(lease) = self.lease(id)? else { return Ok(Some(Outcome::NoLease(id))) };
            if self.txn.get(LEASE_KEYS, &layout::lease_key(id, key.as_bytes()))?.is_some() {
                continue;
            }
            let keys = keys.entry(id).or_insert(lease.keys);
            *keys += 1;
            if *keys > MAX_LEASE_KEYS {
                return Ok(Some(Outcome::LeaseLimit(LeaseLimit::Keys(id))));
            }
        }
        Ok(None)
    }

    pub(super) fn join_lease(&mut self, id: LeaseId, key: &[u8]) -> Result<(), StorageError> {
        let lease = self.lease(id)?.ok_or(bad(BadBytes("a key joins a lease that is not")))?;
        self.txn.put(LEASE_KEYS, &layout::lease_key(id, key), &[])?;
        self.store_lease(&Lease { keys: lease.keys + 1, ..lease })
    }

    /// Takes a key out of a lease, which may be ending.
    pub(super) fn leave_lease(&mut self, id: LeaseId, key: &[u8]) -> Result<(), StorageError> {
        self.txn.delete(LEASE_KEYS, &layout::lease_key(id, key))?;
        match self.lease(id)? {
            Some(lease) => self.store_lease(&Lease { keys: lease.keys - 1, ..lease }),
            None => Ok(()),
        }
    }
}

/// The id of a lease that the entry at an index grants, if it is free.
pub(super) fn first_choice(clock_ms: u64, index: u64) -> u64 {
    scatter(clock_ms.rotate_left(32) ^ index)
}

/// Spreads numbers over all 64 bits, no two to the same (the finalizer of splitmix64).
fn scatter(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
