//! The examples do what they say, against a real node.

use crate::cluster::Cluster;

#[path = "../../examples/lock.rs"]
#[allow(dead_code, reason = "its `main` is for those who run it alone")]
mod lock;
#[path = "../../examples/put_get.rs"]
#[allow(dead_code, reason = "its `main` is for those who run it alone")]
mod put_get;
#[path = "../../examples/txn.rs"]
#[allow(dead_code, reason = "its `main` is for those who run it alone")]
mod txn;
#[path = "../../examples/watch.rs"]
#[allow(dead_code, reason = "its `main` is for those who run it alone")]
mod watch;

#[tokio::test]
async fn the_examples_run_and_leave_nothing_behind() {
    let cluster = Cluster::start(1, &[]).await;
    let client = cluster.client(0);
    put_get::run(&client).await.expect("put_get");
    watch::run(&client).await.expect("watch");
    txn::run(&client).await.expect("txn");
    lock::run(&client).await.expect("lock");
    let left = cluster.nodes[0].get("/kv?prefix=&count_only=true").await.json();
    assert_eq!(left["count"], 0);
    assert_eq!(cluster.nodes[0].get("/leases").await.json()["items"].as_array().unwrap().len(), 0);
}
