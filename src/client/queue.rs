//! A queue of those who want the same, in the order in which they came: what locks and elections are made of.
//!
//! Each who waits has a key of its own below the queue's prefix, `<prefix><lease id>`, which ends with its lease. The
//! `create_revision` of that key is its place: the lowest is first, and comes to be first by the end of the keys
//! before it alone. So it is the fencing token, too: of two that were ever first, the later has the greater.
//! (This is the recipe of etcd's `concurrency` package.)
//!
//! One that waits watches the key right before its own, so that an end wakes one and not all.

use std::time::Duration;

use bytes::Bytes;

use super::error::ClientError;
use super::keeper::{LeaseKeeper, LeaseLost};
use super::kv::{Item, ReadOptions, Scan};
use super::watch::{EventKind, Keys, Watch};
use super::{Client, TxnDone};
use crate::types::{
    Compare, Condition, Key, KeyError, Lifetime, Operand, Relation, Revision, Txn, TxnOp,
};

/// Digits of a lease's id: what follows the prefix in the key of a place, so that a queue whose name begins with
/// another's is told apart from it.
const ID_DIGITS: usize = 16;

/// Why something is not held, or not any more.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Lost(#[from] LeaseLost),
    #[error("the name: {0}")]
    Name(#[from] KeyError),
}

/// A place in a queue; given up when it is dropped.
pub struct Place {
    client: Client,
    prefix: Bytes,
    key: Key,
    token: Revision,
    keeper: LeaseKeeper,
}

/// What stands in a queue right before a place.
struct Ahead {
    key: Bytes,
    token: Revision,
    /// When it stood there.
    revision: Revision,
}

impl Place {
    /// Joins the queue at its end.
    pub async fn join(
        client: &Client,
        prefix: Bytes,
        value: Bytes,
        ttl: Duration,
    ) -> Result<Place, RecipeError> {
        // Before a lease is granted in vain.
        Key::new([&prefix[..], &[b'0'; ID_DIGITS]].concat())?;
        let keeper = client.keep_lease(ttl).await?;
        let key = Key::new([&prefix[..], keeper.id().to_string().as_bytes()].concat())?;
        let put = client.put_with_lease(key.as_bytes(), value, keeper.id(), Condition::Absent);
        let token = put.await?.create_revision;
        Ok(Place { client: client.clone(), prefix, key, token, keeper })
    }

    /// Joins the queue and waits until all before have gone. When `give_up` comes before that, leaves it.
    pub async fn come_first(
        joining: impl Future<Output = Result<Place, RecipeError>>,
        give_up: impl Future<Output = ()>,
    ) -> Result<Option<Place>, RecipeError> {
        tokio::pin!(give_up);
        let place = tokio::select! {
            place = joining => place?,
            () = &mut give_up => return Ok(None),
        };
        let came = tokio::select! {
            why = place.keeper.lost() => Err(RecipeError::from(why)),
            came = place.wait() => came.map(|()| true),
            () = give_up => Ok(false),
        };
        match came? {
            true => Ok(Some(place)),
            // That it is gone is better than that it ends some time.
            false => place.leave().await.map(|()| None),
        }
    }

    async fn wait(&self) -> Result<(), RecipeError> {
        while let Some(ahead) = self.ahead().await? {
            let from = Some(ahead.revision + 1);
            let watch = Watch { from, ..Watch::of(Keys::One(ahead.key)) };
            let mut events = self.client.watch(watch);
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) if event.kind == EventKind::Put => {}
                    Ok(_) => break,
                    // So much was written meanwhile that its end is not told any more.
                    Err(error) if error.is_code("revision_trimmed") => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Who is right before this place; `None` when it is the first.
    async fn ahead(&self) -> Result<Option<Ahead>, RecipeError> {
        let (mut last, mut is_there) = (None::<Ahead>, false);
        let revision = each(&self.client, &self.prefix, |item| {
            is_there |= item.create_revision == self.token;
            let is_nearer = last.as_ref().is_none_or(|last| last.token < item.create_revision);
            if item.create_revision < self.token && is_nearer {
                last = Some(Ahead { key: item.key, token: item.create_revision, revision: 0 });
            }
        })
        .await?;
        match is_there {
            true => Ok(last.map(|ahead| Ahead { revision, ..ahead })),
            false => Err(LeaseLost::Ended.into()),
        }
    }

    pub fn key(&self) -> &Key {
        &self.key
    }

    pub fn token(&self) -> Revision {
        self.token
    }

    pub fn keeper(&self) -> &LeaseKeeper {
        &self.keeper
    }

    /// Holds as long as this place does.
    pub fn guard(&self) -> Compare {
        let to = Operand::CreateRevision(self.token);
        Compare { key: self.key.clone(), is: Relation::Equal, to }
    }

    /// Puts another value under the key, if it is still there.
    pub async fn put(&self, value: Bytes) -> Result<(), RecipeError> {
        let lifetime = Lifetime::Lease(self.keeper.id());
        let put = TxnOp::Put { key: self.key.clone(), value, lifetime };
        let txn = Txn::new(vec![self.guard()], vec![put], Vec::new());
        let done = self.client.txn(&txn.expect("it writes one key")).await;
        match done {
            Ok(TxnDone { succeeded: true, .. }) => Ok(()),
            Ok(TxnDone { succeeded: false, .. }) => Err(LeaseLost::Ended.into()),
            Err(error) if error.is_code("lease_not_found") => Err(LeaseLost::Ended.into()),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives the place up.
    pub async fn leave(self) -> Result<(), RecipeError> {
        match self.keeper.revoke().await {
            Ok(_) => Ok(()),
            Err(error) if error.is_code("lease_not_found") => Err(LeaseLost::Ended.into()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Takes each place of a queue, without its value; says at which revision they stood there.
async fn each(
    client: &Client,
    prefix: &Bytes,
    mut take: impl FnMut(Item),
) -> Result<Revision, ClientError> {
    let mut scan = Scan { prefix: prefix.clone(), keys_only: true, ..Scan::default() };
    loop {
        let page = client.scan(&scan).await?;
        let places = page.items.into_iter();
        places.filter(|item| item.key.len() == prefix.len() + ID_DIGITS).for_each(&mut take);
        scan.cursor = page.next;
        if scan.cursor.is_none() {
            return Ok(page.revision);
        }
    }
}

/// Who is first in a queue, with its value, and the revision at which that was so.
pub async fn first(
    client: &Client,
    prefix: &Bytes,
) -> Result<(Option<Item>, Revision), ClientError> {
    loop {
        let mut first: Option<Item> = None;
        let revision = each(client, prefix, |item| {
            let is_first = first.as_ref();
            if is_first.is_none_or(|first| item.create_revision < first.create_revision) {
                first = Some(item);
            }
        })
        .await?;
        let Some(Item { key, .. }) = first else { return Ok((None, revision)) };
        let read = ReadOptions { revision: Some(revision), ..ReadOptions::default() };
        match client.get_item(&key, read).await {
            Ok(item) => return Ok((item, revision)),
            // It was written so much meanwhile that this is past.
            Err(error) if error.is_code("revision_trimmed") => {}
            Err(error) => return Err(error),
        }
    }
}
