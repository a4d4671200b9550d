//! A whole data directory, checked: identity, log and store, and whether they belong together.
//!
//! Damage is collected, not returned: one bad sector should not hide another. An error means that the
//! directory is not one that this release can judge.

use std::io;
use std::sync::Arc;

use super::{Damage, KeySpan, Meta, MetaError, PAGE_BYTES, StoreFile, Tree, TreeId, TreeShape};
use crate::storage::disk::Disk;
use crate::storage::error::StorageError;
use crate::storage::freemap::Freemap;
use crate::storage::identity::{self, Identity, IdentityError, Standing};
use crate::storage::kv::{self, layout::KvFacts};
use crate::storage::log::LogError;
use crate::storage::log::inspect::{self as log, LogSurvey};
use crate::storage::walk::Walk;

/// Why a directory cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    #[error("cannot read the directory: {0}")]
    Directory(#[source] io::Error),
    #[error("{directory}: there is no data of a node; check the data directory")]
    NoData { directory: String },
    #[error(transparent)]
    Identity(IdentityError),
    #[error(transparent)]
    Log(LogError),
    #[error(transparent)]
    Store(StorageError),
}

/// Something damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file's full name.
    pub file: String,
    pub offset: u64,
    /// In the store: the page.
    pub page: Option<u64>,
    /// In a tree of the store: the tree, and the keys of it that are affected.
    pub tree: Option<(TreeId, KeySpan)>,
    /// In the log: the entry, if it is known.
    pub entry: Option<u64>,
    pub problem: String,
}

/// What a directory holds.
#[derive(Debug, Default)]
pub struct Survey {
    pub identity: Option<Identity>,
    pub log: LogSurvey,
    /// None when there is no store, or none that can be opened.
    pub store: Option<StoreSurvey>,
    pub findings: Vec<Finding>,
    /// Findings in the store beyond those that are kept.
    pub unlisted: u64,
}

/// What the durable root of the store holds.
#[derive(Debug)]
pub struct StoreSurvey {
    pub meta: Meta,
    pub facts: KvFacts,
    pub file_bytes: u64,
    /// Free bytes; the rest up to the end that the meta page tells is live. None: unknown.
    pub free_bytes: Option<u64>,
    pub trees: Vec<(TreeId, Tree, TreeShape)>,
}

impl StoreSurvey {
    /// Bytes up to the end that the meta page tells.
    pub fn end_bytes(&self) -> u64 {
        self.meta.end * PAGE_BYTES as u64
    }
}

/// Checks everything in the directory.
pub fn survey(disk: &Arc<dyn Disk>) -> Result<Survey, SurveyError> {
    let names = disk.list().map_err(SurveyError::Directory)?;
    let mut survey =
        Survey { log: log::survey(&**disk).map_err(SurveyError::Log)?, ..Survey::default() };
    let store = StoreFile::open(&**disk).map_err(SurveyError::Store)?;
    let has_log = !survey.log.segments.is_empty() || !survey.log.damages.is_empty();
    if !has_log && store.is_none() && !names.iter().any(|name| name == identity::FILE) {
        return Err(SurveyError::NoData { directory: disk.locate("") });
    }
    survey.identity(disk)?;
    survey.findings.extend(survey.log.damages.iter().map(in_log));
    if let Some(store) = &store {
        survey.store(store)?;
    }
    survey.joint(disk.locate(kv::FILE), store.is_some());
    Ok(survey)
}

impl Survey {
    fn identity(&mut self, disk: &Arc<dyn Disk>) -> Result<(), SurveyError> {
        match Identity::load(disk) {
            Ok(identity) => {
                if identity.as_ref().is_some_and(|it| it.standing == Standing::Restoring) {
                    let problem = "a backup was being restored here, which did not end".to_owned();
                    let file = disk.locate(identity::FILE);
                    self.findings.push(Finding::of_file(file, 0, problem));
                }
                self.identity = identity;
            }
            Err(IdentityError::Damaged { file, what }) => {
                self.findings.push(Finding::of_file(file, 0, what.to_owned()));
            }
            Err(error) => return Err(SurveyError::Identity(error)),
        }
        Ok(())
    }

    fn store(&mut self, store: &StoreFile) -> Result<(), SurveyError> {
        let file = || store.location().to_owned();
        let meta = store.meta();
        for (number, page) in (0_u64..).zip(store.meta_pages()) {
            let Err(error @ (MetaError::Damaged { .. } | MetaError::Foreign { .. })) = page else {
                continue;
            };
            let rest = match meta.is_ok() {
                true => "the store opens with the other, perhaps at an earlier checkpoint",
                false => "no root is known",
            };
            let problem = format!("meta page {number} {error}; {rest}");
            let finding = Finding::of_file(file(), number * PAGE_BYTES as u64, problem);
            self.findings.push(Finding { page: Some(number), ..finding });
        }
        let meta = match meta {
            Ok(meta) => meta,
            Err(error) if error.is_corrupt() => return Ok(()), // both pages are named
            Err(error) => return Err(SurveyError::Store(error)),
        };
        let mut walk = Walk::new(&store.pager, Default::default());
        let trees = TreeId::all().map(|id| {
            let tree = meta.root.tree(id);
            (id, tree, walk.tree(id, tree))
        });
        let trees = trees.collect();
        let before = self.findings.len();
        let map = self.map(store, &meta);
        // First, as it explains others.
        if let Some(finding) = missing_end(store, &meta, map.as_ref()) {
            self.findings.insert(before, finding);
        }
        if let Some(map) = &map {
            walk.account(map);
        }
        let (damages, count) = walk.into_damages();
        self.unlisted = count - damages.len() as u64;
        self.findings.extend(damages.into_iter().map(in_store));
        self.store = Some(StoreSurvey {
            meta,
            facts: KvFacts::decode(&meta.root.facts),
            file_bytes: store.len_bytes(),
            free_bytes: map.map(|map| map.free_pages() * PAGE_BYTES as u64),
            trees,
        });
        Ok(())
    }

    /// Reads the map of free space as far as that can be done.
    fn map(&mut self, store: &StoreFile, meta: &Meta) -> Option<Freemap> {
        let (map, errors) = match store.map(meta) {
            Ok(mut map) => {
                let errors = map.load_readable(&store.pager);
                (Some(map), errors)
            }
            Err(error) => (None, vec![error]),
        };
        self.findings.extend(errors.into_iter().map(|error| {
            let finding = of_error(error);
            let page = Some(finding.offset / PAGE_BYTES as u64);
            let problem = format!("the map of free space: {}", finding.problem);
            Finding { page, problem, ..finding }
        }));
        map
    }

    /// What the node refuses at its start: a log that begins behind the end of the store.
    fn joint(&mut self, file: String, has_store: bool) {
        let applied = match &self.store {
            Some(store) => store.facts.applied,
            None if has_store => return, // it is damaged, and that was said
            None => None,
        };
        if let Some(purged) = self.log.state.gap_behind(applied) {
            let ends = applied.map_or("holds nothing".to_owned(), |id| format!("ends at {id}"));
            let problem = format!("the store {ends}, but the log begins after {purged}");
            self.findings.push(Finding::of_file(file, 0, problem));
        }
    }
}

impl Finding {
    fn of_file(file: String, offset: u64, problem: String) -> Finding {
        Finding { file, offset, page: None, tree: None, entry: None, problem }
    }
}

/// A file that was cut short. It may lack its free tail: a checkpoint cuts that before its root is durable,
/// and the process may have died between.
fn missing_end(store: &StoreFile, meta: &Meta, map: Option<&Freemap>) -> Option<Finding> {
    let last_free = map.and_then(|map| map.free_runs().last().copied());
    let tail = last_free.filter(|(start, pages)| start + pages == meta.end);
    let end = tail.map_or(meta.end, |(start, _)| start);
    let end_bytes = end.saturating_mul(PAGE_BYTES as u64);
    let file = store.location().to_owned();
    let problem = format!("the file ends here, where {end_bytes} bytes belong to the store");
    (store.len_bytes() < end_bytes).then(|| Finding::of_file(file, store.len_bytes(), problem))
}

fn in_store(damage: Damage) -> Finding {
    Finding { page: Some(damage.page), tree: damage.tree, ..of_error(damage.error) }
}

/// The parts of an error, without its remedy, which is the same for all.
fn of_error(error: StorageError) -> Finding {
    match error {
        StorageError::Corrupt { file, offset, expected, found } => {
            Finding::of_file(file, offset, format!("expected {expected}, found {found}"))
        }
        StorageError::Io { file, action, offset, source } => {
            Finding::of_file(file, offset, format!("cannot {action}: {source}"))
        }
        other => Finding::of_file(String::new(), 0, other.to_string()),
    }
}

fn in_log(error: &LogError) -> Finding {
    match error {
        LogError::Corrupt { segment, offset, index, problem } => {
            let finding = Finding::of_file(segment.clone(), *offset, (*problem).to_owned());
            Finding { entry: *index, ..finding }
        }
        LogError::Io { action, file, offset, source } => {
            Finding::of_file(file.clone(), *offset, format!("cannot {action}: {source}"))
        }
        other => Finding::of_file(String::new(), 0, other.to_string()),
    }
}
