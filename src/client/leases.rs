//! Leases: granted, kept alive, revoked, listed.
//!
//! A keepalive does the same once and twice, so it is sent again without a name; a grant and a revocation are
//! named like other writes, and have one outcome however often they are sent.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use serde::{Deserialize, Deserializer};

use super::Client;
use super::call::{Call, Retry};
use super::error::ClientError;
use super::kv::{DeletedRange, Item, Target, write};
use crate::types::LeaseId;

/// A lease, as a server tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct LeaseInfo {
    #[serde(deserialize_with = "id_from_text")]
    pub id: LeaseId,
    /// What a keepalive renews it to.
    #[serde(rename = "ttl_ms", deserialize_with = "from_ms")]
    pub ttl: Duration,
    /// How long it lasts unless it is kept alive, by the server's clock.
    #[serde(rename = "left_ms", deserialize_with = "from_ms")]
    pub left: Duration,
    /// How many keys end with it.
    pub keys: u64,
}

/// A page of leases.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct LeasePage {
    pub items: Vec<LeaseInfo>,
    /// Where to go on; `None` at the end.
    pub next: Option<String>,
}

/// A lease, with a page of its keys.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct LeaseKeys {
    #[serde(flatten)]
    pub lease: LeaseInfo,
    #[serde(rename = "items", deserialize_with = "keys_of_items")]
    pub names: Vec<Bytes>,
    /// Where to go on; `None` at the end.
    pub next: Option<String>,
}

#[derive(Deserialize)]
struct Granted {
    #[serde(deserialize_with = "id_from_text")]
    id: LeaseId,
}

fn id_from_text<'de, D: Deserializer<'de>>(text: D) -> Result<LeaseId, D::Error> {
    String::deserialize(text)?.parse().map_err(serde::de::Error::custom)
}

fn from_ms<'de, D: Deserializer<'de>>(ms: D) -> Result<Duration, D::Error> {
    u64::deserialize(ms).map(Duration::from_millis)
}

fn keys_of_items<'de, D: Deserializer<'de>>(items: D) -> Result<Vec<Bytes>, D::Error> {
    Ok(Vec::<Item>::deserialize(items)?.into_iter().map(|item| item.key).collect())
}

impl Client {
    /// Grants a lease, which ends after `ttl` (from a second up) unless it is kept alive. [`Client::keep_lease`] does
    /// both.
    pub async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId, ClientError> {
        let ttl = format!("{}ms", ttl.as_millis());
        let target = Target::at("/leases").and("ttl", ttl.as_bytes());
        let granted: Granted = self.write(write(Method::POST, target)).await?.json()?;
        Ok(granted.id)
    }

    /// Gives a lease its whole time again. The error `lease_not_found` says that it has ended.
    pub async fn lease_keep_alive(&self, id: LeaseId) -> Result<(), ClientError> {
        self.keep_alive_within(id, None).await
    }

    /// The same, with another server being asked after `attempt_timeout`.
    pub(super) async fn keep_alive_within(
        &self,
        id: LeaseId,
        attempt_timeout: Option<Duration>,
    ) -> Result<(), ClientError> {
        let (method, retry) = (Method::POST, Retry::Always);
        let target = format!("/leases/{id}/keepalive");
        self.call(&Call { method, retry, attempt_timeout, ..Call::get(target) }).await.map(drop)
    }

    /// Ends a lease and deletes its keys.
    pub async fn lease_revoke(&self, id: LeaseId) -> Result<DeletedRange, ClientError> {
        self.write(write(Method::DELETE, format!("/leases/{id}"))).await?.json()
    }

    /// A page of the leases there are; `cursor` is the `next` of the page before.
    pub async fn leases(&self, cursor: Option<&str>) -> Result<LeasePage, ClientError> {
        self.call(&Call::get(behind(Target::at("/leases"), cursor))).await?.json()
    }

    /// A lease, and a page of its keys; `None` when there is no such lease.
    pub async fn lease(
        &self,
        id: LeaseId,
        cursor: Option<&str>,
    ) -> Result<Option<LeaseKeys>, ClientError> {
        let target = behind(Target::at(&format!("/leases/{id}")), cursor);
        match self.call(&Call::get(target)).await {
            Ok(reply) => reply.json().map(Some),
            Err(error) if error.is_code("lease_not_found") => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn behind(target: Target, cursor: Option<&str>) -> Target {
    match cursor {
        Some(cursor) => target.and("cursor", cursor.as_bytes()),
        None => target,
    }
}
