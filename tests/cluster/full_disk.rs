//! A disk without room. The data directory lies on a file system of a few MiB that fills up; what was acknowledged until then
//! must be there once it has room again.
//!
//! Needs root, to mount a file system. Where that is not allowed the test fails and says so; run the others with `cargo test
//! --test cluster -- --skip full_disk`.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::cluster::CALM;
use crate::harness::Node;

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

/// How a node takes it that its disk is full.
#[derive(Debug, PartialEq)]
enum End {
    /// It goes on, and refuses writes with 507.
    Refused,
    /// It stops.
    Stopped,
}

/// Writes until the node refuses or is gone; how many were acknowledged.
async fn fill(node: &mut Node) -> (usize, End) {
    for number in 0..10_000 {
        // Every key is new: nothing is given back by overwriting.
        match node.try_put(&format!("/kv/fill-{number}"), value(number)).await {
            Ok(reply) if reply.status == 200 => {}
            Ok(reply) => {
                reply.is_problem(507, "storage_full", "");
                return (number, End::Refused);
            }
            Err(_) => {
                assert_eq!(node.ended().await.code(), Some(1));
                return (number, End::Stopped);
            }
        }
    }
    panic!("the disk does not fill up");
}

fn value(number: usize) -> Vec<u8> {
    vec![number as u8; 256 * 1024]
}

#[tokio::test]
async fn a_full_disk_is_named_and_nothing_acknowledged_is_lost_once_it_has_room() {
    let disk = SmallDisk::mount();
    let flags = [CALM, &["--set=storage.log_segment_bytes=12MiB"]].concat();
    let mut node = Node::start_at("node1", &flags, &disk.path().join("data")).await;
    node.wait_until_ready().await;
    let (acknowledged, end) = fill(&mut node).await;
    println!("{acknowledged} writes found room, then the node {end:?}");
    assert!(acknowledged > 10, "only {acknowledged} writes found room");
    if end == End::Stopped {
        // Its last words name the file and the remedy.
        let stops = node.log_lines("this node stops");
        let words = stops.first().expect("a reason in the log");
        let directory = node.data_dir().display().to_string();
        for says in [directory.as_str(), "No space left on device", "Free space"] {
            assert!(words.contains(says), "{says:?} is not in {words:?}");
        }
    }

    disk.give_room();
    if end == End::Stopped {
        node.restart().await;
    }
    node.wait_until_ready().await;
    for number in 0..acknowledged {
        let reply = node.get(&format!("/kv/fill-{number}")).await;
        assert_eq!(reply.status, 200, "write {number} is lost");
        assert!(reply.body == value(number), "write {number} came back changed");
    }
    node.put("/kv/after", "v").await.is_ok();
}
