//! Files that do not hold what was written there: the peers replace the node, while clients go on.

use std::fs;
use std::os::unix::fs::FileExt;

use crate::cluster::Cluster;
use crate::harness::{Node, conure_db, run, until};
use crate::load::Load;

/// What the damaged value has, and nothing else.
const MARK: &[u8] = b"this is where the disk forgets";

/// Writes over every place of the store's file where the mark stands; says how many there were.
fn damage(node: &Node) -> usize {
    let path = node.data_dir().join("conure.db");
    let (bytes, file) = (fs::read(&path).unwrap(), fs::File::options().write(true).open(&path));
    let places = bytes.windows(MARK.len()).enumerate().filter(|(_, window)| *window == MARK);
    let file = file.unwrap();
    places.map(|(at, _)| file.write_all_at(b"THAT", at as u64).unwrap()).count()
}

/// Whether `conure-db check` finds a stopped node's directory sound.
async fn is_sound(node: &Node) -> bool {
    let mut check = conure_db();
    check.args(["check", "--data-dir"]).arg(node.data_dir());
    let checked = run(check).await;
    match checked.status.code() {
        Some(0) => true,
        Some(1) => false,
        _ => panic!("{checked:?}"),
    }
}

fn identity(node: &Node) -> Vec<u8> {
    fs::read(node.data_dir().join("identity")).unwrap()
}

#[tokio::test]
async fn a_damaged_node_is_replaced_by_its_peers_under_load() {
    let mut cluster = Cluster::start(3, &[]).await;
    let value = [MARK, &[7; 100_000]].concat();
    cluster.nodes[0].put("/kv/marked", value.clone()).await.is_ok();
    let load = Load::start(&cluster, 4);
    load.progress(200).await;
    // The founder has no seeds, and leads or follows as it comes.
    let node = &mut cluster.nodes[0];
    node.terminate().await;
    assert!(damage(node) > 0, "the checkpoint at the end has the value");
    assert!(!is_sound(node).await);
    let former = identity(node);
    node.restart().await;
    until("the damaged node to begin a new life", async || {
        (identity(node) != former).then_some(())
    })
    .await;
    node.wait_for_voters(3).await;
    node.wait_until_ready().await;
    assert!(node.get_until(200, "/kv/marked").await.body == value, "another value");
    let damaged = "conuredb_scrub_damaged 0";
    assert!(node.get("/metrics").await.text().contains(damaged), "the alert is over");
    load.progress(200).await;
    load.stop().await.holds_on(&cluster).await;
    let node = &mut cluster.nodes[0];
    node.terminate().await;
    assert!(is_sound(node).await);
}
