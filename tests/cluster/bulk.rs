//! Exports and imports through the real shell: from one cluster into another, over odd bytes, limits and repetitions.

use std::fs::{self, File};
use std::process::Output;
use std::time::Duration;

use conuredb::types::Condition;

use crate::cluster::{CALM, client};
use crate::harness::{Node, conuresh, run};

/// More than one transaction takes.
const KEYS: usize = 700;

/// More time than the shell takes by itself: an election on a busy machine is no failure.
const TIMEOUT: [&str; 2] = ["--timeout", "60s"];

async fn shell(node: &Node, arguments: &[&str]) -> Output {
    run(conuresh(node, &[&TIMEOUT[..], arguments].concat())).await
}

fn said(output: &Output) -> String {
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test]
async fn what_is_exported_is_imported_elsewhere_and_may_be_imported_again() {
    let from = Node::start("node1", CALM).await;
    let small =
        [CALM, &["--set=limits.max_txn_ops=16", "--set=limits.max_txn_bytes=64KiB"]].concat();
    let to = Node::start("node1", &small).await;
    from.wait_until_ready().await;
    to.wait_until_ready().await;
    let lines: String =
        (0..KEYS).map(|n| format!("{{\"key\":\"k/{n:04}\",\"value\":\"{n}\"}}\n")).collect();
    let home = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| home.path().join(name).to_str().expect("text").to_owned();
    fs::write(path("lines"), lines).expect("a file");
    let imported = shell(&from, &["import", &path("lines")]).await;
    assert_eq!(said(&imported), format!("OK {KEYS} keys stored\n"));
    let client = client(vec![from.url()]);
    for (key, value) in [
        (&b"bin\x00\xff"[..], vec![0, 255, 10]),
        (b"large", vec![b'"'; 3 << 20]),
        (b"empty", vec![]),
    ] {
        client.put(key, value, Condition::None).await.expect("a put");
    }
    let hour = Duration::from_secs(3_600);
    client.put_for(b"session", "for a while", hour, Condition::None).await.expect("a put");

    let exported = shell(&from, &["export", &path("all")]).await;
    assert!(
        said(&exported).starts_with(&format!("OK {} keys of revision ", KEYS + 4)),
        "{}",
        said(&exported)
    );
    let part = shell(&from, &["export", "--prefix", "k/000", "-"]).await;
    assert_eq!(String::from_utf8_lossy(&part.stdout).lines().count(), 10);

    for _ in 0..2 {
        let mut command = conuresh(&to, &[&TIMEOUT[..], &["import", "-"]].concat());
        command.stdin(File::open(path("all")).expect("the export"));
        let imported = run(command).await;
        assert_eq!(said(&imported), format!("OK {} keys stored\n", KEYS + 4));
        let values = |records: std::collections::BTreeMap<Vec<u8>, crate::cluster::Stored>| {
            records.into_iter().map(|(key, stored)| (key, stored.value)).collect::<Vec<_>>()
        };
        assert!(values(to.records("").await) == values(from.records("").await));
    }
    assert!(to.get_until(200, "/kv/session").await.header("x-conure-ttl").ends_with("ms"));
}

#[tokio::test]
async fn an_import_that_stops_says_from_where_to_go_on() {
    let node = Node::start("node1", CALM).await;
    node.wait_until_ready().await;
    let home = tempfile::tempdir().expect("a temporary directory");
    let path = home.path().join("lines");
    let path = path.to_str().expect("text");
    let good = |n: usize| format!("{{\"key\":\"k{n}\",\"value\":\"{n}\"}}\n");
    fs::write(path, [good(1), good(2), "{\"key\":\"k3\"}\n".into(), good(4)].concat())
        .expect("a file");
    let stopped = shell(&node, &["import", path]).await;
    assert_eq!(stopped.status.code(), Some(1));
    assert!(said(&stopped).contains("line 3: value is missing"), "{}", said(&stopped));
    let before = node.get_until(200, "/kv/k2").await;
    assert_eq!(before.text(), "2", "what stood before it is stored");
    node.get_until(404, "/kv/k4").await.is_problem(404, "key_not_found", "");
    let rest = shell(&node, &["import", path, "--from-line", "4"]).await;
    assert_eq!(said(&rest), "OK 1 keys stored\n");
    assert_eq!(node.get_until(200, "/kv/k4").await.text(), "4");
    let expired = "{\"key\":\"old\",\"value\":\"v\",\"expires_at_ms\":5}\n\
                   {\"key\":\"held\",\"value\":\"v\",\"lease\":\"a1\"}\n";
    fs::write(path, expired).expect("a file");
    assert_eq!(
        said(&shell(&node, &["import", path]).await),
        "OK 0 keys stored, 2 left out that had expired or end with a lease\n"
    );
    let refused = shell(&node, &["export", "/nowhere/file"]).await;
    assert!(said(&refused).contains("cannot write /nowhere/file.part"), "{}", said(&refused));
}
