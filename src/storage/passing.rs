//! Reading in passing: what a walk over all of a store, or much of it, may leave behind in memory.
//!
//! A page that one walk needs once should not drive out pages that are asked for again and again, nor
//! make the pool grow to its limit. So a snapshot that reads in passing takes a page from memory where
//! it is there, and else reads it, keeps the last few for itself and leaves the cache alone. Branches
//! do enter the cache: they are one page in a hundred, and every walk comes back to them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::storage::cache::{Guard, PageView};
use crate::storage::error::StorageError;
use crate::storage::page::{self, Page, PageKind, PageRef};
use crate::storage::pager::Pager;

/// Pages that are kept: a walk through the past reads three trees at once, and comes back to each leaf for every
/// entry.
const KEPT_PAGES: usize = 4;

/// Longer pages are values, which are read once.
const LONGEST_KEPT_PAGES: u32 = 4;

/// The pages that passed last, the oldest first.
#[derive(Default)]
pub struct Passing(Mutex<Vec<Arc<Page>>>);

impl Passing {
    /// The page that `at` refers to.
    pub fn page<'g>(
        &self,
        pager: &'g Pager,
        at: PageRef,
        guard: &'g Guard,
    ) -> Result<PageView<'g>, StorageError> {
        if let Some(page) = pager.cached(at, guard)? {
            return Ok(page);
        }
        if let Some(page) = self.kept().iter().find(|page| page.reference() == at) {
            return Ok(PageView::Large(Arc::clone(page)));
        }
        let page = Arc::new(pager.read(at)?);
        if page::kind(page.bytes()) == PageKind::Branch {
            pager.keep(&page, guard);
        } else if at.span <= LONGEST_KEPT_PAGES {
            let mut kept = self.kept();
            if kept.len() == KEPT_PAGES {
                kept.remove(0);
            }
            kept.push(Arc::clone(&page));
        }
        Ok(PageView::Large(page))
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Arc<Page>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
