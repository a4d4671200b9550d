//! Holders: the roots that somebody still has, and the dead pages that wait for them.
//!
//! A page of a copy-on-write tree lives from the transaction that made it (its *birth*) up to the
//! one that replaced it (its *death*): it is part of every root from birth on, below death. It may
//! be used again once nobody has such a root. Holders are the roots that snapshots pin, the durable
//! root, and the root of a checkpoint in flight.
//!
//! So a dying page looks for the *newest* holder below its death. Is that one older than the page's
//! birth, nobody has the page: most pages of a busy store are born and die between two holders.
//! Else the page is entered with that holder and, when the holder goes, looks again below it.
//! Nothing is scanned, and an old reader holds back only what it sees itself, not everything that
//! came after (as a single "oldest reader" mark would).
//!
//! New holders only ever appear at the newest committed root, whose pages have not died, so a page
//! that found no holder never gets one.
//!
//! Holders are few, come and go at the newest end and are asked for there: a sorted vector.

use crate::storage::page::{PageRef, TxnId};

/// The roots that are held, oldest first.
#[derive(Default)]
pub struct Holders {
    roots: Vec<Holder>,
    waiting_pages: u64,
}

struct Holder {
    txn: TxnId,
    /// How many reasons there are to hold this root (a snapshot, the durable root, a checkpoint).
    reasons: u32,
    /// Dead pages for which this is the newest root that has them.
    waiting: Vec<PageRef>,
}

impl Holders {
    pub fn hold(&mut self, txn: TxnId) {
        match self.roots.binary_search_by_key(&txn, |root| root.txn) {
            Ok(at) => self.roots[at].reasons += 1,
            Err(at) => self.roots.insert(at, Holder { txn, reasons: 1, waiting: Vec::new() }),
        }
    }

    /// Drops one reason to hold root `txn`; returns the pages that nobody holds any more.
    pub fn release(&mut self, txn: TxnId) -> Vec<PageRef> {
        let at = self.roots.binary_search_by_key(&txn, |root| root.txn);
        let at = at.unwrap_or_else(|_| panic!("root {txn} is released by nobody who held it"));
        self.roots[at].reasons -= 1;
        if self.roots[at].reasons > 0 {
            return Vec::new();
        }
        let mut waiting = self.roots.remove(at).waiting;
        self.waiting_pages -= waiting.iter().map(|page| u64::from(page.span)).sum::<u64>();
        waiting.retain(|&page| !self.keeps(page, txn));
        waiting
    }

    /// Takes a page that no root from `death` on has, or no holder from `death` on; says whether
    /// one below has it, in which case the page waits.
    pub fn keeps(&mut self, page: PageRef, death: TxnId) -> bool {
        let below = self.roots.partition_point(|root| root.txn < death);
        match self.roots[..below].last_mut() {
            Some(root) if root.txn >= page.birth => {
                root.waiting.push(page);
                self.waiting_pages += u64::from(page.span);
                true
            }
            _ => false,
        }
    }

    pub fn waiting_pages(&self) -> u64 {
        self.waiting_pages
    }

    pub fn waiting(&self) -> impl Iterator<Item = PageRef> {
        self.roots.iter().flat_map(|root| root.waiting.iter().copied())
    }
}
