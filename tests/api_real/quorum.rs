//! What a follower answers that has lost the others: one is dead, and the leader stands still.

use serde_json::json;

use crate::cases;
use crate::harness::until;
use crate::place::Place;

cases! {
    "| 504 | `timeout` |" => a_write_without_an_answer_may_have_happened,
    "| 503 | `no_leader`, `not_ready`, `too_stale` |" => nothing_is_promised_without_a_leader,
}

async fn a_write_without_an_answer_may_have_happened(at: &Place) {
    // It is in the hands of a leader that does not answer.
    let put = at.ask("PUT", "/kv/lost", &["Idempotency-Key: lost:1"], Some(b"v")).await;
    let problem = put.is_problem(504, "timeout");
    assert_eq!((&problem["applied"], &problem["retryable"]), (&json!("unknown"), &json!(true)));
}

async fn nothing_is_promised_without_a_leader(at: &Place) {
    let refused = until("the loss to be noticed", async || {
        let reply = at.put("/kv/lost", "v").await;
        (reply.status == 503).then_some(reply)
    })
    .await;
    assert_eq!(refused.is_problem(503, "no_leader")["applied"], "no");
    let ready = at.get_until(503, "/readyz").await;
    assert!(ready.is_problem(503, "not_ready")["reasons"].is_array());
    let stale = at.get("/kv/get?stale=true&max_stale=1ms").await;
    assert!(stale.is_problem(503, "too_stale")["age_ms"].as_u64() > Some(1));
    assert_eq!(at.get("/kv/get?stale=true").await.status, 200);
    assert_eq!(at.get("/backup?stale=true").await.status, 200);
    assert_eq!(at.get("/livez").await.status, 200);
    assert_eq!(at.get_json("/status").await["leader"], "");
    until("the metrics to say so", async || {
        let metrics = at.get("/metrics").await;
        metrics.text().contains("\nconuredb_raft_has_leader 0\n").then_some(())
    })
    .await;
}
