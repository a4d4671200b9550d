//! Backups of a cluster that is being written to: taken from a follower, checked, restored, started; and what of a
//! damaged one is told.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use conuredb::client::Client;
use conuredb::storage::disk::{Disk, FileDisk};
use conuredb::storage::identity::{Identity, Standing};
use conuredb::types::{ClusterId, Condition};
use reqwest::Method;
use serde_json::Value;
use tempfile::TempDir;

use crate::cluster::{CALM, Cluster, client};
use crate::harness::{Node, conure_db, conuresh, run, until};
use crate::http::Reply;

/// What stands in the store beside what is being written: 84 revisions.
async fn fill(client: &Client) {
    let put = async |key: &[u8], value: Vec<u8>| {
        client.put(key, value, Condition::None).await.expect("a put");
    };
    for n in 0..40 {
        put(format!("user/{n:02}").as_bytes(), format!("name {n}").into()).await;
        put(format!("user/{:02}", n / 2).as_bytes(), format!("later {n}").into()).await;
    }
    put(b"bin\x00\xff", vec![0, 255, 10]).await;
    put(b"large", vec![7; 1 << 20]).await;
    let hour = Duration::from_secs(3_600);
    client.put_for(b"session", "for a while", hour, Condition::None).await.expect("a put");
    client.delete(b"user/39", Condition::None).await.expect("a delete");
}

/// Sends a write with a name of its own until it is answered.
async fn put_once(node: &Node, value: &'static str) -> Reply {
    until("a named write to be done", async || {
        let named = [("idempotency-key", "tester:7")];
        let put = node.request(Method::PUT, "/kv/once", &named, value).await;
        put.ok().filter(|reply| reply.status == 200)
    })
    .await
}

async fn program(arguments: &[&str]) -> Output {
    let mut command = conure_db();
    command.args(arguments);
    run(command).await
}

fn text(output: &Output) -> String {
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8(said).expect("text")
}

fn path_of(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

/// Restores a backup for a node of this name.
async fn restore(file: &Path, name: &str, home: &TempDir) -> PathBuf {
    let directory = home.path().join(name);
    let arguments =
        ["restore", "--from", path_of(file), "--data-dir", path_of(&directory), "--node-id", name];
    let restored = program(&arguments).await;
    assert_eq!(restored.status.code(), Some(0), "{}", text(&restored));
    directory
}

#[tokio::test]
async fn a_backup_taken_under_writes_comes_back_as_a_cluster_of_its_own() {
    let cluster = Cluster::start(3, &[]).await;
    let follower = cluster.follower().await;
    let node = &cluster.nodes[follower];
    fill(&cluster.client(follower)).await;
    let first = put_once(node, "first").await;

    let (stopped, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writing = {
        let (client, stopped) = (cluster.client(0), stopped.clone());
        let acknowledged = acknowledged.clone();
        tokio::spawn(async move {
            for n in 0.. {
                let key = format!("written/{:04}", n % 3_000);
                let put = client.put(key.as_bytes(), format!("value {n}"), Condition::None).await;
                acknowledged.store(put.expect("a put").revision, Ordering::Release);
                if stopped.load(Ordering::Acquire) {
                    return;
                }
            }
        })
    };
    until("some writes", async || (acknowledged.load(Ordering::Acquire) > 110).then_some(())).await;
    let before = acknowledged.load(Ordering::Acquire);
    let reply = node.get_until(200, "/backup").await;
    stopped.store(true, Ordering::Release);
    writing.await.expect("writes that are acknowledged");
    let revision: u64 = reply.header("x-conure-revision").parse().expect("a revision");
    assert!(revision >= before, "{revision} lacks what was acknowledged at {before}");

    let home = tempfile::tempdir().expect("a temporary directory");
    let file = home.path().join("a.backup");
    fs::write(&file, &reply.body).expect("a file");
    let verified = program(&["verify-backup", "--json", path_of(&file)]).await;
    assert_eq!(verified.status.code(), Some(0), "{}", text(&verified));
    let verified: Value = serde_json::from_slice(&verified.stdout).expect("JSON");
    let old = node.status().await.expect("a status").cluster_id.expect("a cluster");
    assert_eq!(verified["status"], "sound");
    assert_eq!(
        (&verified["revision"], &verified["cluster_id"]),
        (&revision.into(), &old.clone().into())
    );
    assert_eq!(verified["bytes"], reply.body.len());

    let directory = restore(&file, "restored", &home).await;
    let checked = program(&["check", "--data-dir", path_of(&directory)]).await;
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked));
    let mut restored = Node::start_at("restored", CALM, &directory).await;
    restored.wait_until_ready().await;
    let status = restored.status().await.expect("a status");
    assert_eq!(status.revision, revision);
    assert_ne!(status.cluster_id.expect("a cluster"), old);

    let at = format!("&revision={revision}");
    let there = restored.records(&at).await;
    assert!(there.len() > 42 && there == node.records(&at).await, "{} keys", there.len());
    for target in ["/kv?key=user/03&history=true", "/kv?key=user/39&history=true"] {
        let target = format!("{target}&revision={revision}");
        let there = restored.get_until(200, &target).await.json();
        assert_eq!(there["items"], node.get_until(200, &target).await.json()["items"]);
    }
    let session = restored.get_until(200, "/kv/session").await;
    assert!(session.header("x-conure-ttl").ends_with("ms"), "{:?}", session.headers);
    // A write that is repeated now is known as one that was done.
    let again = put_once(&restored, "again").await;
    assert_eq!(again.header("x-conure-revision"), first.header("x-conure-revision"));
    assert_eq!(restored.get_until(200, "/kv/once").await.text(), "first");

    // It is a cluster like others: it takes writes, others join it and get all that it has, and it starts again.
    let own = client(vec![restored.url()]);
    own.put(b"new", "write", Condition::None).await.expect("a put");
    let seeds = format!("--seeds={}", restored.url());
    let joined = Node::start("joined", &[CALM, &["--bootstrap=false", &seeds]].concat()).await;
    joined.wait_for_voters(2).await;
    joined.wait_until_ready().await;
    let all = restored.records("").await;
    assert!(joined.records("").await == all && all.len() == there.len() + 1);
    restored.kill();
    restored.restart().await;
    restored.wait_until_ready().await;
    assert!(restored.records("").await == all);
    let foreign = restored.request(Method::GET, "/status", &[], "").await.expect("an answer");
    assert_eq!(foreign.json()["node_id"], "restored");
}

#[tokio::test]
async fn a_backup_that_is_damaged_or_broke_off_is_refused_with_its_place() {
    let node = Node::start("node1", CALM).await;
    node.wait_until_ready().await;
    fill(&client(vec![node.url()])).await;
    let home = tempfile::tempdir().expect("a temporary directory");
    let good = home.path().join("good.backup");
    let saved = run(conuresh(&node, &["--timeout", "60s", "backup", path_of(&good)])).await;
    assert!(saved.status.success(), "{}", text(&saved));
    assert!(text(&saved).starts_with("OK revision 84, "), "{}", text(&saved));
    let bytes = fs::read(&good).expect("the backup");

    let mut flipped = bytes.clone();
    flipped[700_000] ^= 4;
    let cut = bytes[..700_000].to_vec();
    let longer = [&bytes[..], b"x"].concat();
    for (name, content, says) in [
        ("flipped", flipped, "damaged at byte ".to_owned()),
        ("cut", cut, "it ends at byte 700000, before its end".to_owned()),
        ("longer", longer, format!("something follows it from byte {} on", bytes.len())),
        ("foreign", b"PK\x03\x04 a zip file".to_vec(), "it is no backup of ConureDB".to_owned()),
    ] {
        let file = home.path().join(name);
        fs::write(&file, content).expect("a file");
        let verified = program(&["verify-backup", path_of(&file)]).await;
        assert_eq!(verified.status.code(), Some(1), "{name}");
        assert!(text(&verified).contains(&says), "{name}: {}", text(&verified));
        let directory = home.path().join(format!("{name}-data"));
        let arguments = ["restore", "--from", path_of(&file), "--data-dir", path_of(&directory)];
        let restored = program(&arguments).await;
        assert_eq!(restored.status.code(), Some(1), "{name}");
        assert!(text(&restored).contains(&says), "{name}: {}", text(&restored));
        let left: Vec<String> =
            FileDisk::open(&directory).expect("a directory").list().expect("names");
        assert_eq!(left, Vec::<String>::new(), "{name}");
    }

    let nowhere = program(&["verify-backup", "/nowhere/a.backup"]).await;
    assert_eq!(nowhere.status.code(), Some(2), "{}", text(&nowhere));
    let taken = path_of(node.data_dir()).to_owned();
    let refused = program(&["restore", "--from", path_of(&good), "--data-dir", &taken]).await;
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused));
    assert!(text(&refused).contains("in use"), "{}", text(&refused));
    drop(node);

    // What an interrupted restore left is no node, and the next restore takes its place.
    let directory = restore(&good, "node1", &home).await;
    let refused =
        program(&["restore", "--from", path_of(&good), "--data-dir", path_of(&directory)]).await;
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused));
    assert!(text(&refused).contains("is not empty"), "{}", text(&refused));
    let mut node = Node::start_at("node1", CALM, &directory).await;
    node.kill();
    {
        let disk: Arc<dyn Disk> = Arc::new(FileDisk::open(&directory).expect("a directory"));
        let standing = Standing::Restoring;
        let identity =
            Identity { name: "node1".into(), node_id: 1, cluster_id: ClusterId(1), standing };
        identity.store(&disk).expect("a disk");
    }
    let checked = program(&["check", "--data-dir", path_of(&directory)]).await;
    assert_eq!(checked.status.code(), Some(1), "{}", text(&checked));
    let half = run(node.command()).await;
    assert_eq!(half.status.code(), Some(1), "{}", text(&half));
    assert!(text(&half).contains("run `conure-db restore` again"), "{}", text(&half));
    restore(&good, "node1", &home).await;
}
