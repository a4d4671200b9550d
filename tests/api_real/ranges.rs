//! Ranges of keys: pages, lines, counts, deletes; and what they were.

use serde_json::{Value, json};

use crate::cases;
use crate::place::{MAX_SCAN_RESULTS, Place, revision};

cases! {
    "| `prefix=P` |" => a_prefix_names_a_range,
    "| `start=A`, `end=B` |" => bounds_name_a_range,
    "| `limit=N` |" => a_page_has_so_many_entries,
    "| `reverse=true` |" => the_last_key_comes_first,
    "| `keys_only=true` |" => values_are_left_out,
    "| `count_only=true` |" => keys_are_counted,
    "| `delimiter=/` |" => keys_become_directories,
    "| `cursor=C` |" => a_cursor_goes_on_at_the_same_revision,
    "With `Accept: application/x-ndjson` a range comes whole" => lines_have_no_bound,
    "`DELETE /kv` with `prefix`, `start`, `end` removes a range" => a_range_is_removed_at_once,
    "| `GET /kv/K?revision=N` |" => a_key_as_it_was,
    "| `GET /kv?prefix=P&revision=N` |" => a_range_as_it_was,
    "| `revision=N` |" => a_revision_is_exact_when_stale_too,
    "| `GET /kv?key=K&history=true` |" => what_became_of_a_key,
}

/// The keys of a page, without what all of them begin with.
fn keys<'a>(page: &'a Value, prefix: &str) -> Vec<&'a str> {
    let items = page["items"].as_array().expect("items").iter();
    items
        .map(|item| item["key"].as_str().expect("a key").strip_prefix(prefix).expect("it"))
        .collect()
}

/// Stores these keys below a prefix, each with itself as its value.
async fn store(at: &Place, prefix: &str, keys: &[&str]) {
    for key in keys {
        at.stored(&format!("{prefix}{key}"), key).await;
    }
}

async fn a_prefix_names_a_range(at: &Place) {
    store(at, "prefix/", &["b", "a", "c/d"]).await;
    let reply = at.get("/kv?prefix=prefix/").await;
    let page = reply.json();
    assert_eq!(keys(&page, "prefix/"), ["a", "b", "c/d"]);
    assert_eq!((&page["items"][1]["value"], &page["next"]), (&json!("b"), &Value::Null));
    assert_eq!(page["revision"], revision(&reply));
    let all = at.get_json("/kv?prefix=").await;
    assert!(all["items"].as_array().is_some_and(|items| items.len() > 3), "all keys");
}

async fn bounds_name_a_range(at: &Place) {
    store(at, "bounds/", &["a", "b", "c", "d"]).await;
    let page = at.get_json("/kv?start=bounds/b&end=bounds/d").await;
    assert_eq!(keys(&page, "bounds/"), ["b", "c"]);
    assert_eq!(
        keys(&at.get_json("/kv?prefix=bounds/&start=bounds/c").await, "bounds/"),
        ["c", "d"]
    );
    assert_eq!(keys(&at.get_json("/kv?prefix=bounds/&end=bounds/b").await, "bounds/"), ["a"]);
}

async fn a_page_has_so_many_entries(at: &Place) {
    let puts: Vec<Value> = (0..MAX_SCAN_RESULTS + 10)
        .map(|n| json!({ "op": "put", "key": format!("limit/{n:03}"), "value": "" }))
        .collect();
    at.post("/txn", &json!({ "success": puts }).to_string()).await;
    assert_eq!(keys(&at.get_json("/kv?prefix=limit/&limit=2").await, "limit/"), ["000", "001"]);
    let most = at.get_json("/kv?prefix=limit/&limit=100000").await;
    assert_eq!(keys(&most, "limit/").len(), MAX_SCAN_RESULTS, "limits.max_scan_results");
    at.get("/kv?prefix=limit/&limit=0").await.is_problem(400, "bad_parameter");
}

async fn the_last_key_comes_first(at: &Place) {
    store(at, "reverse/", &["a", "b", "c"]).await;
    let page = at.get_json("/kv?prefix=reverse/&reverse=true&limit=2").await;
    assert_eq!(keys(&page, "reverse/"), ["c", "b"]);
}

async fn values_are_left_out(at: &Place) {
    store(at, "bare/", &["a"]).await;
    let page = at.get_json("/kv?prefix=bare/&keys_only=true").await;
    assert_eq!(
        (&page["items"][0]["version"], &page["items"][0]["value"]),
        (&json!(1), &Value::Null)
    );
}

async fn keys_are_counted(at: &Place) {
    store(at, "count/", &["a", "b", "c"]).await;
    let count = at.get_json("/kv?prefix=count/&count_only=true").await;
    assert_eq!((&count["count"], &count["items"]), (&json!(3), &json!([])));
}

async fn keys_become_directories(at: &Place) {
    store(at, "dir/", &["a", "b/1", "b/2", "c/1"]).await;
    let page = at.get_json("/kv?prefix=dir/&delimiter=/").await;
    assert_eq!(keys(&page, "dir/"), ["a"]);
    assert_eq!(page["common_prefixes"], json!([{ "prefix": "dir/b/" }, { "prefix": "dir/c/" }]));
}

async fn a_cursor_goes_on_at_the_same_revision(at: &Place) {
    store(at, "cursor/", &["a", "b", "c"]).await;
    let first = at.get_json("/kv?prefix=cursor/&limit=2").await;
    at.delete("/kv/cursor/c").await;
    let next = first["next"].as_str().expect("a cursor");
    let rest = at.get_json(&format!("/kv?cursor={next}")).await;
    assert_eq!((keys(&rest, "cursor/"), &rest["next"]), (vec!["c"], &Value::Null));
    assert_eq!(rest["revision"], first["revision"]);
    let other = at.get(&format!("/kv?prefix=other&cursor={next}")).await;
    other.is_problem(400, "bad_parameter");
}

async fn lines_have_no_bound(at: &Place) {
    let ndjson = ["Accept: application/x-ndjson"];
    let reply = at.ask("GET", "/kv?prefix=limit/", &ndjson, None).await;
    assert_eq!(reply.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(reply.text().lines().count(), MAX_SCAN_RESULTS + 10);
    assert!(revision(&reply) > 0);
    let limited = at.ask("GET", "/kv?prefix=limit/&limit=3", &ndjson, None).await;
    assert_eq!(limited.text().lines().count(), 3);
}

async fn a_range_is_removed_at_once(at: &Place) {
    store(at, "gone/", &["a", "b", "c"]).await;
    let reply = at.delete("/kv?prefix=gone/&end=gone/c").await;
    assert_eq!(reply.json(), json!({ "deleted": 2, "revision": revision(&reply) }));
    assert_eq!(reply.header("x-conure-deleted"), Some("2"));
    assert_eq!(keys(&at.get_json("/kv?prefix=gone/").await, "gone/"), ["c"]);
}

async fn a_key_as_it_was(at: &Place) {
    let first = at.stored("past", "v1").await;
    let second = at.stored("past", "v2").await;
    let reply = at.get(&format!("/kv/past?revision={first}")).await;
    assert_eq!((reply.text(), revision(&reply)), ("v1", first));
    let reply = at.get(&format!("/kv?key=past&revision={second}")).await;
    assert_eq!((reply.text(), revision(&reply)), ("v2", second));
    let before = at.get(&format!("/kv/past?revision={}", first - 1)).await;
    before.is_problem(404, "key_not_found");
}

async fn a_range_as_it_was(at: &Place) {
    store(at, "pasts/", &["a", "b"]).await;
    let then = at.stored("pasts/c", "c").await;
    at.delete("/kv?prefix=pasts/").await;
    let page = at.get_json(&format!("/kv?prefix=pasts/&revision={then}&limit=2")).await;
    assert_eq!(keys(&page, "pasts/"), ["a", "b"]);
    let next = page["next"].as_str().expect("a cursor");
    let rest = at.get_json(&format!("/kv?cursor={next}")).await;
    assert_eq!((keys(&rest, "pasts/"), &rest["revision"]), (vec!["c"], &json!(then)));
    let count = at.get_json(&format!("/kv?prefix=pasts/&revision={then}&count_only=true")).await;
    assert_eq!(count["count"], 3);
}

async fn a_revision_is_exact_when_stale_too(at: &Place) {
    let first = at.stored("exact", "v1").await;
    at.stored("exact", "v2").await;
    let target = format!("/kv/exact?revision={first}&stale=true");
    assert_eq!(at.get_until(200, &target).await.text(), "v1");
}

async fn what_became_of_a_key(at: &Place) {
    let first = at.stored("history", "v1").await;
    let second = at.stored("history", "v2").await;
    let third = revision(&at.delete("/kv/history").await);
    let history = at.get_json("/kv?key=history&history=true&limit=2").await;
    let kinds = |history: &Value| -> Vec<(String, u64)> {
        let items = history["items"].as_array().expect("items").iter();
        let kind = |item: &Value| item["kind"].as_str().expect("a kind").to_owned();
        items.map(|item| (kind(item), item["revision"].as_u64().expect("a revision"))).collect()
    };
    assert_eq!(kinds(&history), [("delete".to_owned(), third), ("put".to_owned(), second)]);
    let next = history["next"].as_u64().expect("more");
    let rest = at.get_json(&format!("/kv?key=history&history=true&revision={next}")).await;
    assert_eq!(kinds(&rest), [("put".to_owned(), first)]);
    assert_eq!((&rest["items"][0]["value"], &rest["next"]), (&json!("v1"), &Value::Null));
    assert_eq!((&rest["trimmed"], &rest["oldest_revision"]), (&json!(false), &json!(0)));
    let none = at.get_json("/kv?key=history/none&history=true").await;
    assert_eq!(none["items"], json!([]));
}
