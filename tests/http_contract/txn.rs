//! Transactions: the JSON of comparisons, operations and results, and what is no transaction.

use conuredb::http::HttpOptions;
use conuredb::types::*;
use serde_json::{Value, json};

use crate::wire::{Reply, Server};

async fn post(server: &Server, body: &Value) -> Reply {
    server.request("POST", "/txn", &[], Some(body.to_string().as_bytes())).await
}

#[actix_web::test]
async fn the_branch_that_the_comparisons_choose_is_carried_out_in_one_revision() {
    let server = Server::start();
    server.put("/kv/a", b"1").await;
    let txn = json!({
        "compare": [
            { "key": "a", "value": "1" },
            { "key": "a", "version": 1, "is": "<=" },
            { "key": "b", "exists": false },
        ],
        "success": [
            { "op": "put", "key": "a", "value": "2" },
            { "op": "put", "key_base64": "/w==", "value_base64": "/w==" },
            { "op": "get", "key": "a" },
            { "op": "range", "prefix": "", "limit": 1 },
            { "op": "delete", "key": "none" },
        ],
        "failure": [{ "op": "get", "key": "a" }, { "op": "get", "key": "b" }],
    });
    let done = post(&server, &txn).await;
    assert_eq!(done.header("x-conure-revision"), Some("2"));
    let item = json!({
        "key": "a", "value": "2", "mod_revision": 2, "create_revision": 1, "version": 2,
    });
    assert_eq!(
        done.json(),
        json!({
            "succeeded": true,
            "revision": 2,
            "results": [
                { "op": "put", "create_revision": 1, "version": 2 },
                { "op": "put", "create_revision": 2, "version": 1 },
                { "op": "get", "item": item },
                { "op": "range", "items": [item], "more": true },
                { "op": "delete", "deleted": 0 },
            ],
        })
    );
    assert_eq!(server.get("/kv/%ff").await.body, b"\xff");
    let again = post(&server, &txn).await.json();
    assert_eq!((&again["succeeded"], &again["revision"]), (&json!(false), &json!(2)));
    assert_eq!(
        again["results"],
        json!([{ "op": "get", "item": item }, { "op": "get", "item": null }])
    );
    let empty = post(&server, &json!({})).await.json();
    assert_eq!(empty, json!({ "succeeded": true, "revision": 2, "results": [] }));
}

#[actix_web::test]
async fn every_field_arrives_as_it_was_meant() {
    let server = Server::start();
    let key = |text: &'static str| Key::new(text).unwrap();
    let txn = json!({
        "compare": [
            { "key": "a", "create_revision": 3, "is": "!=" },
            { "key": "b", "mod_revision": 4, "is": ">" },
            { "key": "c", "value_base64": "AA==", "is": "<" },
            { "key": "d", "version": 5, "is": ">=" },
            { "key": "e", "exists": true },
        ],
        "success": [
            { "op": "range", "prefix": "p/", "start": "p/b", "end": "p/d", "reverse": true },
            { "op": "range", "start": "x", "keys_only": true, "limit": 7 },
            { "op": "delete", "prefix": "q/" },
            { "op": "delete", "start_base64": "/w==" },
            { "op": "put", "key": "t", "value": "", "ttl": "1m" },
        ],
    });
    post(&server, &txn).await;
    let sent = server.fake.writes.lock().unwrap()[0].operation.clone();
    let compare = |text, is, to| Compare { key: key(text), is, to };
    let between = |start: &'static [u8], end: Option<&'static [u8]>| KeyRange {
        start: start.into(),
        end: end.map(Into::into),
    };
    let range =
        |range, limit, reverse, keys_only| TxnOp::Range { range, limit, reverse, keys_only };
    let expected = Txn::new(
        vec![
            compare("a", Relation::NotEqual, Operand::CreateRevision(3)),
            compare("b", Relation::Greater, Operand::ModRevision(4)),
            compare("c", Relation::Less, Operand::Value(b"\0"[..].into())),
            compare("d", Relation::GreaterOrEqual, Operand::Version(5)),
            compare("e", Relation::Equal, Operand::Exists(true)),
        ],
        vec![
            range(between(b"p/b", Some(b"p/d")), 100, true, false),
            range(between(b"x", None), 7, false, true),
            TxnOp::Delete { range: KeyRange::prefix(&b"q/"[..]) },
            TxnOp::Delete { range: between(b"\xff", None) },
            TxnOp::Put { key: key("t"), value: "".into(), lifetime: Lifetime::Ttl { ms: 60_000 } },
        ],
        vec![],
    );
    assert_eq!(sent, Operation::Txn(expected.unwrap()));
}

#[actix_web::test]
async fn what_is_no_transaction_is_refused_and_its_place_named() {
    let server = Server::start();
    let compare = |item: Value| json!({ "compare": [{ "key": "a", "version": 1 }, item] });
    let success = |item: Value| json!({ "success": [item] });
    let long = "k".repeat(MAX_KEY_BYTES + 1);
    for (txn, code, says) in [
        (json!([]), "bad_body", "the body is JSON such as"),
        (json!({ "success": [[]] }), "bad_body", "the body is JSON such as"),
        (json!({ "compere": [] }), "bad_body", "unknown field `compere`"),
        (compare(json!({ "key": "a" })), "bad_body", "compare[1]: compare with one of"),
        (
            compare(json!({ "key": "a", "version": 1, "value": "" })),
            "bad_body",
            "compare[1]: compare",
        ),
        (compare(json!({ "key": "a", "version": -1 })), "bad_body", "compare[1]: "),
        (compare(json!({ "key": "a", "version": 1, "is": "==" })), "bad_body", "none of = !="),
        (compare(json!({ "key": "a", "exists": true, "is": ">" })), "bad_body", "true or false"),
        (compare(json!({ "version": 1 })), "missing_key", "compare[1]: "),
        (compare(json!({ "key": "", "version": 1 })), "missing_key", "compare[1]: "),
        (success(json!({ "op": "get", "key": long })), "key_too_long", "success[0]: "),
        (
            success(json!({ "op": "get", "key": "a", "value": "b" })),
            "bad_body",
            "unknown field `value`",
        ),
        (success(json!({ "op": "move", "key": "a" })), "bad_body", "unknown variant `move`"),
        (success(json!({ "key": "a" })), "bad_body", "missing field `op`"),
        (success(json!({ "op": "put", "key": "a" })), "bad_body", "a put needs value"),
        (
            success(json!({ "op": "put", "key": "a", "value": "", "value_base64": "" })),
            "bad_body",
            "exclude each other",
        ),
        (
            success(json!({ "op": "put", "key": "a", "value_base64": "x" })),
            "bad_body",
            "success[0]: value_base64: ",
        ),
        (
            success(json!({ "op": "put", "key": "a", "value": "", "ttl": "3" })),
            "bad_body",
            "ttl takes a duration",
        ),
        (success(json!({ "op": "range" })), "bad_body", "needs prefix, start or end"),
        (success(json!({ "op": "range", "prefix": "", "limit": 1_001 })), "bad_body", "limit: "),
        (success(json!({ "op": "range", "prefix": "", "end": "" })), "bad_body", "end: is empty"),
        (
            success(json!({ "op": "delete", "key": "a", "prefix": "" })),
            "bad_body",
            "of a key, or of",
        ),
        (success(json!({ "op": "delete" })), "missing_key", "success[0]: "),
        (
            json!({ "failure": [
                { "op": "put", "key": "a", "value": "" },
                { "op": "delete", "prefix": "" },
            ] }),
            "bad_body",
            "failure[1] writes key a, which failure[0] puts",
        ),
    ] {
        let refused = post(&server, &txn).await.is_problem(400, code);
        assert!(refused["detail"].as_str().unwrap().contains(says), "{txn}: {refused}");
    }
    server.call("GET", "/txn").await.is_problem(405, "method_not_allowed");
    server.call("POST", "/txn").await.is_problem(400, "bad_body");
    assert!(server.fake.writes.lock().unwrap().is_empty(), "nothing was proposed");
}

#[actix_web::test]
async fn limits_are_named_when_they_are_met() {
    let options = HttpOptions {
        max_txn_ops: 2,
        max_txn_bytes: 200,
        max_value_bytes: 10,
        ..HttpOptions::default()
    };
    let server = Server::with(options);
    let get = json!({ "op": "get", "key": "a" });
    assert_eq!(post(&server, &json!({ "success": [get, get] })).await.status, 200);
    let many = post(&server, &json!({ "failure": [get, get, get] })).await;
    let many = many.is_problem(400, "too_many_ops");
    assert!(many["detail"].as_str().unwrap().contains("failure has 3 items"), "{many}");
    assert!(many["detail"].as_str().unwrap().contains("limits.max_txn_ops"), "{many}");
    assert_eq!(many["max_ops"], 2);
    let put =
        |len: usize| json!({ "success": [{ "op": "put", "key": "a", "value": "v".repeat(len) }] });
    assert_eq!(post(&server, &put(10)).await.status, 200);
    for (len, limit) in [(11, "limits.max_value_bytes"), (300, "limits.max_txn_bytes")] {
        let large = post(&server, &put(len)).await.is_problem(413, "value_too_large");
        assert!(large["detail"].as_str().unwrap().contains(limit), "{large}");
    }
}

#[actix_web::test]
async fn a_transaction_that_is_sent_again_is_applied_once() {
    let server = Server::start();
    let body = json!({ "success": [{ "op": "put", "key": "a", "value": "1" }] }).to_string();
    let send = async |key: &str| {
        let header = format!("Idempotency-Key: {key}");
        server.request("POST", "/txn", &[&header], Some(body.as_bytes())).await
    };
    let first = send("c:1").await;
    assert_eq!(first.json()["revision"], 1);
    assert_eq!(send("c:1").await.json(), first.json());
    assert_eq!(send("c:2").await.json()["revision"], 2);
    send("c:1").await.is_problem(409, "superseded");
}
