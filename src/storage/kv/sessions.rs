//! Retried requests are applied once (Raft dissertation, section 6.3).
//!
//! For each client the store keeps the sequence number of its last write and what came of it. A retry
//! of that number gets the same outcome again; a lower one is refused, since its outcome is no longer known;
//! a higher one is applied. The table is part of the replicated state, so it holds on any leader.
//!
//! It is bounded: past [`MAX_SESSIONS`] clients the one that wrote longest ago is forgotten, and a
//! retry of its last write would then apply again. The age is a log index, so every node forgets the same one.

use super::bad;
use super::layout;
use super::outcome::{self, Session};
use crate::plants::{Plant, planted};
use crate::storage::TreeId;
use crate::storage::cursor::Bounds;
use crate::storage::error::StorageError;
use crate::storage::txn::WriteTxn;
use crate::types::{Outcome, RequestId};

pub(crate) const SESSIONS: TreeId = TreeId::new(2);
pub(crate) const AGES: TreeId = TreeId::new(3);

/// Clients remembered: about 4 MiB of tree with names of ordinary length.
pub const MAX_SESSIONS: u64 = 16_384;

fn load(txn: &WriteTxn<'_>, client: &str) -> Result<Option<Session>, StorageError> {
    let stored = txn.get(SESSIONS, client.as_bytes())?;
    stored.map(|bytes| outcome::decode_session(&bytes).map_err(bad)).transpose()
}

/// The outcome to return without applying, if the request was applied before.
pub(super) fn replay(
    txn: &WriteTxn<'_>,
    request_id: &RequestId,
) -> Result<Option<Outcome>, StorageError> {
    if planted(Plant::RetryAppliedAgain) {
        return Ok(None);
    }
    Ok(load(txn, &request_id.client)?.and_then(|session| {
        match request_id.sequence.cmp(&session.sequence) {
            std::cmp::Ordering::Greater => None,
            std::cmp::Ordering::Equal => Some(session.outcome),
            std::cmp::Ordering::Less => {
                Some(Outcome::Superseded { last_sequence: session.sequence })
            }
        }
    }))
}

/// Remembers the outcome of a request that was applied at log index `used_at`.
pub(super) fn remember(
    txn: &mut WriteTxn<'_>,
    count: &mut u64,
    request_id: &RequestId,
    used_at: u64,
    outcome: &Outcome,
) -> Result<(), StorageError> {
    let client = request_id.client.as_str();
    match load(txn, client)? {
        Some(before) => {
            txn.delete(AGES, &layout::age_key(before.used_at, client))?;
        }
        None => make_room(txn, count)?,
    }
    let session = Session { sequence: request_id.sequence, used_at, outcome: outcome.clone() };
    txn.put(SESSIONS, client.as_bytes(), &outcome::encode_session(&session))?;
    txn.put(AGES, &layout::age_key(used_at, client), &[])?;
    Ok(())
}

/// Counts one more session, and forgets the oldest when there are too many.
fn make_room(txn: &mut WriteTxn<'_>, count: &mut u64) -> Result<(), StorageError> {
    if *count < MAX_SESSIONS {
        *count += 1;
        return Ok(());
    }
    let oldest = txn.range(AGES, Bounds::ALL)?.keys().next();
    if let Some(key) = oldest.transpose()? {
        txn.delete(SESSIONS, layout::age_client(&key).map_err(bad)?)?;
        txn.delete(AGES, &key)?;
    }
    Ok(())
}
