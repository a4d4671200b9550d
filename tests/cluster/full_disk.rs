//! A disk without room. The data directory lies on a file system of a few MiB that fills up; puts are refused while reads and
//! deletes go on, and without a restart all writes are taken once it has room again.
//!
//! Needs root, to mount a file system. Where that is not allowed the test fails and says so; run the others with `cargo test
//! --test cluster -- --skip full_disk`.

use std::path::PathBuf;
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use crate::cluster::CALM;
use crate::harness::{Node, until};

/// Room for the log's segments and a few checkpoints.
const SMALL: &str = "size=72m";
const LARGE: &str = "size=512m";

/// A file system in memory, of a size that can be changed.
struct SmallDisk {
    place: TempDir,
}

impl SmallDisk {
    fn mount() -> SmallDisk {
        let disk = SmallDisk { place: tempfile::tempdir().expect("a directory") };
        disk.call("mount", &["-t", "tmpfs", "-o", SMALL, "conuredb-test"]);
        disk
    }

    fn give_room(&self) {
        self.call("mount", &["-o", &format!("remount,{LARGE}")]);
    }

    fn path(&self) -> PathBuf {
        self.place.path().to_owned()
    }

    fn call(&self, program: &str, arguments: &[&str]) {
        let done = Command::new(program).args(arguments).arg(self.place.path()).output();
        let done = done.unwrap_or_else(|error| panic!("{program}: {error}"));
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "this test needs the right to mount a tmpfs: {said}");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the node may be on its way out.
        let _ = Command::new("umount").arg("-l").arg(self.place.path()).status();
    }
}

/// Writes until the node refuses; how many were acknowledged.
async fn fill(node: &Node) -> usize {
    for number in 0..10_000 {
        // Every key is new: nothing is given back by overwriting.
        let reply = node.put(&format!("/kv/fill-{number}"), value(number)).await;
        if reply.status != 200 {
            let problem = reply.is_problem(507, "storage_full", "deletes go on").json();
            assert_eq!((&problem["applied"], &problem["retryable"]), (&json!("no"), &json!(true)));
            assert_eq!(reply.header("retry-after"), "1");
            return number;
        }
    }
    panic!("the disk does not fill up");
}

async fn check_all_there(node: &Node, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let reply = node.get(&format!("/kv/fill-{number}")).await;
        assert_eq!(reply.status, 200, "write {number} is lost");
        assert!(reply.body == value(number), "write {number} came back changed");
    }
}

async fn says_full(node: &Node, full: f64) -> bool {
    node.metric("conuredb_storage_full").await == Some(full)
}

fn value(number: usize) -> Vec<u8> {
    vec![number as u8; 256 * 1024]
}

#[tokio::test]
async fn a_full_disk_refuses_puts_serves_reads_and_deletes_and_clears_by_itself() {
    let disk = SmallDisk::mount();
    let flags = [CALM, &["--set=storage.log_segment_bytes=12MiB"]].concat();
    let mut node = Node::start_at("node1", &flags, &disk.path().join("data")).await;
    node.wait_until_ready().await;
    assert!(says_full(&node, 0.0).await);
    let acknowledged = fill(&node).await;
    println!("{acknowledged} writes found room");
    assert!(acknowledged > 10, "only {acknowledged} writes found room");
    assert!(says_full(&node, 1.0).await);
    let words = node.log_lines("the disk is full");
    let words = words.first().expect("a reason in the log");
    let directory = node.data_dir().display().to_string();
    for says in [directory.as_str(), "No space left on device", "storage_full", "free space"] {
        assert!(words.contains(says), "{says:?} is not in {words:?}");
    }

    check_all_there(&node, 0..acknowledged).await;
    for number in 0..5 {
        node.delete(&format!("/kv/fill-{number}")).await.is_ok();
        assert_eq!(node.get(&format!("/kv/fill-{number}")).await.status, 404);
    }
    node.put("/kv/fill-0", "v").await.is_problem(507, "storage_full", "");

    disk.give_room();
    until("puts to be taken again", async || {
        (node.put("/kv/after", "v").await.status == 200).then_some(())
    })
    .await;
    assert!(says_full(&node, 0.0).await);
    assert_eq!(node.log_lines("the disk has room again").len(), 1);
    assert!(node.is_running());
    check_all_there(&node, 5..acknowledged).await;

    node.kill();
    node.restart().await;
    node.wait_until_ready().await;
    check_all_there(&node, 5..acknowledged).await;
    assert_eq!(node.get("/kv/fill-0").await.status, 404);
    assert_eq!(node.get("/kv/after").await.text(), "v");
}
