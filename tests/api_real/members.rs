//! The cluster's documents and changes; backups, compactions and probes.

use serde_json::{Value, json};

use crate::cases;
use crate::harness::{Node, conure_db, conuresh, run, until};
use crate::place::{Place, revision};

cases! {
    "| `GET /status` |" => status_tells_of_the_node_and_of_the_leader,
    "| `GET /raft/config` |" => members_are_listed,
    "| `GET /raft/stats` |" => the_leader_knows_how_far_the_others_are,
    "| `POST /join` `" => a_node_joins_and_leaves,
    "| `conuredb::actors::membership` |" => the_leader_logs_whom_it_lets_in,
    "| `POST /remove` `" => who_is_no_member_is_not_removed,
    "| `POST /transfer` `" => the_lead_goes_where_it_is_sent,
    "| `GET /backup` |" => a_backup_is_the_whole_store,
    "| `POST /compact` |" => the_node_that_is_asked_compacts,
    "| `conuredb::actors::raft::pinned`, `conuredb::actors::storage::compaction` |" => backups_and_compactions_are_logged,
    "| `GET /livez` |" => the_process_lives,
    "| `GET /readyz` |" => the_node_is_ready,
    "| `GET /health` |" => health_tells_who_answers,
    "| `GET /metrics` |" => metrics_are_open_metrics,
}

async fn status_tells_of_the_node_and_of_the_leader(at: &Place) {
    let write = at.stored("status", "v").await;
    let status = until("the write to be applied", async || {
        let status = at.get_json("/status").await;
        (status["revision"].as_u64() >= Some(write)).then_some(status)
    })
    .await;
    let leader = at.leader();
    for (field, value) in [
        ("node_id", json!(at.name())),
        ("is_leader", json!(at.is_alone())),
        ("role", json!(if at.is_alone() { "leader" } else { "follower" })),
        ("leader", json!(leader.raft_addr())),
        ("leader_id", json!(leader.name)),
        ("leader_http", json!(leader.url())),
        ("oldest_revision", json!(0)),
    ] {
        assert_eq!(status[field], value, "{field} of {status}");
    }
    // The shell leaves nothing out.
    let told = run(conuresh(at.node(), &["-o", "json", "status"])).await;
    let told: Value = serde_json::from_slice(&told.stdout).expect("a document");
    let fields = |document: &Value| -> Vec<String> {
        document.as_object().expect("an object").keys().cloned().collect()
    };
    assert_eq!(fields(&told), fields(&status));
}

async fn members_are_listed(at: &Place) {
    let members = at.get_json("/raft/config").await;
    let leader = at.leader();
    assert_eq!(members["leader"], leader.raft_addr());
    let servers = members["servers"].as_array().expect("servers");
    assert_eq!(servers.len(), if at.is_alone() { 1 } else { 3 });
    let first = json!({
        "id": leader.name, "address": leader.raft_addr(), "suffrage": "voter", "http_address": leader.url()
    });
    assert_eq!(servers[0], first);
}

async fn the_leader_knows_how_far_the_others_are(at: &Place) {
    let stats = at.get_json("/raft/stats").await;
    assert_eq!(stats["num_peers"], if at.is_alone() { 0 } else { 2 });
    assert_eq!(stats["peers"], json!({}), "a follower knows of none, and one alone has none");
    if !at.is_alone() {
        let stats = at.leader().get("/raft/stats").await.json();
        assert!(stats["peers"][at.name()]["match_index"].is_u64(), "{stats}");
    }
}

/// Who is at this address, as the members say.
async fn member(at: &Place, node: &Node) -> Option<Value> {
    let members = at.get_json("/raft/config").await;
    members["servers"].as_array().expect("servers").iter().find(|it| it["id"] == node.name).cloned()
}

async fn a_node_joins_and_leaves(at: &Place) {
    let stranger = at.stranger("guest").await;
    let join = json!({
        "ID": "guest", "RaftAddr": stranger.raft_addr(), "HttpAddr": stranger.url(), "Suffrage": "nonvoter"
    });
    // Again is the same.
    for id in ["X-Request-Id: join-1", "X-Request-Id: join-2"] {
        let reply = at.ask("POST", "/join", &[id], Some(join.to_string().as_bytes())).await;
        assert_eq!((reply.status, reply.text()), (200, "OK\n"));
    }
    let joined = until("the guest to be listed", async || member(at, &stranger).await).await;
    assert_eq!(joined["suffrage"], "nonvoter");
    refused_while_it_is_a_copy(at, &stranger).await;
    nobody_is_there(at).await;
    let remove = json!({ "ID": "guest" }).to_string();
    assert_eq!(at.post("/remove", &remove).await.text(), "OK\n");
    until("the guest to be gone", async || member(at, &stranger).await.is_none().then_some(()))
        .await;
}

/// An address at which no node listens.
async fn nobody_is_there(at: &Place) {
    let join = json!({ "ID": "nobody", "RaftAddr": "127.0.0.1:1" }).to_string();
    let problem = at.post("/join", &join).await.is_problem(503, "not_ready");
    let detail = problem["detail"].as_str().expect("a text");
    assert!(detail.starts_with("no node can be reached at 127.0.0.1:1"), "{detail}");
}

/// Of the node that was let in a case before this one.
async fn the_leader_logs_whom_it_lets_in(at: &Place) {
    let told = at.leader().log_lines("request_id=join-1");
    assert!(told.iter().any(|line| line.contains("actors::membership")), "{told:?}");
}

/// What is refused of a node that does not vote, and of one that another name has.
async fn refused_while_it_is_a_copy(at: &Place, copy: &Node) {
    let lead = json!({ "ID": copy.name }).to_string();
    at.post("/transfer", &lead).await.is_problem(409, "refused");
    let other = json!({ "ID": "another", "RaftAddr": copy.raft_addr() }).to_string();
    at.post("/join", &other).await.is_problem(409, "node_conflict");
}

async fn who_is_no_member_is_not_removed(at: &Place) {
    let nobody = json!({ "ID": "nobody" }).to_string();
    at.post("/remove", &nobody).await.is_problem(404, "unknown_node");
    if at.is_alone() {
        let last = json!({ "ID": at.name() }).to_string();
        at.post("/remove", &last).await.is_problem(409, "refused");
    }
}

async fn the_lead_goes_where_it_is_sent(at: &Place) {
    // There, and back to where the other cases expect it.
    for name in [at.name(), &at.leader().name] {
        let reply = at.post("/transfer", &json!({ "ID": name }).to_string()).await;
        assert_eq!((reply.status, reply.text()), (200, "OK\n"), "to {name}");
        until("everybody to know", async || {
            let status = at.get_json("/status").await;
            (status["leader_id"] == name).then_some(())
        })
        .await;
    }
    at.post("/transfer", r#"{"ID":"nobody"}"#).await.is_problem(404, "unknown_node");
}

async fn a_backup_is_the_whole_store(at: &Place) {
    let before = at.stored("backup", "v").await;
    let reply = at.get("/backup").await;
    assert_eq!(reply.header("content-type"), Some("application/octet-stream"));
    assert!(revision(&reply) >= before);
    let cluster_id = at.get_json("/status").await["cluster_id"].clone();
    assert_eq!(reply.header("x-conure-cluster-id"), cluster_id.as_str());
    let head = at.ask("HEAD", "/backup?stale=true&max_stale=1h", &[], None).await;
    assert_eq!(head.header("x-conure-cluster-id"), cluster_id.as_str());
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("backup");
    std::fs::write(&file, &reply.body).expect("a file");
    let mut verify = conure_db();
    verify.arg("verify-backup").arg(&file);
    let said = run(verify).await;
    assert!(said.status.success(), "{said:?}");
}

/// Has the node begin a compaction, in the name of this request.
async fn compact(at: &Place, id: &str) -> Value {
    let header = format!("X-Request-Id: {id}");
    until("a compaction to begin", async || {
        let reply = at.ask("POST", "/compact", &[&header], None).await;
        assert_eq!(reply.status, 202, "{reply:?}");
        Some(reply.json()).filter(|said| said["begun"] == true)
    })
    .await
}

async fn the_node_that_is_asked_compacts(at: &Place) {
    let said = compact(at, "compact-1").await;
    assert_eq!(said["node_id"], at.name());
    assert!(said["db_bytes"].as_u64() >= said["db_bytes_live"].as_u64(), "{said}");
    until("its end", async || (at.get_json("/status").await["compacting"] == false).then_some(()))
        .await;
}

async fn backups_and_compactions_are_logged(at: &Place) {
    at.ask("GET", "/backup", &["X-Request-Id: backup-2"], None).await;
    compact(at, "compact-2").await;
    for id in ["request_id=backup-2", "request_id=compact-2"] {
        let told =
            |line: &String| line.contains("raft::pinned") || line.contains("storage::compaction");
        assert!(at.node().log_lines(id).iter().any(told), "{id} is not in the log");
    }
}

async fn the_process_lives(at: &Place) {
    assert_eq!(at.get("/livez").await.text(), "OK\n");
}

async fn the_node_is_ready(at: &Place) {
    assert_eq!(at.get_until(200, "/readyz").await.text(), "OK\n");
    let verbose = at.get_until(200, "/readyz?verbose").await.json();
    assert_eq!((&verbose["status"], &verbose["leader_id"]), (&json!("ready"), &json!("node1")));
}

async fn health_tells_who_answers(at: &Place) {
    let health = json!({
        "status": "ok", "mode": "cluster", "member_count": if at.is_alone() { 1 } else { 3 },
        "node_id": at.name(),
    });
    assert_eq!(at.get_json("/health").await, health);
}

async fn metrics_are_open_metrics(at: &Place) {
    let reply = at.get("/metrics").await;
    assert!(reply.text().ends_with("# EOF\n") && reply.text().contains("\nconuredb_raft_term "));
}
