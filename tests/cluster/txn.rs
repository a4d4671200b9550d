//! Transactions, through real processes: from followers, by many clients at once, through the shell.

use std::io::Write;
use std::process::Stdio;

use conuredb::client::TxnAnswer;
use conuredb::types::{Compare, Condition, Key, Lifetime, Operand, Relation, Txn, TxnOp};
use reqwest::Method;
use serde_json::json;

use crate::cluster::Cluster;
use crate::harness::{conuresh, run};

/// Clients that count together, and how far each counts.
const COUNTERS: usize = 6;
const COUNT_TO: u64 = 15;

fn key(text: &str) -> Key {
    Key::new(text.as_bytes().to_vec()).expect("a short key")
}

#[tokio::test]
async fn a_transaction_through_a_follower_is_one_revision_on_every_node() {
    let cluster = Cluster::start(3, &[]).await;
    let follower = &cluster.nodes[cluster.follower().await];
    follower.put("/kv/a", "1").await.is_ok();
    follower.put("/kv/tmp/1", "x").await.is_ok();
    let body = json!({
        "compare": [{ "key": "a", "value": "1" }],
        "success": [
            { "op": "put", "key": "a", "value": "2" },
            { "op": "put", "key": "b", "value_base64": "AP8=" },
            { "op": "delete", "prefix": "tmp/" },
            { "op": "range", "prefix": "", "keys_only": true },
        ],
        "failure": [{ "op": "get", "key": "a" }],
    });
    let headers = [("idempotency-key", "tester:1")];
    let post = async |node: usize| {
        let node = &cluster.nodes[node];
        let reply = node.request(Method::POST, "/txn", &headers, body.to_string()).await;
        let reply = reply.expect("an answer");
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    };
    let first = post(cluster.follower().await).await;
    assert_eq!((&first["succeeded"], &first["revision"]), (&json!(true), &json!(3)));
    assert_eq!(first["results"][2]["deleted"], 1);
    assert_eq!(first["results"][3]["items"][1]["key"], "b");
    for node in 0..3 {
        assert_eq!(post(node).await, first, "a retry gets the first outcome, from any node");
    }
    for node in &cluster.nodes {
        assert_eq!(node.get("/kv/b").await.body, b"\x00\xff");
        assert_eq!(node.get("/kv/a?revision=2").await.text(), "1");
        let history = node.get("/kv?key=tmp/1&history=true").await.json();
        assert_eq!(history["items"][0], json!({ "kind": "delete", "revision": 3 }));
    }
    let value = Operand::Value(b"\x00\xff"[..].into());
    let compare = vec![Compare { key: key("b"), is: Relation::Equal, to: value }];
    let get = vec![TxnOp::Get { key: key("b") }];
    let txn = Txn::new(compare, get, vec![]).expect("a transaction");
    let compared = cluster.client(0).txn(&txn).await.expect("an answer");
    assert_eq!((compared.succeeded, compared.revision), (true, 3), "reads take no revision");
    let [TxnAnswer::Get { item: Some(item), .. }] = &compared.results[..] else {
        panic!("{compared:?}")
    };
    assert_eq!(item.value.as_deref(), Some(&b"\x00\xff"[..]));
}

/// Compare and swap loses no count, whoever counts where.
#[tokio::test]
async fn counters_that_swap_lose_nothing() {
    let cluster = Cluster::start(3, &[]).await;
    cluster.client(0).put(b"count", "0", Condition::None).await.expect("a write");
    let count = async |client: conuredb::client::Client| {
        let mut value = 0_u64;
        for _ in 0..COUNT_TO {
            loop {
                let compare = Compare {
                    key: key("count"),
                    is: Relation::Equal,
                    to: Operand::Value(value.to_string().into()),
                };
                let next = (value + 1).to_string().into();
                let put = vec![TxnOp::Put {
                    key: key("count"),
                    value: next,
                    lifetime: Lifetime::Unbounded,
                }];
                let get = vec![TxnOp::Get { key: key("count") }];
                let txn = Txn::new(vec![compare], put, get).expect("a transaction");
                let done = client.txn(&txn).await.expect("an answer");
                if done.succeeded {
                    value += 1;
                    break;
                }
                let [TxnAnswer::Get { item: Some(item), .. }] = &done.results[..] else {
                    panic!("{done:?}")
                };
                let text = String::from_utf8(item.value.clone().expect("a value").into());
                value = text.expect("digits").parse().expect("digits");
            }
        }
    };
    let counters = (0..COUNTERS).map(|n| count(cluster.client(n % 3)));
    futures_util::future::join_all(counters).await;
    for node in &cluster.nodes {
        let total = COUNTERS as u64 * COUNT_TO;
        assert_eq!(node.get("/kv/count").await.text(), total.to_string());
    }
}

#[tokio::test]
async fn the_shell_takes_a_transaction_in_several_lines() {
    let cluster = Cluster::start(1, &[]).await;
    let node = &cluster.nodes[0];
    let lines = "put a 1\ntxn\n  if a value = 1\n  if b absent\n  then put b \"two words\"\n  then get a\n  \
                 then delete none\n  else get b\ncommit\nget b\ncas a 1 2\ncas a 1 3\n";
    let mut script = tempfile::tempfile().expect("a file");
    script.write_all(lines.as_bytes()).expect("a file takes it");
    std::io::Seek::rewind(&mut script).expect("a file goes back");
    let mut command = conuresh(node, &[]);
    command.stdin(Stdio::from(script));
    let output = run(command).await;
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "OK revision 1\nOK then, revision 2\nput b, version 1\na\t1\ndeleted 0\ntwo words\nOK revision 3\n"
    );
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "error: line 12: the value of a is 2\nhint: repeat `cas` with that value, or overwrite it with `put`\n"
    );
    assert_eq!(output.status.code(), Some(5));
    let one_line = ["txn", "if", "a", "version", ">", "5", "then", "get", "b", "else", "get", "a"];
    let output = run(conuresh(node, &one_line)).await;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "OK else, revision 3\na\t2\n");
    assert_eq!(run(conuresh(node, &["cas", "none", "1", "2"])).await.status.code(), Some(4));
}
