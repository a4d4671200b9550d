//! docs/API.md, line by line, on real processes: once on a single node, once on a follower of three.
//!
//! Every row of the page's tables has a [`Case`] that quotes how the row begins and shows that it holds, or a word
//! about where else that is shown (`ELSEWHERE`). A row that is added without either fails here. The cases share a
//! cluster and go one after the other; each has keys of its own. What they get is held against `/openapi.json` of the
//! node that is asked, as in `tests/http_contract`, whose client they use: it sends exactly the bytes it is given.
//!
//! ```text
//! place.rs     the node that is asked, its cluster, and requests to it
//! keys.rs      one key: values, conditions, retries, reads of all kinds
//! ranges.rs    pages, lines, counts, deletes; the past
//! txn.rs       transactions
//! leases.rs    keys that end, leases
//! watch.rs     streams of changes
//! members.rs   the cluster's documents and changes; backups, compactions, probes
//! errors.rs    every code that a node in good health answers
//! logs.rs      the log, and what it tells
//! quorum.rs    what a follower answers that has lost the others
//! ```

#![allow(
    clippy::disallowed_methods,
    reason = "a test is its own outermost layer: it opens sockets"
)]

#[path = "../http_contract/client.rs"]
#[allow(dead_code, reason = "pipelines are tested elsewhere")]
mod client;
#[path = "../cluster/cluster.rs"]
#[allow(dead_code, reason = "these tests need a few of its questions")]
mod cluster;
#[path = "../http_contract/document.rs"]
mod document;
#[path = "../cluster/harness.rs"]
#[allow(dead_code, reason = "these tests neither kill nor wipe most nodes")]
mod harness;
#[path = "../cluster/http.rs"]
#[allow(dead_code, reason = "requests of these tests go byte for byte")]
mod http;

mod errors;
mod keys;
mod leases;
mod logs;
mod members;
mod place;
mod quorum;
mod ranges;
mod txn;
mod watch;

use futures_util::future::LocalBoxFuture;

use place::Place;

const API: &str = include_str!("../../docs/API.md");

/// A row of the page, and what shows that it holds.
pub struct Case {
    /// How the row begins, or the words of a paragraph.
    line: &'static str,
    check: fn(&Place) -> LocalBoxFuture<'_, ()>,
}

/// Cases in the order in which they are tried.
#[macro_export]
macro_rules! cases {
    ($($line:literal => $check:ident,)*) => {
        pub const CASES: &[$crate::Case] =
            &[$($crate::Case { line: $line, check: |at| Box::pin($check(at)) }),*];
    };
}

/// All cases. Those of the past come before those that push it out.
fn cases() -> impl Iterator<Item = &'static Case> {
    let groups = [
        keys::CASES,
        ranges::CASES,
        txn::CASES,
        watch::CASES,
        leases::CASES,
        logs::CASES,
        members::CASES,
        errors::CASES,
    ];
    groups.into_iter().flatten()
}

/// Rows that a node in good health cannot show, or not in a moment; and what shows them.
const ELSEWHERE: &[(&str, &str)] = &[
    ("| `slow_watcher` |", "tests/http_contract/watch.rs, tests/cluster/watch.rs"),
    ("| `not_ready` |", "tests/cluster/watch.rs: a node that closes"),
    ("| `overloaded` |", "tests/http_contract/watch.rs: bytes of bodies in a stream"),
    ("| `storage_failed` |", "tests/simulation/damage.rs: a damaged page"),
    ("| 429 | `slow_watcher` |", "tests/http_contract/watch.rs, tests/cluster/watch.rs"),
    ("| 500 | `storage_failed`, `internal` |", "tests/simulation/damage.rs; a defect has no test"),
    ("| 507 | `storage_full` |", "tests/cluster/full_disk.rs: a disk without room"),
];

#[test]
fn every_row_of_the_page_has_a_case() {
    let rows: Vec<&str> = API
        .lines()
        .filter(|line| line.starts_with("| ") && !HEADINGS.iter().any(|it| line.starts_with(it)))
        .collect();
    assert!(rows.len() > 80, "only {} rows were found", rows.len());
    let known = || {
        let elsewhere = ELSEWHERE.iter().map(|(line, _)| *line);
        cases().chain(quorum::CASES).map(|case| case.line).chain(elsewhere)
    };
    let without: Vec<&&str> =
        rows.iter().filter(|row| !known().any(|line| row.starts_with(line))).collect();
    assert!(without.is_empty(), "no case is about {without:#?}");
    let stale: Vec<&str> = known().filter(|line| !API.contains(line)).collect();
    assert!(stale.is_empty(), "the page does not say {stale:#?} any more");
}

/// How the first rows of tables begin.
const HEADINGS: &[&str] = &[
    "| Request |",
    "| Parameter |",
    "| Header |",
    "| In `compare` |",
    "| In `success` and `failure` |",
    "| `code` | When |",
    "| Status | Code |",
    "| Target | Level |",
];

async fn try_all(place: &Place, cases: impl Iterator<Item = &'static Case>) {
    let document = place.get("/openapi.json").await.json();
    assert!(document == *document::DOCUMENT, "the node serves another document");
    for case in cases {
        // The last one told is the one that failed.
        println!("{}: {}", place.name(), case.line);
        (case.check)(place).await;
    }
}

#[tokio::test]
async fn one_node_keeps_every_line() {
    try_all(&Place::alone().await, cases()).await;
}

#[tokio::test]
async fn a_follower_keeps_every_line() {
    let mut place = Place::follower().await;
    try_all(&place, cases()).await;
    place.lose_the_quorum().await;
    try_all(&place, quorum::CASES.iter()).await;
}
