//! A backup of the whole store, as it comes: what `conure-db verify-backup` checks and `conure-db restore` restores.
//!
//! It comes from one server, which reads it from one state; when the connection breaks there is nothing to go on with,
//! and another backup is of another state. So nothing is tried again once the first byte has come: the error
//! is the caller's, who throws away what it has. That the answer is whole is known by its end, as HTTP tells it.

use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::call::{Call, Failure, Reply};
use super::error::{Applied, ClientError};
use super::kv::{ReadOptions, Target};
use super::{Client, LONGEST_SILENCE};
use crate::types::Revision;

/// A backup that is being received; see [`Client::backup`].
pub struct Backup {
    /// What it is of.
    pub revision: Revision,
    /// The last log entry whose effect it holds.
    pub applied_index: u64,
    pub cluster_id: String,
    server: String,
    response: reqwest::Response,
}

/// Why a backup was not written.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("cannot write the backup: {0}")]
    Write(#[source] std::io::Error),
}

impl Client {
    /// Takes a backup: of all that was acknowledged before, or of what a server has (`read.stale`).
    pub async fn backup(&self, read: ReadOptions) -> Result<Backup, ClientError> {
        let call = &Call::get(Target::at("/backup").and_read(read));
        let attempt = |server: String, _| async move {
            let response = self.head_of(&server, call).await?;
            Backup::of(server, response).map_err(Failure::settled)
        };
        self.call_by(call, attempt).await
    }
}

impl Backup {
    fn of(server: String, response: reqwest::Response) -> Result<Backup, ClientError> {
        let head = Reply {
            server: server.clone(),
            headers: response.headers().clone(),
            body: Bytes::new(),
            silence: Applied::No,
        };
        let number = |name: &str| {
            head.number(name)?.ok_or_else(|| head.bad(format!("it has no header {name}")))
        };
        let cluster_id = head.headers.get("x-conure-cluster-id").and_then(|id| id.to_str().ok());
        Ok(Backup {
            revision: number("x-conure-revision")?,
            applied_index: number("x-conure-applied-index")?,
            cluster_id: cluster_id.unwrap_or_default().to_owned(),
            server,
            response,
        })
    }

    /// The bytes that come next; `None` behind the last, when the backup is whole.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        let server = self.server.clone();
        match timeout(LONGEST_SILENCE, self.response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(source)) => Err(ClientError::Lost { server, source, applied: Applied::No }),
            Err(_) => Err(ClientError::Silent { server, after: LONGEST_SILENCE }),
        }
    }

    /// The bytes as a stream, which ends after the first error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, ClientError>> {
        stream::unfold(Some(self), async |backup| {
            let mut backup = backup?;
            match backup.chunk().await.transpose()? {
                Ok(chunk) => Some((Ok(chunk), Some(backup))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    /// Writes all of it, a chunk in memory at a time; says how many bytes.
    pub async fn write_to(
        mut self,
        out: &mut (impl AsyncWrite + Unpin),
    ) -> Result<u64, BackupError> {
        let mut len_bytes = 0;
        while let Some(chunk) = self.chunk().await? {
            out.write_all(&chunk).await.map_err(BackupError::Write)?;
            len_bytes += chunk.len() as u64;
        }
        out.flush().await.map_err(BackupError::Write)?;
        Ok(len_bytes)
    }
}
