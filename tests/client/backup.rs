//! A backup as the client takes it: from whoever answers, whole or not at all.

use std::time::Duration;

use super::scripted::{Answer, Request, Server};
use conuredb::client::{Client, ClientOptions, ReadOptions};

/// What a node says before the bytes of a backup.
fn backup_of(revision: u64, body: Vec<u8>) -> Answer {
    let answer = Answer::ok(body).with("X-Conure-Revision", revision);
    answer.with("X-Conure-Applied-Index", 9).with("X-Conure-Cluster-Id", "c0")
}

#[tokio::test]
async fn a_backup_is_taken_whole_or_not_at_all() {
    let good: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
    let mut answers = vec![
        Answer::problem(503, "no_leader", "no"),
        backup_of(7, good.clone()),
        backup_of(8, good.clone()).cut_at(50_000),
    ]
    .into_iter();
    let server = Server::start(move |request: &Request| {
        let next = request.target.starts_with("/backup").then(|| answers.next()).flatten();
        next.unwrap_or_else(|| Answer::problem(404, "not_found", "no"))
    })
    .await;
    let options = ClientOptions { timeout: Duration::from_secs(30), ..ClientOptions::new(7) };
    let client = Client::new(vec![server.url.clone()], options).unwrap();
    let backup = client.backup(ReadOptions::default()).await.unwrap();
    let said = (backup.revision, backup.applied_index, &backup.cluster_id[..]);
    assert_eq!(said, (7, 9, "c0"));
    let mut taken = Vec::new();
    assert_eq!(backup.write_to(&mut taken).await.unwrap(), 100_000);
    assert!(taken == good);

    let stale = ReadOptions { stale: true, ..ReadOptions::default() };
    let backup = client.backup(stale).await.unwrap();
    assert_eq!(server.seen().last().unwrap().target, "/backup?stale=true");
    let broken = backup.write_to(&mut Vec::new()).await.unwrap_err();
    assert!(broken.to_string().contains("gave no answer"), "{broken}");
    let asked = server.seen().len();
    assert_eq!(asked, 3, "what broke off is not asked for again");
}
