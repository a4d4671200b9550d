//! Ranges: pages, their bounds and directions, cursors that stay at one revision, common prefixes.

use conuredb::http::HttpOptions;
use serde_json::{Value, json};

use crate::wire::{Reply, Server};

async fn with_keys(options: HttpOptions, keys: &[&str]) -> Server {
    let server = Server::with(options);
    for key in keys {
        server.put(&format!("/kv/{key}"), format!("value of {key}").as_bytes()).await;
    }
    server
}

#[track_caller]
fn keys(reply: &Reply) -> Vec<String> {
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let page = reply.json();
    page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| i["key"].as_str().unwrap().to_owned())
        .collect()
}

fn prefixes(page: &Value) -> Vec<&str> {
    let prefixes = page["common_prefixes"].as_array().unwrap();
    prefixes.iter().map(|prefix| prefix["prefix"].as_str().unwrap()).collect()
}

#[actix_web::test]
async fn a_range_is_named_by_prefix_start_and_end_together() {
    let server = with_keys(HttpOptions::default(), &["a", "b1", "b2", "b3", "c"]).await;
    for (query, expected) in [
        ("prefix=", "a b1 b2 b3 c"),
        ("prefix=b", "b1 b2 b3"),
        ("start=b2", "b2 b3 c"),
        ("end=b2", "a b1"),
        ("prefix=b&start=b2&end=b3", "b2"),
        ("prefix=b&start=a&end=z&reverse=true", "b3 b2 b1"),
        ("start=c&end=a", ""),
        ("prefix=none", ""),
        ("prefix=b&limit=2", "b1 b2"),
        ("prefix=&reverse=1&limit=1", "c"),
    ] {
        let page = server.get(&format!("/kv?{query}")).await;
        assert_eq!(keys(&page).join(" "), expected, "{query}");
        assert_eq!(page.json()["revision"], 5);
        assert_eq!(page.header("x-conure-revision"), Some("5"));
    }
    let page = server.get("/kv?prefix=b1").await.json();
    assert_eq!(
        page,
        json!({
            "items": [{
                "key": "b1", "value": "value of b1",
                "mod_revision": 2, "create_revision": 2, "version": 1,
            }],
            "next": null,
            "revision": 5,
        })
    );
    let page = server.get("/kv?prefix=b1&keys_only=true").await.json();
    assert_eq!(page["items"][0].get("value"), None);
    let page = server.get("/kv?prefix=b&count_only=true").await.json();
    assert_eq!(page, json!({ "items": [], "next": null, "revision": 5, "count": 3 }));
    let stale = server.get("/kv?prefix=b&stale=true").await;
    assert_eq!(stale.header("x-conure-stale-ms"), Some("120"));
}

#[actix_web::test]
async fn pages_join_without_gap_or_repeat_at_one_revision() {
    let names: Vec<String> = (0..25).map(|n| format!("k{n:02}")).collect();
    let server =
        with_keys(HttpOptions::default(), &names.iter().map(String::as_str).collect::<Vec<_>>())
            .await;
    let mut reversed = names.clone();
    reversed.reverse();
    for (direction, expected) in [("false", &names), ("true", &reversed)] {
        // The store moves on before every page; the scan does not see it.
        let first = format!("/kv?prefix=k&limit=7&reverse={direction}");
        let (mut target, mut seen, mut revision) = (first.clone(), Vec::new(), None);
        loop {
            let page = server.get(&target).await;
            server.put("/kv/k10x", b"new").await;
            server.call("DELETE", "/kv/k10x").await;
            seen.extend(keys(&page));
            let page = page.json();
            assert_eq!(*revision.get_or_insert(page["revision"].clone()), page["revision"]);
            let Some(next) = page["next"].as_str() else { break };
            // A cursor goes alone or beside the parameters it began with.
            target = match seen.len() {
                7 => format!("/kv?cursor={next}&limit=7"),
                _ => format!("{first}&cursor={next}"),
            };
        }
        assert_eq!(seen, *expected);
    }
}

#[actix_web::test]
async fn a_cursor_goes_on_at_any_node_while_its_revision_is_kept() {
    let server = with_keys(HttpOptions::default(), &["a", "b", "c"]).await;
    let page = server.get("/kv?prefix=&limit=2").await.json();
    let target = format!("/kv?cursor={}", page["next"].as_str().unwrap());
    // Another server over the same store has no pin, but the past.
    let other = Server::over(server.fake.clone(), HttpOptions::default());
    server.put("/kv/d", b"").await;
    assert_eq!(keys(&other.get(&target).await), ["c"]);
    *server.fake.oldest.lock().unwrap() = 4;
    let gone = other.get(&target).await.is_problem(410, "revision_trimmed");
    assert_eq!((&gone["oldest_revision"], &gone["retryable"]), (&json!(4), &json!(false)));
    assert!(gone["detail"].as_str().unwrap().contains("start the scan anew"));
    assert_eq!(keys(&server.get(&target).await), ["c"], "the pin is still here");
}

#[actix_web::test]
async fn the_pin_idle_longest_makes_room_for_another_scan() {
    let options = HttpOptions { max_pinned_scans: 1, ..HttpOptions::default() };
    let server = with_keys(options, &["a", "b"]).await;
    let first = server.get("/kv?prefix=&limit=1").await.json();
    server.put("/kv/c", b"").await;
    let second = server.get("/kv?prefix=&limit=1").await.json();
    server.put("/kv/d", b"").await;
    *server.fake.oldest.lock().unwrap() = 4;
    let target = |page: &Value| format!("/kv?cursor={}", page["next"].as_str().unwrap());
    server.get(&target(&first)).await.is_problem(410, "revision_trimmed");
    assert_eq!(keys(&server.get(&target(&second)).await), ["b", "c"]);
}

#[actix_web::test]
async fn garbage_and_foreign_cursors_are_refused() {
    let server = with_keys(HttpOptions::default(), &["a", "b"]).await;
    let page = server.get("/kv?prefix=&limit=1").await.json();
    let next = page["next"].as_str().unwrap();
    let cut = &next[..next.len() - 1];
    for cursor in ["", "x", "%00%ff", cut, &format!("{next}A"), &"A".repeat(20_000)] {
        server.get(&format!("/kv?cursor={cursor}")).await.is_problem(400, "bad_parameter");
    }
    let target = format!("/kv?stale=maybe&cursor={next}");
    server.get(&target).await.is_problem(400, "bad_parameter");
    let target = format!("/kv?prefix=b&cursor={next}");
    server.get(&target).await.is_problem(400, "bad_parameter");
}

#[actix_web::test]
async fn a_delimiter_shows_a_level_like_a_directory() {
    let names = ["a", "d/1", "d/2", "d/e/3", "e", "f//x", "f/y", "g"];
    let server = with_keys(HttpOptions::default(), &names).await;
    let top = server.get("/kv?prefix=&delimiter=/").await;
    assert_eq!(keys(&top), ["a", "e", "g"]);
    assert_eq!(prefixes(&top.json()), ["d/", "f/"]);
    let inside = server.get("/kv?prefix=d/&delimiter=/").await;
    assert_eq!(keys(&inside), ["d/1", "d/2"]);
    assert_eq!(prefixes(&inside.json()), ["d/e/"]);
    assert_eq!(prefixes(&server.get("/kv?prefix=&delimiter=//").await.json()), ["f//"]);

    for (direction, expected) in [("0", "a d/ e f/ g"), ("1", "g f/ e d/ a")] {
        let mut target = format!("/kv?prefix=&delimiter=/&limit=1&reverse={direction}");
        let mut seen = Vec::new();
        loop {
            let page = server.get(&target).await;
            seen.extend(keys(&page));
            let page = page.json();
            seen.extend(prefixes(&page).into_iter().map(str::to_owned));
            let Some(next) = page["next"].as_str() else { break };
            target = format!("/kv?cursor={next}&limit=1");
        }
        assert_eq!(seen.join(" "), expected);
    }
    server.get("/kv?prefix=&delimiter=").await.is_problem(400, "bad_parameter");
    let long = "x".repeat(256);
    server.get(&format!("/kv?prefix=&delimiter={long}")).await.is_problem(400, "bad_parameter");
}

#[actix_web::test]
async fn prefixes_of_the_highest_bytes_end_the_walk() {
    let server = with_keys(HttpOptions::default(), &["%ff%ff%ff", "%ff%ff", "%fe"]).await;
    let page = server.get("/kv?prefix=&delimiter=%ff").await.json();
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
    assert_eq!(page["common_prefixes"], json!([{ "prefix_base64": "/w==" }]));
    assert_eq!(page["next"], json!(null));
}

#[actix_web::test]
async fn a_page_is_bounded_in_items_and_in_bytes() {
    let options = HttpOptions { max_scan_results: 3, ..HttpOptions::default() };
    let server = with_keys(options, &["a", "b", "c", "d"]).await;
    assert_eq!(keys(&server.get("/kv?prefix=&limit=1000000").await).len(), 3);

    let server = Server::start();
    let value = vec![b'v'; 3 * 1024 * 1024];
    for key in ["a", "b", "c", "d", "e"] {
        server.put(&format!("/kv/{key}"), &value).await;
    }
    let page = server.get("/kv?prefix=").await;
    assert_eq!(keys(&page), ["a", "b", "c"]);
    let next = page.json()["next"].as_str().unwrap().to_owned();
    assert_eq!(keys(&server.get(&format!("/kv?cursor={next}")).await), ["d", "e"]);
    assert_eq!(keys(&server.get("/kv?prefix=&keys_only=1").await).len(), 5);
}

#[actix_web::test]
async fn a_large_page_gives_way_and_arrives_whole() {
    let names: Vec<String> = (0..1_000).map(|n| format!("{n:04}")).collect();
    let server = Server::start();
    let mut client = server.connect().await;
    for name in &names {
        client.send(&crate::wire::request("PUT", &format!("/kv/{name}"), &[], Some(b"v"))).await;
        assert_eq!(client.reply().await.status, 200);
    }
    assert_eq!(keys(&server.get("/kv?prefix=&limit=10000").await), names);
    assert_eq!(keys(&server.get("/kv?prefix=").await).len(), 100, "the default limit");
}

#[actix_web::test]
async fn a_range_is_deleted_in_one_write() {
    let server = with_keys(HttpOptions::default(), &["a1", "a2", "a3", "b"]).await;
    let delete = server.call("DELETE", "/kv?prefix=a&start=a2").await;
    assert_eq!(delete.json(), json!({ "deleted": 2, "revision": 5 }));
    assert_eq!(delete.header("x-conure-deleted"), Some("2"));
    let again = server.call("DELETE", "/kv?prefix=a&start=a2").await;
    assert_eq!(again.json(), json!({ "deleted": 0, "revision": 5 }));
    assert_eq!(keys(&server.get("/kv?prefix=").await), ["a1", "b"]);
    server.call("DELETE", "/kv?prefix=").await;
    assert!(keys(&server.get("/kv?prefix=").await).is_empty());
    assert_eq!(server.fake.writes.lock().unwrap().len(), 4 + 3);
}

#[actix_web::test]
async fn what_makes_no_sense_for_a_range_is_refused() {
    let server = Server::start();
    for (method, query, code) in [
        ("GET", "", "missing_key"),
        ("GET", "limit=3", "missing_key"),
        ("DELETE", "", "missing_key"),
        ("DELETE", "limit=3&prefix=a", "bad_parameter"),
        ("GET", "prefix=a&end=", "bad_parameter"),
        ("GET", "prefix=a&limit=0", "bad_parameter"),
        ("GET", "prefix=a&limit=x", "bad_parameter"),
        ("GET", "prefix=a&prefix=b", "bad_parameter"),
        ("GET", "key=a&prefix=b", "bad_parameter"),
        ("GET", "prefix=a&revision=x", "bad_parameter"),
        ("GET", "prefix=a&revision=3", "revision_in_future"),
        ("GET", "prefix=a&history=true", "bad_parameter"),
        ("DELETE", "prefix=a&revision=3", "bad_parameter"),
        ("GET", "prefix=a&count_only=1&limit=3", "bad_parameter"),
        ("GET", "prefix=a&stale=maybe", "bad_parameter"),
        ("PUT", "prefix=a&value=b", "bad_parameter"),
    ] {
        server.call(method, &format!("/kv?{query}")).await.is_problem(400, code);
    }
    let condition = ["If-Match: \"1\""];
    let delete = server.request("DELETE", "/kv?prefix=a", &condition, None).await;
    delete.is_problem(400, "bad_parameter");
    let long = format!("/kv?prefix={}", "p".repeat(4_098));
    server.get(&long).await.is_problem(400, "key_too_long");
}

async fn lines(server: &Server, query: &str) -> (Reply, Vec<Value>) {
    let mut client = server.connect().await;
    let accept = ["Accept: application/x-ndjson", "Connection: close"];
    client.send(&crate::wire::request("GET", &format!("/kv?{query}"), &accept, None)).await;
    let reply = client.chunked_reply().await;
    assert_eq!(reply.header("content-type"), Some("application/x-ndjson"), "{reply:?}");
    let lines = reply.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (reply, lines)
}

#[actix_web::test]
async fn a_range_comes_as_lines_without_a_cap() {
    let names: Vec<String> = (0..500).map(|n| format!("k/{n:04}")).collect();
    let options = HttpOptions { max_scan_results: 3, ..HttpOptions::default() };
    let server = with_keys(options, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let names_of = |lines: &[Value]| -> Vec<String> {
        lines.iter().map(|line| line["key"].as_str().unwrap().to_owned()).collect()
    };
    let (reply, all) = lines(&server, "prefix=k/").await;
    assert_eq!(names_of(&all), names);
    assert_eq!(all[7]["value"], "value of k/0007");
    assert_eq!(
        (reply.header("x-conure-revision"), reply.header("vary")),
        (Some("500"), Some("accept"))
    );
    let (_, some) = lines(&server, "prefix=k/&reverse=true&limit=200&keys_only=true").await;
    assert_eq!(names_of(&some), names.iter().rev().take(200).cloned().collect::<Vec<_>>());
    assert_eq!(some[0].get("value"), None);
    let (_, past) = lines(&server, "prefix=k/&revision=2").await;
    assert_eq!(names_of(&past), names[..2]);
    assert_eq!(lines(&server, "prefix=&delimiter=/").await.1, [json!({ "prefix": "k/" })]);
    assert_eq!(lines(&server, "prefix=none").await.1, Vec::<Value>::new());
    let page = server.get("/kv?prefix=k/&limit=3").await.json();
    let cursor = page["next"].as_str().unwrap();
    assert_eq!(names_of(&lines(&server, &format!("cursor={cursor}")).await.1), names[3..]);
    let refused = ["Accept: application/x-ndjson"];
    let refused = server.request("GET", "/kv?prefix=k/&limit=0", &refused, None).await;
    refused.is_problem(400, "bad_parameter");
}
