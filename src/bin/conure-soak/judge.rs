//! What has to hold when everything is mended: every node tells the same, and it is what was acknowledged.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use conuredb::client::{Item, Page};
use conuredb::processes::{LOOK_EVERY, PATIENCE, until};
use conuredb::simulation::linearizable::{Verdict, check};
use conuredb::simulation::values::body;
use reqwest::Method;

use crate::Failure;
use crate::findings::Findings;
use crate::fleet::Fleet;
use crate::watchers::Watchers;
use crate::workload::Workload;

/// All records of a round, as a node has them, and at which revision.
struct Scan {
    revision: u64,
    items: BTreeMap<Bytes, Item>,
}

/// Holds the cluster against what the clients of a round remember. Nobody writes any more.
pub async fn judge(
    fleet: &Fleet,
    load: &Workload,
    watchers: &Watchers,
    findings: &Findings,
) -> Result<(), Failure> {
    for node in 0..fleet.count() {
        load.read_all(&fleet.http, node).await?;
    }
    let scans = level(fleet, &load.prefix, findings).await?;
    for (node, scan) in scans.iter().enumerate() {
        differ(fleet, node, scan, &scans[0], findings);
        hold_once(fleet.name(node), scan, load, findings);
    }
    watchers.judge(load, findings).await;
    for (number, group) in load.facts().groups.iter().enumerate() {
        let name = load.prefix_of(number);
        match check(&group.calls, &group.knowledge.revisions) {
            Verdict::Linearizable => {}
            Verdict::Violation(how) => {
                findings.violation(format_args!("{name} is not linearizable: {how}"));
            }
            Verdict::Undecided => findings.undecided(&name),
        }
    }
    findings.checked(load.operations());
    findings.acknowledged(load.acknowledged());
    let said =
        format!("{} operations, {} writes acknowledged", load.operations(), load.acknowledged());
    findings.say(format_args!("judged {} groups of keys in {said}", load.facts().groups.len()));
    forget(fleet, &load.prefix).await
}

/// Stale scans of all nodes, taken until they are of one revision.
async fn level(fleet: &Fleet, prefix: &str, findings: &Findings) -> Result<Vec<Scan>, Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut scans = Vec::new();
        for node in 0..fleet.count() {
            scans.push(scan(fleet, node, prefix).await?);
        }
        if scans.iter().all(|scan| scan.revision == scans[0].revision) {
            return Ok(scans);
        }
        if Instant::now() > deadline {
            let revisions: Vec<u64> = scans.iter().map(|scan| scan.revision).collect();
            findings.violation(format_args!("nodes stay at revisions {revisions:?}"));
            return Ok(scans);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn scan(fleet: &Fleet, node: usize, prefix: &str) -> Result<Scan, Failure> {
    let (name, url) = (fleet.name(node), fleet.nodes[node].url());
    let mut items = BTreeMap::new();
    let mut target = format!("/kv?prefix={prefix}&stale=true&limit=1000");
    loop {
        let what = format!("{name} to answer {target}");
        let page = until(&what, PATIENCE, async || {
            fleet.http.document::<Page>(format!("{url}{target}")).await
        });
        let page = page.await?;
        items.extend(page.items.into_iter().map(|item| (item.key.clone(), item)));
        match page.next {
            Some(next) => target = format!("/kv?cursor={next}"),
            None => return Ok(Scan { revision: page.revision, items }),
        }
    }
}

/// Equal revisions mean equal records.
fn differ(fleet: &Fleet, node: usize, scan: &Scan, first: &Scan, findings: &Findings) {
    if scan.revision != first.revision || scan.items == first.items {
        return;
    }
    let keys = scan.items.keys().chain(first.items.keys());
    let apart = keys.filter(|key| scan.items.get(*key) != first.items.get(*key));
    let some: Vec<String> =
        apart.take(3).map(|key| String::from_utf8_lossy(key).into_owned()).collect();
    let (one, other) = (fleet.name(0), fleet.name(node));
    findings.violation(format_args!(
        "{one} and {other} differ at revision {}: {some:?}",
        scan.revision
    ));
}

/// What was written once is there if that was acknowledged, in its first version, and as it was written.
fn hold_once(name: &str, scan: &Scan, load: &Workload, findings: &Findings) {
    let facts = load.facts();
    for key in facts.once.keys().filter(|key| !scan.items.contains_key(key.as_bytes())) {
        findings.lost(format_args!("{key}, at {name}"));
    }
    let prefix = format!("{}once/", load.prefix);
    for (key, item) in scan.items.range(Bytes::from(prefix.clone())..) {
        let key = String::from_utf8_lossy(key);
        if !key.starts_with(&prefix) {
            break;
        }
        let Some(value) = facts.once.get(&*key).or_else(|| facts.in_doubt.get(&*key)) else {
            findings.violation(format_args!("{key} is there at {name}, and its write was refused"));
            continue;
        };
        if item.version != 1 {
            findings.duplicated(format_args!("{key} is in version {} at {name}", item.version));
        }
        if item.value.as_deref() != Some(&body(*value)[..]) {
            findings.violation(format_args!("{key} at {name} has bytes that nobody wrote"));
        }
    }
}

/// Removes what a round wrote, so that the next begins as small.
async fn forget(fleet: &Fleet, prefix: &str) -> Result<(), Failure> {
    let node = fleet.leader().await?;
    let url = format!("{}/kv?prefix={prefix}", fleet.nodes[node].url());
    until(&format!("{prefix} to be removed"), PATIENCE, async || {
        let sent = fleet.http.send(Method::DELETE, url.clone(), &[], Bytes::new()).await;
        sent.ok().filter(|reply| reply.status == 200).map(drop)
    })
    .await?;
    Ok(())
}
