//! Earlier revisions: a key and a range as they were, the history of a key, and where the past ends.

use serde_json::json;

use crate::wire::Server;

/// `k` was put twice, deleted and put again (revisions 1, 2, 4, 5), `other` once (revision 3).
async fn with_a_past() -> Server {
    let server = Server::start();
    server.put("/kv/k", b"one").await;
    server.put("/kv/k", b"two").await;
    server.put("/kv/other", b"").await;
    server.call("DELETE", "/kv/k").await;
    server.put("/kv/k", b"\xff").await;
    server
}

#[actix_web::test]
async fn a_key_is_read_as_it_was() {
    let server = with_a_past().await;
    for (revision, value, etag) in [(1, "one", "\"1\""), (2, "two", "\"2\""), (3, "two", "\"2\"")] {
        let get = server.get(&format!("/kv/k?revision={revision}")).await;
        assert_eq!((get.status, get.text()), (200, value));
        assert_eq!(get.header("etag"), Some(etag));
        assert_eq!(get.header("x-conure-revision"), Some(&*revision.to_string()));
    }
    for revision in [0, 4] {
        let get = server.get(&format!("/kv?key=k&revision={revision}")).await;
        get.is_problem(404, "key_not_found");
    }
    assert_eq!(server.get("/kv/k?revision=5").await.body, b"\xff");
    let condition = server.request("GET", "/kv/k?revision=2", &["If-None-Match: \"2\""], None);
    assert_eq!(condition.await.status, 304);
}

#[actix_web::test]
async fn a_range_is_read_as_it_was_in_all_its_pages() {
    let server = with_a_past().await;
    let keys = |page: &serde_json::Value| -> Vec<String> {
        let items = page["items"].as_array().unwrap();
        items.iter().map(|item| item["key"].as_str().unwrap().to_owned()).collect()
    };
    let page = server.get("/kv?prefix=&revision=4").await.json();
    assert_eq!((keys(&page), &page["revision"]), (vec!["other".to_owned()], &json!(4)));
    let page = server.get("/kv?prefix=&revision=3&limit=1").await.json();
    assert_eq!((keys(&page), &page["items"][0]["value"]), (vec!["k".to_owned()], &json!("two")));
    let next = page["next"].as_str().unwrap();
    let rest = server.get(&format!("/kv?cursor={next}")).await.json();
    assert_eq!((keys(&rest), &rest["revision"]), (vec!["other".to_owned()], &json!(3)));
    let beside = server.get(&format!("/kv?prefix=&cursor={next}&revision=3")).await;
    assert_eq!(beside.status, 200);
    let other = server.get(&format!("/kv?cursor={next}&revision=2")).await;
    other.is_problem(400, "bad_parameter");
    let count = server.get("/kv?prefix=&revision=3&count_only=true").await.json();
    assert_eq!((&count["count"], &count["revision"]), (&json!(2), &json!(3)));
}

#[actix_web::test]
async fn what_is_trimmed_is_gone_and_what_is_to_come_is_no_past() {
    let server = with_a_past().await;
    let future = server.get("/kv/k?revision=6").await.is_problem(400, "revision_in_future");
    assert_eq!(future["revision"], 5);
    *server.fake.oldest.lock().unwrap() = 3;
    for target in ["/kv/k?revision=2", "/kv?prefix=&revision=2", "/kv?key=k&history=1&revision=2"] {
        let gone = server.get(target).await.is_problem(410, "revision_trimmed");
        assert_eq!((&gone["oldest_revision"], &gone["revision"]), (&json!(3), &json!(5)));
    }
    assert_eq!(server.get("/kv/k?revision=3").await.text(), "two");
    for refused in ["-1", "+1", "", "x", "18446744073709551616"] {
        let get = server.get(&format!("/kv/k?revision={refused}")).await;
        get.is_problem(400, "bad_parameter");
    }
}

#[actix_web::test]
async fn a_history_tells_the_versions_newest_first() {
    let server = with_a_past().await;
    let all = json!([
        { "kind": "put", "revision": 5, "value_base64": "/w==", "create_revision": 5, "version": 1 },
        { "kind": "delete", "revision": 4 },
        { "kind": "put", "revision": 2, "value": "two", "create_revision": 1, "version": 2 },
        { "kind": "put", "revision": 1, "value": "one", "create_revision": 1, "version": 1 },
    ]);
    let history = server.get("/kv?key=k&history=true").await;
    assert_eq!(history.header("x-conure-revision"), Some("5"));
    assert_eq!(
        history.json(),
        json!({ "items": all, "next": null, "trimmed": false, "oldest_revision": 0, "revision": 5 })
    );
    let nothing = server.get("/kv/nothing?history=true").await.json();
    assert_eq!((&nothing["items"], &nothing["trimmed"]), (&json!([]), &json!(false)));
    server.get("/kv/k?limit=2").await.is_problem(400, "bad_parameter");
}

#[actix_web::test]
async fn a_history_comes_in_pages_and_says_where_it_was_trimmed() {
    let server = with_a_past().await;
    let revisions = |page: &serde_json::Value| -> Vec<u64> {
        page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["revision"].as_u64().unwrap())
            .collect()
    };
    let first = server.get("/kv/k?history=true&limit=2").await.json();
    assert_eq!((revisions(&first), &first["next"]), (vec![5, 4], &json!(3)));
    // The next page is the same request as of `next`.
    let rest = server.get("/kv/k?history=true&limit=2&revision=3").await.json();
    assert_eq!((revisions(&rest), &rest["next"]), (vec![2, 1], &json!(null)));
    *server.fake.oldest.lock().unwrap() = 3;
    let cut = server.get("/kv/k?history=true").await.json();
    assert_eq!((revisions(&cut), &cut["trimmed"]), (vec![5, 4], &json!(true)));
    assert_eq!(cut["oldest_revision"], 3);
}
