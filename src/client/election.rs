//! Elections: one process of many leads, and all know which.
//!
//! Candidates queue as for a lock; the first leads and says so by its value. Who leads is told to whoever observes.
//! As with a lock, a leader that was paused may not know that another leads: what leaders do carries the fencing
//! token (docs/RECIPES.md).

use std::time::Duration;

use bytes::Bytes;

use super::Client;
use super::error::ClientError;
use super::keeper::LeaseLost;
use super::kv::Item;
use super::queue::{self, Place, RecipeError};
use super::watch::{Keys, Watch, Watcher};
use crate::types::{Compare, Key, Revision};

/// What the keys of elections begin with, before the name and a slash.
pub const ELECTION_PREFIX: &str = "election/";

/// The leadership of an election; given up when it is dropped, as far as the servers can be told.
pub struct Leadership(Place);

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    pub key: Bytes,
    /// What it said of itself.
    pub value: Bytes,
    pub fencing_token: Revision,
}

/// Tells who leads, as that changes; see [`Client::observe`].
pub struct Observer {
    client: Client,
    prefix: Bytes,
    watcher: Option<Watcher>,
    /// What was told last, if anything was.
    told: Option<Option<Leader>>,
}

fn prefix_of(name: &[u8]) -> Bytes {
    [ELECTION_PREFIX.as_bytes(), name, b"/"].concat().into()
}

fn leader_of(item: Item) -> Leader {
    let Item { key, value, create_revision, .. } = item;
    Leader { key, value: value.unwrap_or_default(), fencing_token: create_revision }
}

impl Client {
    /// Waits to be elected in the election `name`, as one that says `value` of itself. See [`Client::lock`] for `ttl`.
    pub async fn campaign(
        &self,
        name: &[u8],
        value: impl Into<Bytes>,
        ttl: Duration,
    ) -> Result<Leadership, RecipeError> {
        let elected = self.campaign_unless(name, value, ttl, std::future::pending()).await?;
        Ok(elected.expect("who never gives up is elected"))
    }

    /// The same, but stands down when `give_up` comes first; then there is no leadership.
    pub async fn campaign_unless(
        &self,
        name: &[u8],
        value: impl Into<Bytes>,
        ttl: Duration,
        give_up: impl Future<Output = ()>,
    ) -> Result<Option<Leadership>, RecipeError> {
        let joining = Place::join(self, prefix_of(name), value.into(), ttl);
        Ok(Place::come_first(joining, give_up).await?.map(Leadership))
    }

    /// Who leads in the election `name`, if somebody does.
    pub async fn leader(&self, name: &[u8]) -> Result<Option<Leader>, ClientError> {
        let (first, _) = queue::first(self, &prefix_of(name)).await?;
        Ok(first.map(leader_of))
    }

    /// Follows who leads in the election `name`.
    pub fn observe(&self, name: &[u8]) -> Observer {
        let (client, prefix) = (self.clone(), prefix_of(name));
        Observer { client, prefix, watcher: None, told: None }
    }
}

impl Leadership {
    /// The key by which it is held.
    pub fn key(&self) -> &Key {
        self.0.key()
    }

    /// Greater than that of every leader before.
    pub fn fencing_token(&self) -> Revision {
        self.0.token()
    }

    /// Whether it surely is held at this moment, by this machine's clock.
    pub fn is_held(&self) -> bool {
        self.0.keeper().is_held()
    }

    /// Waits until it is, or may be, lost; then stop leading at once.
    pub async fn lost(&self) -> LeaseLost {
        self.0.keeper().lost().await
    }

    /// A comparison that holds as long as the leadership does.
    pub fn guard(&self) -> Compare {
        self.0.guard()
    }

    /// Says something else of itself, without another election.
    pub async fn proclaim(&self, value: impl Into<Bytes>) -> Result<(), RecipeError> {
        self.0.put(value.into()).await
    }

    /// Makes room for the next candidate. An error says that it had been lost before, or that it may be held until its
    /// lease ends.
    pub async fn resign(self) -> Result<(), RecipeError> {
        self.0.leave().await
    }
}

impl Observer {
    /// Who leads now, the first time; after that waits until that is somebody else, or nobody, or says something else.
    /// Who led for a moment only may be passed over.
    pub async fn next(&mut self) -> Result<Option<Leader>, ClientError> {
        loop {
            if let Some(watcher) = &mut self.watcher {
                match watcher.next().await {
                    Some(Ok(_)) => {}
                    // It is looked at anew, and watched from there.
                    Some(Err(error)) if error.is_code("revision_trimmed") => self.watcher = None,
                    Some(Err(error)) => return Err(error),
                    None => self.watcher = None,
                }
            }
            let (first, revision) = queue::first(&self.client, &self.prefix).await?;
            if self.watcher.is_none() {
                let keys = Keys::Prefix(self.prefix.clone());
                let watch = Watch { from: Some(revision + 1), ..Watch::of(keys) };
                self.watcher = Some(self.client.watch(watch));
            }
            let leader = first.map(leader_of);
            if self.told.as_ref() != Some(&leader) {
                self.told = Some(leader.clone());
                return Ok(leader);
            }
        }
    }
}
