//! `history` and `diff`: what was, in lines.
//!
//! A diff walks the keys of both revisions side by side, without their values. A key differs where
//! another revision wrote it, and only then are the values fetched; so what did not change costs no more than its
//! key. It prints `-` before what was and `+` before what is, as diffs do.

use bytes::Bytes;

use super::exit::Failure;
use super::output::Output;
use super::run::Session;
use super::{json, print};
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
        let mut is_first = true;
        loop {
            let page = self.client.history(key, read, left.min(PAGE_ITEMS)).await?;
            let versions = page.items.iter().take(left);
            match self.output {
                Output::Json => self.write_lines(versions.map(json::version))?,
                Output::Plain => {
                    let line = |version| print::version(version, self.terminal);
                    self.write(versions.map(line).collect::<String>().as_bytes())?;
                }
                Output::Table => {
                    let rows: Vec<Vec<String>> = versions.map(print::version_cells).collect();
                    self.write_table(&["REVISION", "WHAT", "VALUE"], &rows, is_first)?;
                }
            }
            is_first = false;
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
            let (old, new) = (self.whole(old, from).await?, self.whole(new, to).await?);
            if self.output == Output::Json {
                let key = old.as_ref().or(new.as_ref()).map(|item| item.key.clone());
                let key = key.unwrap_or_default();
                self.write_lines([json::change(&key, old.as_ref(), new.as_ref())])?;
                continue;
            }
            for (sign, item) in [("-", old), ("+", new)] {
                let Some(item) = item else { continue };
                let line = print::item(&item, self.terminal);
                self.write(format!("{sign}{line}").as_bytes())?;
            }
        }
    }

    /// A record of one of the revisions, with its value.
    async fn whole(&self, item: Option<Item>, at: Revision) -> Result<Option<Item>, ClientError> {
        let Some(item) = item else { return Ok(None) };
        let read = ReadOptions { revision: Some(at), ..ReadOptions::default() };
        let value = self.client.get(&item.key, read).await?.map(|value| value.bytes);
        Ok(Some(Item { value, ..item }))
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
