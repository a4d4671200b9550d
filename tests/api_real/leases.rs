//! Keys that expire, and leases.

use serde_json::{Value, json};

use crate::cases;
use crate::harness::until;
use crate::place::Place;

cases! {
    "`PUT /kv/K?ttl=30s` (1 ms to 100 years) stores a value that expires" => a_key_expires,
    "| `POST /leases?ttl=30s`, or with the body" => a_lease_is_granted,
    "| `POST /leases/ID/keepalive` |" => a_lease_is_kept_alive,
    "| `PUT /kv/K?lease=ID`" => a_key_ends_with_its_lease,
    "| `DELETE /leases/ID` |" => a_lease_takes_its_keys_along,
    "| `GET /leases` |" => leases_are_listed,
    "| `GET /leases/ID` |" => a_lease_tells_its_keys,
}

/// Grants a lease, whose id is the answer.
async fn granted(at: &Place, ttl: &str) -> String {
    let lease = at.post(&format!("/leases?ttl={ttl}"), "").await.json();
    lease["id"].as_str().expect("an id").to_owned()
}

async fn a_key_expires(at: &Place) {
    assert_eq!(at.put("/kv/ttl/long?ttl=1h", "v").await.status, 200);
    let reply = at.get("/kv/ttl/long").await;
    let left = reply.header("x-conure-ttl").and_then(|left| left.strip_suffix("ms"));
    assert!((3_000_000..=3_600_000).contains(&left.expect("ms").parse::<u64>().expect("a number")));
    assert!(at.get_json("/kv/ttl/long").await["expires_at_ms"].is_u64());
    at.stored("ttl/long", "for good").await;
    assert_eq!(at.get("/kv/ttl/long").await.header("x-conure-ttl"), None);
    assert_eq!(at.put("/kv/ttl/short?ttl=1ms", "v").await.status, 200);
    at.get_until(404, "/kv/ttl/short").await;
    let history = at.get_json("/kv?key=ttl/short&history=true").await;
    assert_eq!(history["items"][0]["kind"], "expire");
    for bad in ["ttl=0s", "ttl=200years", "ttl=30"] {
        at.put(&format!("/kv/ttl/bad?{bad}"), "v").await.is_problem(400, "bad_parameter");
    }
}

async fn a_lease_is_granted(at: &Place) {
    let by_query = at.post("/leases?ttl=30m", "").await.json();
    let by_body = at.post("/leases", r#"{"ttl":"30m"}"#).await.json();
    for lease in [&by_query, &by_body] {
        assert_eq!(lease["ttl_ms"], 1_800_000);
        assert!(lease["expires_at_ms"].is_u64(), "{lease}");
    }
    assert_ne!(by_query["id"], by_body["id"]);
    at.post("/leases?ttl=999ms", "").await.is_problem(400, "bad_parameter");
}

async fn a_lease_is_kept_alive(at: &Place) {
    let id = granted(at, "1h").await;
    let before = at.get_json(&format!("/leases/{id}")).await;
    let kept = at.post(&format!("/leases/{id}/keepalive"), "").await.json();
    assert_eq!((&kept["id"], &kept["ttl_ms"]), (&json!(id), &json!(3_600_000)));
    assert!(kept["expires_at_ms"].as_u64() >= before["expires_at_ms"].as_u64(), "{kept}");
    let short = granted(at, "1s").await;
    until("the lease to end", async || {
        let gone = at.get(&format!("/leases/{short}")).await;
        (gone.status == 404).then_some(())
    })
    .await;
    at.post(&format!("/leases/{short}/keepalive"), "").await.is_problem(404, "lease_not_found");
}

async fn a_key_ends_with_its_lease(at: &Place) {
    // On a busy machine a lease may end before it is named.
    until("a key with a lease", async || {
        let id = granted(at, "1s").await;
        let put = at.put(&format!("/kv/lease/ends?lease={id}"), "v").await;
        (put.status == 200).then_some(())
    })
    .await;
    at.get_until(404, "/kv/lease/ends").await;
    let history = at.get_json("/kv?key=lease/ends&history=true").await;
    assert_eq!(history["items"][0]["kind"], "expire");
}

async fn a_lease_takes_its_keys_along(at: &Place) {
    let id = granted(at, "1h").await;
    for key in ["a", "b"] {
        at.put(&format!("/kv/lease/revoked/{key}?lease={id}"), "v").await;
    }
    let get = at.get("/kv/lease/revoked/a").await;
    assert_eq!(get.header("x-conure-lease"), Some(&*id));
    assert_eq!(at.get_json("/kv/lease/revoked/a").await["lease"], id);
    let reply = at.delete(&format!("/leases/{id}")).await;
    assert_eq!((reply.status, &reply.json()["deleted"]), (200, &json!(2)));
    at.get("/kv/lease/revoked/a").await.is_problem(404, "key_not_found");
    at.delete(&format!("/leases/{id}")).await.is_problem(404, "lease_not_found");
}

async fn leases_are_listed(at: &Place) {
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(granted(at, "1h").await);
    }
    let (mut found, mut target) = (Vec::new(), "/leases?limit=2".to_owned());
    loop {
        let page = at.get_json(&target).await;
        let items = page["items"].as_array().expect("items");
        assert!(items.len() <= 2);
        found.extend(items.iter().map(|lease| lease["id"].as_str().expect("an id").to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        target = format!("/leases?limit=2&cursor={next}");
    }
    assert!(found.is_sorted() && ids.iter().all(|id| found.contains(id)), "{found:?}");
    let stale = at.get("/leases?stale=true&max_stale=1h").await;
    assert!(stale.header("x-conure-stale-ms").is_some());
}

async fn a_lease_tells_its_keys(at: &Place) {
    let id = granted(at, "1h").await;
    for key in ["a", "b", "c"] {
        at.put(&format!("/kv/lease/keys/{key}?lease={id}"), "v").await;
    }
    let page = at.get_json(&format!("/leases/{id}?limit=2")).await;
    assert_eq!(
        (&page["id"], &page["keys"], &page["ttl_ms"]),
        (&json!(id), &json!(3), &json!(3_600_000))
    );
    assert_eq!(page["items"], json!([{ "key": "lease/keys/a" }, { "key": "lease/keys/b" }]));
    let next = page["next"].as_str().expect("a cursor");
    let rest = at.get_json(&format!("/leases/{id}?cursor={next}")).await;
    assert_eq!(
        (&rest["items"], &rest["next"]),
        (&json!([{ "key": "lease/keys/c" }]), &Value::Null)
    );
}
