//! One key: what was PUT is what GET returns, under every key, with the metadata the contract names.

use conuredb::actors::messages::Consistency;
use conuredb::types::{Lifetime, MAX_KEY_BYTES, Operation, RequestId};
use serde_json::json;

use crate::fake::NOW_MS;
use crate::wire::{Server, request};

#[actix_web::test]
async fn a_value_by_query_or_by_body_comes_back_byte_for_byte() {
    let server = Server::start();
    let put = server.call("PUT", "/kv?key=a&value=V%201").await;
    assert_eq!((put.status, put.text()), (200, "OK\n"));
    assert_eq!((put.header("etag"), put.header("x-conure-revision")), (Some("\"1\""), Some("1")));
    assert_eq!(put.header("x-conure-served-by"), Some("node1"));

    let get = server.get("/kv?key=a").await;
    assert_eq!((get.status, get.text()), (200, "V 1"));
    assert_eq!(get.header("content-type"), Some("application/octet-stream"));
    assert_eq!((get.header("etag"), get.header("x-conure-revision")), (Some("\"1\""), Some("1")));
    assert_eq!(get.header("cache-control"), Some("no-cache"));

    let bytes: Vec<u8> = (0..=255).collect();
    assert_eq!(server.put("/kv/a", &bytes).await.header("etag"), Some("\"2\""));
    assert_eq!(server.get("/kv?key=a").await.body, bytes);
    // A body wins over `value`.
    assert_eq!(server.put("/kv?key=a&value=query", b"body\n").await.status, 200);
    assert_eq!(server.get("/kv/a").await.text(), "body\n");
}

#[actix_web::test]
async fn empty_values_are_values_and_no_value_is_a_slip() {
    let server = Server::start();
    for target in ["/kv?key=query&value=", "/kv/query2?value"] {
        assert_eq!(server.call("PUT", target).await.status, 200);
    }
    assert_eq!(server.put("/kv/body", b"").await.status, 200);
    let mut client = server.connect().await;
    client
        .send(b"PUT /kv/chunked HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        .await;
    assert_eq!(client.reply().await.status, 200);
    for key in ["query", "query2", "body", "chunked"] {
        let get = server.get(&format!("/kv/{key}")).await;
        assert_eq!((get.status, get.body.len(), get.header("content-length")), (200, 0, Some("0")));
    }
    server.call("PUT", "/kv?key=slip").await.is_problem(400, "bad_body");
    // An empty body does not hide a value.
    server.put("/kv?key=both&value=v", b"").await;
    assert_eq!(server.get("/kv/both").await.text(), "v");
}

#[actix_web::test]
async fn keys_are_bytes_and_nothing_is_normalized() {
    let server = Server::start();
    let targets: [(&str, &[u8]); 12] = [
        ("/kv/a/b", b"a/b"),
        ("/kv/a%2Fc", b"a/c"),
        ("/kv//double//slash/", b"/double//slash/"),
        ("/kv/../../etc/./passwd", b"../../etc/./passwd"),
        ("/kv/%2e%2e/x", b"../x"),
        ("/kv/with%20space+plus", b"with space+plus"),
        ("/kv?key=q+p%20s", b"q+p s"),
        ("/kv/%00%01%0a%ff", b"\x00\x01\n\xff"),
        ("/kv?key=%c3%28%80", b"\xc3\x28\x80"),
        ("/kv/%25", b"%"),
        ("/kv/%2525", b"%25"),
        ("/kv/%23%3f%26", b"#?&"),
    ];
    for (number, (target, key)) in targets.iter().enumerate() {
        let value = format!("value {number}");
        assert_eq!(server.put(target, value.as_bytes()).await.status, 200, "{target}");
        let sent = server.fake.writes.lock().unwrap()[number].operation.clone();
        let Operation::Put { key: sent, .. } = sent else { panic!("a PUT is proposed as one") };
        assert_eq!(sent.as_bytes(), *key, "{target}");
        assert_eq!(server.get(target).await.text(), value, "{target}");
    }
    // Both spellings name one resource.
    assert_eq!(server.get("/kv?key=a/b").await.text(), "value 0");
    assert_eq!(server.get("/kv?key=%00%01%0A%FF").await.text(), "value 7");
    assert_eq!(server.get("http://other.host/kv/a/b").await.text(), "value 0");
}

#[actix_web::test]
async fn the_longest_key_fits_percent_encoded_and_one_byte_more_does_not() {
    let server = Server::start();
    for prefix in ["/kv/", "/kv?key="] {
        let longest = format!("{prefix}{}", "%fe".repeat(MAX_KEY_BYTES));
        assert_eq!(server.put(&longest, b"v").await.status, 200);
        assert_eq!(server.get(&longest).await.text(), "v");
        server.put(&format!("{longest}x"), b"v").await.is_problem(400, "key_too_long");
        server.get(&format!("{longest}x")).await.is_problem(400, "key_too_long");
        server.call("DELETE", &format!("{longest}x")).await.is_problem(400, "key_too_long");
    }
}

#[actix_web::test]
async fn json_gives_the_record_and_base64_where_bytes_are_no_text() {
    let server = Server::start();
    let json = ["Accept: application/json"];
    server.put("/kv/k", b"one").await;
    let put = server.request("PUT", "/kv/k", &json, Some("zwei ü".as_bytes())).await;
    assert_eq!(put.json(), json!({ "revision": 2, "create_revision": 1, "version": 2 }));
    let get = server.request("GET", "/kv/k", &json, None).await;
    assert_eq!(get.header("content-type"), Some("application/json"));
    assert_eq!(
        get.json(),
        json!({
            "key": "k", "value": "zwei ü", "mod_revision": 2, "create_revision": 1, "version": 2,
        })
    );
    server.put("/kv/%ff", b"\xfe").await;
    let get = server.request("GET", "/kv/%ff", &json, None).await.json();
    assert_eq!((&get["key_base64"], &get["value_base64"]), (&json!("/w=="), &json!("/g==")));
    assert!(get.get("key").is_none() && get.get("value").is_none());
    let delete = server.request("DELETE", "/kv/k", &json, None).await;
    assert_eq!(delete.json(), json!({ "deleted": 1, "revision": 4 }));
}

#[actix_web::test]
async fn head_answers_as_get_without_the_body() {
    let server = Server::start();
    server.put("/kv/k", b"12345").await;
    let mut client = server.connect().await;
    client.send(&request("HEAD", "/kv/k", &[], None)).await;
    let head = client.reply_to("HEAD").await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("5")));
    assert_eq!(head.header("etag"), Some("\"1\""));
    // The connection is in step: no body was sent.
    client.send(&request("GET", "/kv/k", &[], None)).await;
    assert_eq!(client.reply().await.text(), "12345");
    assert_eq!(server.call("HEAD", "/kv/none").await.status, 404);
}

#[actix_web::test]
async fn conditions_are_held_and_their_failure_tells_the_present_revision() {
    let server = Server::start();
    let put =
        |headers: &'static [&'static str]| server.request("PUT", "/kv/k", headers, Some(b"v"));
    let absent = put(&["If-Match: *"]).await.is_problem(412, "condition_failed");
    assert_eq!((&absent["current_revision"], &absent["revision"]), (&json!(null), &json!(0)));
    assert_eq!(put(&["If-None-Match: *"]).await.status, 200);
    let present = put(&["If-None-Match: *"]).await;
    assert_eq!(present.header("etag"), Some("\"1\""));
    assert_eq!(present.is_problem(412, "condition_failed")["current_revision"], 1);
    assert_eq!(put(&["If-Match: \"1\""]).await.status, 200);
    put(&["If-Match: \"1\""]).await.is_problem(412, "condition_failed");
    put(&["If-Match: 2"]).await.is_problem(400, "bad_parameter");
    put(&["If-Match: \"1\", \"2\""]).await.is_problem(400, "bad_parameter");

    let delete = async |header| server.request("DELETE", "/kv/k", &[header], None).await;
    delete("If-Match: \"1\"").await.is_problem(412, "condition_failed");
    assert_eq!(delete("If-Match: \"2\"").await.status, 200);

    server.put("/kv/k", b"v").await;
    let get = async |header| server.request("GET", "/kv/k", &[header], None).await;
    let known = get("If-None-Match: W/\"3\", \"4\"").await;
    assert_eq!((known.status, known.header("etag"), known.body.len()), (304, Some("\"4\""), 0));
    assert_eq!(
        (known.header("content-length"), known.header("x-conure-revision")),
        (None, Some("4"))
    );
    assert_eq!(get("If-None-Match: \"3\"").await.status, 200);
    assert_eq!(get("If-Match: \"4\"").await.status, 200);
    get("If-Match: \"3\"").await.is_problem(412, "condition_failed");
}

#[actix_web::test]
async fn delete_is_idempotent_and_says_what_it_did() {
    let server = Server::start();
    server.put("/kv/k", b"v").await;
    for (deleted, revision) in [("1", "2"), ("0", "2")] {
        let delete = server.call("DELETE", "/kv?key=k").await;
        assert_eq!((delete.status, delete.text()), (200, "OK\n"));
        assert_eq!(delete.header("x-conure-deleted"), Some(deleted));
        assert_eq!(delete.header("x-conure-revision"), Some(revision));
    }
    let get = server.get("/kv/k").await;
    assert_eq!(get.header("x-conure-revision"), Some("2"));
    get.is_problem(404, "key_not_found");
}

#[actix_web::test]
async fn stale_reads_say_their_age_and_hand_on_their_bound() {
    let server = Server::start();
    server.put("/kv/k", b"v").await;
    assert_eq!(server.get("/kv/k").await.header("x-conure-stale-ms"), None);
    for target in
        ["/kv/k?stale=true", "/kv?key=k&stale=1", "/kv/k?stale", "/kv/k?stale=1&max_stale=500ms"]
    {
        let get = server.get(target).await;
        assert_eq!((get.text(), get.header("x-conure-stale-ms")), ("v", Some("120")));
    }
    server.get("/kv/k?stale=yes").await.is_problem(400, "bad_parameter");
    server.get("/kv/k?stale=1&max_stale=500").await.is_problem(400, "bad_parameter");
    server.get("/kv/k?max_stale=500ms").await.is_problem(400, "bad_parameter");
    let asked: Vec<_> = server.fake.reads.lock().unwrap().iter().map(|r| r.consistency).collect();
    let bound = Some(std::time::Duration::from_millis(500));
    assert_eq!(asked[0], Consistency::Linearizable);
    assert_eq!(asked[1..4], [Consistency::Stale { max_stale: None }; 3]);
    assert_eq!(asked[4..], [Consistency::Stale { max_stale: bound }]);
}

#[actix_web::test]
async fn a_retry_with_the_same_idempotency_key_gets_the_first_outcome() {
    let server = Server::start();
    let put = async |id: &str, value: &[u8]| {
        let header = format!("Idempotency-Key: {id}");
        server.request("PUT", "/kv/k", &[&header], Some(value)).await
    };
    for _ in 0..2 {
        let reply = put("client:a:7", b"v").await;
        assert_eq!((reply.status, reply.header("etag")), (200, Some("\"1\"")));
    }
    let sent = server.fake.writes.lock().unwrap()[0].request_id.clone();
    assert_eq!(sent, Some(RequestId { client: "client:a".to_owned(), sequence: 7 }));
    let late = put("client:a:6", b"old").await.is_problem(409, "superseded");
    assert_eq!((&late["last_sequence"], &late["applied"]), (&json!(7), &json!("unknown")));
    for refused in ["client", ":1", "c:", "c:-1", "c d:1", "c:18446744073709551616"] {
        put(refused, b"v").await.is_problem(400, "bad_parameter");
    }
    let delete = server.request("DELETE", "/kv?prefix=k", &["Idempotency-Key: c:1"], None).await;
    assert_eq!(delete.status, 200);
    assert!(server.fake.writes.lock().unwrap().last().unwrap().request_id.is_some());
}

#[actix_web::test]
async fn a_key_with_a_time_to_live_says_how_long() {
    let server = Server::start();
    server.put("/kv/a?ttl=30s", b"v").await;
    let sent = server.fake.writes.lock().unwrap()[0].operation.clone();
    assert!(
        matches!(sent, Operation::Put { lifetime: Lifetime::Ttl { ms: 30_000 }, .. }),
        "{sent:?}"
    );
    let get = server.get("/kv/a").await;
    assert_eq!((get.text(), get.header("x-conure-ttl")), ("v", Some("29750ms")));
    let json = server.request("GET", "/kv/a", &["Accept: application/json"], None).await.json();
    assert_eq!(json["expires_at_ms"], NOW_MS + 30_000);
    let page = server.get("/kv?prefix=").await.json();
    assert_eq!(page["items"][0]["expires_at_ms"], NOW_MS + 30_000);
    server.put("/kv/a?ttl=100ms", b"v").await;
    let late = server.get("/kv/a").await;
    assert_eq!(late.header("x-conure-ttl"), Some("0ms"), "due, and not expired yet");
    server.put("/kv/a", b"v").await;
    assert_eq!(server.get("/kv/a").await.header("x-conure-ttl"), None, "the last put decides");
}
