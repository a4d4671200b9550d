//! What became of a key.

use bytes::Bytes;
use serde::Deserialize;

use super::Client;
use super::call::Call;
use super::error::ClientError;
use super::kv::{ReadOptions, either, of_key};
use crate::types::Revision;

/// A page of a key's history, newest version first.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct History {
    pub items: Vec<Version>,
    /// What to read as of for the next page; `None` at the end.
    pub next: Option<Revision>,
    /// At the end: whether there may have been earlier versions that the servers do not keep.
    pub trimmed: bool,
    /// The oldest revision that is kept.
    pub oldest_revision: Revision,
    pub revision: Revision,
}

/// What a revision made of a key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WireVersion")]
pub struct Version {
    pub revision: Revision,
    pub kind: VersionKind,
    /// What was put.
    pub value: Option<Bytes>,
}

/// See [`Version`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VersionKind {
    Put,
    Delete,
    Expire,
    /// Of a later version of the server.
    #[serde(other)]
    Other,
}

impl VersionKind {
    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            VersionKind::Put => "put",
            VersionKind::Delete => "delete",
            VersionKind::Expire => "expire",
            VersionKind::Other => "other",
        }
    }
}

#[derive(Deserialize)]
struct WireVersion {
    revision: Revision,
    kind: VersionKind,
    value: Option<String>,
    value_base64: Option<String>,
}

impl TryFrom<WireVersion> for Version {
    type Error = base64::DecodeError;

    fn try_from(wire: WireVersion) -> Result<Version, base64::DecodeError> {
        let value = either(wire.value, wire.value_base64)?;
        Ok(Version { revision: wire.revision, kind: wire.kind, value })
    }
}

impl Client {
    /// What became of `key`, up to `read.revision` if that is given: at most `limit` versions.
    pub async fn history(
        &self,
        key: &[u8],
        read: ReadOptions,
        limit: usize,
    ) -> Result<History, ClientError> {
        let target = of_key(key).and("history", b"true").and("limit", limit.to_string().as_bytes());
        self.call(&Call::get(target.and_read(read))).await?.json()
    }
}
