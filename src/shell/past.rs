//! `history` and `diff`: what was, in lines.
//!
//! A diff walks the keys of both revisions side by side, without their values. A key differs where
//! another revision wrote it, and only then are the values fetched; so what did not change costs no more than its
//! key. It prints `-` before what was and `+` before what is, as diffs do.

use bytes::Bytes;

use super::exit::Failure;
use super::print;
use super::run::Session;
use crate::client::{ClientError, Item, Items, ReadOptions, Scan};
use crate::types::Revision;

/// Versions, and keys of a diff, asked for in one page.
const PAGE_ITEMS: usize = 1_000;

impl Session {
    /// Follows pages up to `limit` versions.
    pub(super) async fn history(
        &self,
        key: &[u8],
        mut read: ReadOptions,
        limit: usize,
    ) -> Result<(), Failure> {
        let mut left = limit;
        loop {
            let page = self.client.history(key, read, left.min(PAGE_ITEMS)).await?;
            let line = |version| print::version(version, self.terminal);
            let lines: String = page.items.iter().take(left).map(line).collect();
            self.write(lines.as_bytes())?;
            left = left.saturating_sub(page.items.len());
            match (page.next, left) {
                (None, _) if page.trimmed => {
                    print::note(&format!(
                        "what was before revision {} is not kept",
                        page.oldest_revision + 1
                    ));
                    return Ok(());
                }
                (None, _) => return Ok(()),
                (Some(_), 0) => {
                    print::note(&format!(
                        "older versions follow these {limit}; `--limit N` lists them"
                    ));
                    return Ok(());
                }
                (next, _) => read.revision = next,
            }
        }
    }

    pub(super) async fn diff(
        &self,
        prefix: Bytes,
        from: Revision,
        to: Revision,
    ) -> Result<(), Failure> {
        let mut before = Side::new(self, &prefix, from).await?;
        let mut after = Side::new(self, &prefix, to).await?;
        loop {
            let (old, new) = match (&before.head, &after.head) {
                (None, None) => return Ok(()),
                (Some(_), None) => (before.take().await?, None),
                (None, Some(_)) => (None, after.take().await?),
                (Some(old), Some(new)) => match old.key.cmp(&new.key) {
                    std::cmp::Ordering::Less => (before.take().await?, None),
                    std::cmp::Ordering::Greater => (None, after.take().await?),
                    std::cmp::Ordering::Equal => (before.take().await?, after.take().await?),
                },
            };
            let revision_of = |item: &Option<Item>| item.as_ref().map(|item| item.mod_revision);
            if revision_of(&old) == revision_of(&new) {
                continue;
            }
            for (sign, item, revision) in [("-", old, from), ("+", new, to)] {
                let Some(item) = item else { continue };
                let read = ReadOptions { revision: Some(revision), ..ReadOptions::default() };
                let value = self.client.get(&item.key, read).await?.map(|value| value.bytes);
                let line = print::item(&Item { value, ..item }, self.terminal);
                self.write(format!("{sign}{line}").as_bytes())?;
            }
        }
    }
}

/// The keys of one revision.
struct Side {
    items: Items,
    head: Option<Item>,
}

impl Side {
    async fn new(session: &Session, prefix: &Bytes, at: Revision) -> Result<Side, ClientError> {
        let read = ReadOptions { revision: Some(at), ..ReadOptions::default() };
        let limit = Some(PAGE_ITEMS);
        let scan = Scan { prefix: prefix.clone(), keys_only: true, limit, read, ..Scan::default() };
        let mut items = session.client.items(scan);
        let head = items.next().await?;
        Ok(Side { items, head })
    }

    async fn take(&mut self) -> Result<Option<Item>, ClientError> {
        let next = self.items.next().await?;
        Ok(std::mem::replace(&mut self.head, next))
    }
}
