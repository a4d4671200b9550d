//! Transactions.

use serde_json::{Value, json};

use crate::cases;
use crate::place::{Place, revision};

cases! {
    "| `key` | the key whose record is compared" => records_are_compared_as_they_were,
    "| one of `value`, `version`, `create_revision`, `mod_revision`, `exists` |" => each_field_is_compared,
    "| `is` |" => fields_are_compared_by_six_relations,
    "| `{\"op\":\"put\"" => a_put_tells_its_version,
    "| `{\"op\":\"get\"" => a_get_sees_what_was_before_it,
    "| `{\"op\":\"range\"" => a_range_is_read,
    "| `{\"op\":\"delete\"" => keys_and_ranges_are_deleted,
    "A transaction that writes nothing takes no revision" => reading_takes_no_revision,
}

async fn txn(at: &Place, txn: Value) -> Value {
    let reply = at.post("/txn", &txn.to_string()).await;
    assert_eq!(reply.status, 200, "{txn}: {reply:?}");
    let answer = reply.json();
    assert_eq!(answer["revision"], revision(&reply));
    answer
}

/// Whether all of these comparisons hold.
async fn holds(at: &Place, compare: Value) -> bool {
    txn(at, json!({ "compare": [compare] })).await["succeeded"].as_bool().expect("yes or no")
}

async fn records_are_compared_as_they_were(at: &Place) {
    at.stored("txn/seat", "free").await;
    let take = json!({
        "compare": [{ "key": "txn/seat", "value": "free" }],
        "success": [{ "op": "put", "key": "txn/seat", "value": "taken" }],
        "failure": [{ "op": "get", "key": "txn/seat" }],
    });
    assert_eq!(txn(at, take.clone()).await["succeeded"], true);
    let second = txn(at, take).await;
    assert_eq!(second["succeeded"], false);
    assert_eq!(second["results"][0]["item"]["value"], "taken");
}

async fn each_field_is_compared(at: &Place) {
    let first = at.stored("txn/field", "v1").await;
    let second = at.stored("txn/field", "v2").await;
    for (field, right, wrong) in [
        ("value", json!("v2"), json!("v1")),
        ("value_base64", json!("djI="), json!("djE=")),
        ("version", json!(2), json!(1)),
        ("create_revision", json!(first), json!(second)),
        ("mod_revision", json!(second), json!(first)),
        ("exists", json!(true), json!(false)),
    ] {
        assert!(holds(at, json!({ "key": "txn/field", field: right })).await, "{field}");
        assert!(!holds(at, json!({ "key": "txn/field", field: wrong })).await, "{field}");
    }
    assert!(holds(at, json!({ "key": "txn/none", "version": 0 })).await);
    assert!(!holds(at, json!({ "key": "txn/none", "value": "", "is": "!=" })).await);
}

async fn fields_are_compared_by_six_relations(at: &Place) {
    at.stored("txn/is", "b").await;
    for (is, to) in [("=", "b"), ("!=", "a"), ("<", "c"), ("<=", "b"), (">", "a"), (">=", "b")] {
        assert!(holds(at, json!({ "key": "txn/is", "value": to, "is": is })).await, "{is} {to}");
    }
    for (is, to) in [("=", "a"), ("!=", "b"), ("<", "b"), ("<=", "a"), (">", "b"), (">=", "c")] {
        assert!(!holds(at, json!({ "key": "txn/is", "value": to, "is": is })).await, "{is} {to}");
    }
}

async fn a_put_tells_its_version(at: &Place) {
    let put = |key: &str, more: Value| {
        let mut put = json!({ "op": "put", "key": key, "value": "v" });
        put.as_object_mut().expect("an object").extend(more.as_object().expect("one").clone());
        put
    };
    let lease = at.post("/leases?ttl=1h", "").await.json()["id"].clone();
    let done = txn(
        at,
        json!({ "success": [
            put("txn/put", json!({})),
            put("txn/ttl", json!({ "ttl": "1h" })),
            put("txn/lease", json!({ "lease": lease })),
        ] }),
    )
    .await;
    let result = json!({ "op": "put", "create_revision": done["revision"], "version": 1 });
    assert_eq!(done["results"], json!([result, result, result]));
    assert!(at.get("/kv/txn/ttl").await.header("x-conure-ttl").is_some());
    assert_eq!(at.get("/kv/txn/lease").await.header("x-conure-lease"), lease.as_str());
}

async fn a_get_sees_what_was_before_it(at: &Place) {
    at.stored("txn/get", "v").await;
    let done = txn(
        at,
        json!({ "success": [
            { "op": "get", "key": "txn/get" },
            { "op": "delete", "key": "txn/get" },
            { "op": "get", "key": "txn/get" },
        ] }),
    )
    .await;
    assert_eq!(done["results"][0]["item"]["value"], "v");
    assert_eq!(done["results"][2], json!({ "op": "get", "item": null }));
}

async fn a_range_is_read(at: &Place) {
    for key in ["a", "b", "c"] {
        at.stored(&format!("txn/range/{key}"), key).await;
    }
    let range = |more: Value| {
        let mut range = json!({ "op": "range", "prefix": "txn/range/" });
        range.as_object_mut().expect("an object").extend(more.as_object().expect("one").clone());
        json!({ "success": [range] })
    };
    let done = txn(at, range(json!({ "limit": 2, "reverse": true, "keys_only": true }))).await;
    let result = &done["results"][0];
    assert_eq!(
        (&result["items"][0]["key"], &result["more"]),
        (&json!("txn/range/c"), &json!(true))
    );
    assert_eq!(result["items"][0]["value"], Value::Null);
    let done = txn(at, range(json!({ "start": "txn/range/b", "end": "txn/range/c" }))).await;
    assert_eq!(done["results"][0]["items"].as_array().map(Vec::len), Some(1));
}

async fn keys_and_ranges_are_deleted(at: &Place) {
    for key in ["a", "b", "c", "d"] {
        at.stored(&format!("txn/delete/{key}"), key).await;
    }
    let done = txn(
        at,
        json!({ "success": [
            { "op": "delete", "key": "txn/delete/a" },
            { "op": "delete", "start": "txn/delete/b", "end": "txn/delete/d" },
            { "op": "delete", "prefix": "txn/delete/" },
        ] }),
    )
    .await;
    let counts: Vec<&Value> =
        done["results"].as_array().expect("results").iter().map(|it| &it["deleted"]).collect();
    assert_eq!(counts, [1, 2, 1]);
}

async fn reading_takes_no_revision(at: &Place) {
    let before = at.stored("txn/reads", "v").await;
    let read = json!({ "success": [{ "op": "get", "key": "txn/reads" }] });
    assert_eq!(txn(at, read).await["revision"], before);
}
