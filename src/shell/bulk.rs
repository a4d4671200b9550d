//! `backup`, `export` and `import`: much at once, through a file or a pipe; and `compact`, which takes as long.
//!
//! What is exported are the lines that `GET /kv?…` gives as `application/x-ndjson`, less the revisions, which mean
//! nothing in another store; so what `curl` took can be imported, too. All lines are of one revision. Keys that end with a
//! lease are left out: kept without it, a lock would be held for ever.
//!
//! An import sends lines in transactions, each under a name by which a retry is known. A batch is stored
//! whole or not at all, one after the other; so an import that stops says from which line to go on, and one that is
//! done again from the start stores the same again. What a server does not take in one transaction goes in halves, at
//! last as single puts.

use std::collections::HashSet;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::exit::Failure;
use super::files::{InFile, OutFile, Place};
use super::line::Line;
use super::print;
use super::progress::Progress;
use super::run::Session;
use crate::client::{ReadOptions, Scan};
use crate::types::{Condition, Key, Lifetime, Txn, TxnOp};

/// Puts of one transaction at most: what a server takes unless it is set otherwise.
const BATCH_PUTS: usize = 128;

/// Bytes of keys and values of one transaction, about: as JSON they take up to six times as many, and a server takes
/// 4 MiB unless it is set otherwise.
const BATCH_BYTES: usize = 512 * 1024;

/// How often a compaction is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What a server refuses of a transaction because it is too much at once.
const TOO_MUCH: [&str; 2] = ["too_many_ops", "value_too_large"];

impl Session {
    pub(super) async fn backup(&self, place: &Place, read: ReadOptions) -> Result<(), Failure> {
        let mut backup = self.client.backup(read).await?;
        let mut out = OutFile::create(place)?;
        let (progress, mut len_bytes) = (Progress::new("backup", None), 0);
        while let Some(chunk) = backup.chunk().await? {
            out.write_all(&chunk).map_err(|why| out.failed(why))?;
            len_bytes += chunk.len() as u64;
            progress.set(len_bytes);
        }
        out.finish()?;
        drop(progress);
        let revision = backup.revision;
        self.done(
            place,
            || format!("OK revision {revision}, {len_bytes} bytes in {place}"),
            || json!({ "revision": revision, "bytes": len_bytes }),
        )
    }

    pub(super) async fn export(&self, prefix: Vec<u8>, place: &Place) -> Result<(), Failure> {
        let mut items = self.client.stream(Scan { prefix: prefix.into(), ..Scan::default() });
        let mut out = OutFile::create(place)?;
        let (progress, mut keys, mut len_bytes) = (Progress::new("export", None), 0_u64, 0);
        while let Some(item) = items.next().await? {
            if item.lease.is_some() {
                continue;
            }
            let line = Line::of(&item).encode();
            out.write_all(&line).map_err(|why| out.failed(why))?;
            keys += 1;
            len_bytes += line.len() as u64;
            progress.set(len_bytes);
        }
        out.finish()?;
        drop(progress);
        let revision = items.revision().unwrap_or_default();
        self.done(
            place,
            || format!("OK {keys} keys of revision {revision} in {place}"),
            || json!({ "revision": revision, "keys": keys }),
        )
    }

    /// Says how it went, where that is not taken for what was asked for.
    fn done(
        &self,
        place: &Place,
        text: impl FnOnce() -> String,
        document: impl FnOnce() -> Value,
    ) -> Result<(), Failure> {
        match place {
            Place::File(_) => self.answer(|| text() + "\n", document),
            Place::Standard => {
                print::note(&text());
                Ok(())
            }
        }
    }

    pub(super) async fn import(&self, place: &Place, from_line: u64) -> Result<(), Failure> {
        let mut file = InFile::open(place)?;
        let progress = Progress::new("import", file.len_bytes());
        let mut import = Import::new(self, from_line);
        let mut number = 0;
        while let Some(line) = file.read_line()? {
            number += 1;
            progress.set(file.read_bytes());
            if number < from_line || line.trim_ascii().is_empty() {
                continue;
            }
            if let Err(stopped) = import.take(number, &line).await {
                // What was read before is stored, if it can be.
                import.flush().await?;
                return Err(stopped);
            }
        }
        import.flush().await?;
        drop(progress);
        let Import { stored, left_out, .. } = import;
        let rest = match left_out {
            0 => String::new(),
            _ => format!(", {left_out} left out that had expired or end with a lease"),
        };
        self.answer(
            || format!("OK {stored} keys stored{rest}\n"),
            || json!({ "stored": stored, "left_out": left_out }),
        )
    }

    pub(super) async fn compact(&self, wait: bool) -> Result<(), Failure> {
        let before = self.client.compact().await?;
        let (node, was) = (&before.node_id, before.db_bytes);
        if !wait {
            return self.answer(
                || format!("OK {node} compacts its {was} bytes\n"),
                || json!({ "node_id": node, "compacting": true, "db_bytes": was }),
            );
        }
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let status = self.client.status().await?;
            if status.node_id != *node {
                print::note(&format!("{node} does not answer any more; it goes on by itself"));
                return Ok(());
            }
            if !status.compacting {
                let now = status.db_bytes;
                return self.answer(
                    || format!("OK {node}: {now} bytes, there were {was}\n"),
                    || json!({ "node_id": node, "compacting": false, "db_bytes": now }),
                );
            }
        }
    }
}

/// An import under way: a batch at a time.
struct Import<'s> {
    session: &'s Session,
    batch: Vec<TxnOp>,
    /// Of the batch: a transaction puts a key once.
    keys: HashSet<Key>,
    batch_bytes: usize,
    /// Puts of one transaction: fewer when the server takes no more.
    most_puts: usize,
    /// Lines before this are stored.
    next_line: u64,
    stored: u64,
    left_out: u64,
    now_ms: u64,
}

impl<'s> Import<'s> {
    fn new(session: &'s Session, from_line: u64) -> Import<'s> {
        Import {
            session,
            batch: Vec::new(),
            keys: HashSet::new(),
            batch_bytes: 0,
            most_puts: BATCH_PUTS,
            next_line: from_line.max(1),
            stored: 0,
            left_out: 0,
            now_ms: unix_ms(),
        }
    }

    /// Takes a line, and stores the batch if that is full.
    async fn take(&mut self, number: u64, line: &[u8]) -> Result<(), Failure> {
        let put = Line::decode(line).and_then(|line| line.into_put(self.now_ms));
        let put = put.map_err(|problem| Failure::BadLine { number, problem })?;
        let Some((key, value, ttl_ms)) = put else {
            self.left_out += 1;
            return Ok(());
        };
        let len_bytes = key.as_bytes().len() + value.len();
        let is_full = self.batch.len() >= self.most_puts
            || self.batch_bytes + len_bytes > BATCH_BYTES
            || self.keys.contains(&key);
        if is_full {
            self.flush().await?;
            self.next_line = number;
        }
        self.keys.insert(key.clone());
        self.batch_bytes += len_bytes;
        let lifetime = ttl_ms.map_or(Lifetime::Unbounded, |ms| Lifetime::Ttl { ms });
        self.batch.push(TxnOp::Put { key, value, lifetime });
        Ok(())
    }

    /// Stores what is in the batch.
    async fn flush(&mut self) -> Result<(), Failure> {
        let count = self.batch.len() as u64;
        let mut parts = vec![std::mem::take(&mut self.batch)];
        self.keys.clear();
        self.batch_bytes = 0;
        while let Some(mut part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            match self.store(&part).await {
                Ok(()) => {}
                Err(Failure::Client(error))
                    if part.len() > 1 && TOO_MUCH.iter().any(|code| error.is_code(code)) =>
                {
                    let rest = part.split_off(part.len() / 2);
                    if error.is_code(TOO_MUCH[0]) {
                        self.most_puts = part.len();
                    }
                    parts.extend([rest, part]);
                }
                Err(failure) => {
                    let line = self.next_line;
                    return Err(Failure::ImportStopped { line, failure: Box::new(failure) });
                }
            }
        }
        self.stored += count;
        Ok(())
    }

    async fn store(&self, puts: &[TxnOp]) -> Result<(), Failure> {
        let client = &self.session.client;
        if let [TxnOp::Put { key, value, lifetime }] = puts {
            let (key, value) = (key.as_bytes(), value.clone());
            match *lifetime {
                Lifetime::Ttl { ms } => {
                    client.put_for(key, value, Duration::from_millis(ms), Condition::None).await?
                }
                _ => client.put(key, value, Condition::None).await?,
            };
            return Ok(());
        }
        let txn = Txn::new(Vec::new(), puts.to_vec(), Vec::new());
        client.txn(&txn.map_err(|error| Failure::Key(error.to_string()))?).await?;
        Ok(())
    }
}

/// The wall clock, by which it is told how long a line has still to live.
#[allow(
    clippy::disallowed_methods,
    reason = "the shell is an outermost layer: its user's clock counts"
)]
fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
