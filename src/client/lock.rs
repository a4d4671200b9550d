//! A lock that one process of many holds at a time.
//!
//! Those who wait get it in the order in which they came. It is released when it is let go, and by its lease when the
//! holder falls silent. What a lock over a network cannot do is to stop its last holder: who was paused may go on
//! when another holds it already. So what the lock protects checks the fencing token: docs/RECIPES.md.

use std::time::Duration;

use bytes::Bytes;

use super::Client;
use super::keeper::LeaseLost;
use super::queue::{Place, RecipeError};
use crate::types::{Compare, Key, Revision};

/// What the keys of locks begin with, before the name and a slash.
pub const LOCK_PREFIX: &str = "lock/";

/// A lock that is held; released when it is dropped, as far as the servers can be told.
pub struct Lock(Place);

impl Client {
    /// Waits for the lock `name`. Who holds it and falls silent holds it for `ttl` (from a second up) at most, or a
    /// little longer; see docs/API.md, leases. To wait for so long only, drop the future.
    pub async fn lock(&self, name: &[u8], ttl: Duration) -> Result<Lock, RecipeError> {
        let held = self.lock_unless(name, ttl, std::future::pending()).await?;
        Ok(held.expect("who never gives up gets it"))
    }

    /// The same, but leaves the queue when `give_up` comes first; then there is no lock.
    pub async fn lock_unless(
        &self,
        name: &[u8],
        ttl: Duration,
        give_up: impl Future<Output = ()>,
    ) -> Result<Option<Lock>, RecipeError> {
        let prefix = Bytes::from([LOCK_PREFIX.as_bytes(), name, b"/"].concat());
        let joining = Place::join(self, prefix, Bytes::new(), ttl);
        Ok(Place::come_first(joining, give_up).await?.map(Lock))
    }
}

impl Lock {
    /// The key by which it is held.
    pub fn key(&self) -> &Key {
        self.0.key()
    }

    /// Greater than that of everybody who held this lock before. Whatever is protected by the lock remembers the
    /// greatest it has seen, and refuses a lower one.
    pub fn fencing_token(&self) -> Revision {
        self.0.token()
    }

    /// Whether it surely is held at this moment, by this machine's clock.
    pub fn is_held(&self) -> bool {
        self.0.keeper().is_held()
    }

    /// Waits until it is, or may be, lost; then stop what needs it at once.
    pub async fn lost(&self) -> LeaseLost {
        self.0.keeper().lost().await
    }

    /// A comparison that holds as long as the lock does: a transaction with it writes under the lock or not at all.
    pub fn guard(&self) -> Compare {
        self.0.guard()
    }

    /// Lets it go, and knows that. An error says that it had been lost before, or that it may be held until its
    /// lease ends.
    pub async fn release(self) -> Result<(), RecipeError> {
        self.0.leave().await
    }
}
