//! All items of a range, however many: page after page, at one revision.

use std::collections::VecDeque;

use super::Client;
use super::error::ClientError;
use super::kv::{Item, Scan};
use crate::types::Revision;

/// Walks a range; see [`Client::items`].
pub struct Items {
    client: Client,
    scan: Scan,
    page: VecDeque<Item>,
    revision: Option<Revision>,
    is_done: bool,
}

impl Client {
    /// The items of a range, asked for in pages as they are taken. `scan.limit` is that of a page.
    pub fn items(&self, scan: Scan) -> Items {
        let (client, page) = (self.clone(), VecDeque::new());
        Items { client, scan, page, revision: None, is_done: false }
    }
}

impl Items {
    /// The revision that all items are of, once the first page came.
    pub fn revision(&self) -> Option<Revision> {
        self.revision
    }

    /// The next item; `None` at the end of the range, and after an error.
    pub async fn next(&mut self) -> Result<Option<Item>, ClientError> {
        while self.page.is_empty() && !self.is_done {
            self.is_done = true; // unless there is more
            let page = self.client.scan(&self.scan).await?;
            self.is_done = page.next.is_none();
            self.scan.cursor = page.next;
            self.revision = Some(page.revision);
            self.scan.read.revision = None; // the cursor has it
            self.page = page.items.into();
        }
        Ok(self.page.pop_front())
    }
}
