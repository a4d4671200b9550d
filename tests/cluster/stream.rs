//! A range as one stream, through a node that is killed in the middle of it.

use conuredb::client::{Client, Scan};
use conuredb::types::{Condition, Key, Lifetime, Txn, TxnOp};

use crate::cluster::Cluster;

/// Together more than what the sockets between client and node hold.
const KEYS: usize = 4_000;
const VALUE_BYTES: usize = 4_096;
const KEYS_OF_A_TXN: usize = 100;

async fn fill(client: &Client) {
    for first in (0..KEYS).step_by(KEYS_OF_A_TXN) {
        let put = |n: usize| TxnOp::Put {
            key: Key::new(format!("k/{n:05}")).expect("a short key"),
            value: vec![b'v'; VALUE_BYTES].into(),
            lifetime: Lifetime::Unbounded,
        };
        let puts = (first..first + KEYS_OF_A_TXN).map(put).collect();
        let txn = Txn::new(vec![], puts, vec![]).expect("no key twice");
        client.txn(&txn).await.expect("a write");
    }
}

#[tokio::test]
async fn a_stream_goes_on_where_it_broke_at_the_revision_that_it_began_with() {
    let mut cluster = Cluster::start(1, &[]).await;
    let client = cluster.client(0);
    fill(&client).await;
    let mut forwards = client.stream(Scan { prefix: "k/".into(), ..Scan::default() });
    let backwards = Scan { prefix: "k/".into(), reverse: true, limit: Some(10), ..Scan::default() };
    let mut backwards = client.stream(backwards);
    for n in 0..5 {
        let key = |item: conuredb::client::Item| String::from_utf8_lossy(&item.key).into_owned();
        let next = forwards.next().await.expect("no error").expect("a record");
        assert_eq!(key(next), format!("k/{n:05}"));
        let next = backwards.next().await.expect("no error").expect("a record");
        assert_eq!(key(next), format!("k/{:05}", KEYS - 1 - n));
    }
    let revision = forwards.revision().expect("it has begun");

    cluster.nodes[0].kill();
    cluster.nodes[0].restart().await;
    cluster.wait_until_ready().await;
    // Of a later revision, and not in the stream.
    client.put(b"k/00100/more", "", Condition::None).await.expect("a write");
    client.delete(b"k/03000", Condition::None).await.expect("a write");

    for n in 5..KEYS {
        let item = forwards.next().await.expect("no error").expect("a record");
        assert_eq!(&item.key[..], format!("k/{n:05}").as_bytes());
        assert_eq!(item.value.map(|value| value.len()), Some(VALUE_BYTES));
        assert!(item.mod_revision <= revision);
    }
    assert_eq!(forwards.next().await.expect("no error"), None);
    assert_eq!(forwards.next().await.expect("no error"), None, "the end stays the end");
    let mut last = None;
    while let Some(item) = backwards.next().await.expect("no error") {
        last = Some(item.key);
    }
    let tenth = format!("k/{:05}", KEYS - 10);
    assert_eq!(last.expect("the other five"), tenth, "the limit is that of all");
}
