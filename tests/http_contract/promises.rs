//! Whatever `/openapi.json` promises can be had: each parameter and header is read, each answer and each code of an
//! error is provoked, for every operation. A promise that nobody keeps fails here; an answer that nobody promised
//! fails in `document`.

use std::time::Duration;

use conuredb::actors::messages::RequestError;
use conuredb::http::HttpOptions;
use conuredb::types::{LeaseLimit, Outcome};
use serde_json::Value;

use crate::document::DOCUMENT;
use crate::wire::{Reply, Server, request};

/// A request, as it succeeds.
#[derive(Clone, Debug)]
struct Good {
    method: String,
    target: String,
    headers: Vec<String>,
    body: Option<Vec<u8>>,
}

impl Good {
    /// How an operation is asked for. One that is not here is a new one: say how.
    fn of(id: &str, method: &str, path: &str) -> Good {
        let (target, body) = match id {
            "readKey" | "deleteKey" => ("/kv/k", None),
            "putKey" => ("/kv/k", Some("v")),
            "read" | "delete" => ("/kv?key=k", None),
            "put" => ("/kv?key=k", Some("v")),
            "txn" => ("/txn", Some(r#"{"success":[{"op":"put","key":"k","value":"v"}]}"#)),
            "grantLease" => ("/leases", Some(r#"{"ttl":"30s"}"#)),
            "lease" | "revokeLease" => ("/leases/a0", None),
            "keepLeaseAlive" => ("/leases/a0/keepalive", None),
            "watch" => ("/watch?key=k", None),
            "join" => ("/join", Some(r#"{"ID":"node2","RaftAddr":"h:1"}"#)),
            "setLogLevel" => (path, Some("info")),
            "remove" | "transfer" => (path, Some(r#"{"ID":"node2"}"#)),
            _ => (path, None),
        };
        let body = body.map(|body| body.as_bytes().to_vec());
        Good { method: method.to_uppercase(), target: target.to_owned(), headers: vec![], body }
    }

    fn with(mut self, query: &str) -> Good {
        let separator = if self.target.contains('?') { '&' } else { '?' };
        self.target.push_str(&format!("{separator}{query}"));
        self
    }

    fn header(mut self, header: &str) -> Good {
        self.headers.push(header.to_owned());
        self
    }

    fn body(mut self, body: impl Into<Vec<u8>>) -> Good {
        self.body = Some(body.into());
        self
    }

    fn target(mut self, target: &str) -> Good {
        self.target = target.to_owned();
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let headers: Vec<&str> = self.headers.iter().map(String::as_str).collect();
        request(&self.method, &self.target, &headers, self.body.as_deref())
    }

    async fn ask(&self, server: &Server) -> Reply {
        let mut client = server.connect().await;
        client.send(&self.bytes()).await;
        client.reply_to(&self.method).await
    }
}

/// A server with a key, and the first lease that the fake node grants.
async fn stocked() -> Server {
    let server = Server::start();
    server.put("/kv/k", b"v").await;
    let granted = server.call("POST", "/leases?ttl=30s").await.json();
    assert_eq!(granted["id"], "00000000000000a0");
    server
}

/// Every operation but the HEADs: its id, how to ask, and its part of the document.
fn operations() -> impl Iterator<Item = (&'static str, Good, &'static Value)> {
    let paths = DOCUMENT["paths"].as_object().expect("paths").iter();
    paths.flat_map(|(path, resource)| {
        let methods = resource.as_object().expect("a resource").iter();
        methods.filter(|(name, _)| !matches!(name.as_str(), "head" | "parameters")).map(
            move |(method, operation)| {
                let id = operation["operationId"].as_str().expect("an id");
                (id, Good::of(id, method, path), operation)
            },
        )
    })
}

#[actix_web::test]
async fn the_document_is_served_as_it_is_checked() {
    let server = Server::start();
    assert_eq!(server.get("/openapi.json").await.json(), *DOCUMENT);
    assert_eq!(DOCUMENT["openapi"], "3.1.0");
}

#[actix_web::test]
async fn every_documented_parameter_and_header_is_read() {
    let server = stocked().await;
    for (id, good, operation) in operations() {
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        for parameter in parameters {
            let name = parameter["name"].as_str().expect("a name");
            let is_refused = match parameter["in"].as_str() {
                Some("query") => {
                    let value = match parameter["schema"]["type"].as_str() {
                        Some("integer") => "1",
                        _ if parameter["schema"]["enum"].is_array() => "false",
                        _ => "1s",
                    };
                    let unknown = format!("{name}: is not a parameter");
                    let mut is_unknown = true;
                    // A range is asked for by another name than a key.
                    for target in [good.target.replace("key=k", ""), good.target.clone()] {
                        let asked = good.clone().target(&target).with(&format!("{name}={value}"));
                        let reply = asked.ask(&server).await;
                        is_unknown &= reply.status == 400
                            && reply.json()["detail"].as_str().unwrap().starts_with(&unknown);
                    }
                    is_unknown
                }
                _ if parameter["schema"].get("pattern").is_some() => {
                    let asked = good.clone().header(&format!("{name}: no such thing"));
                    asked.ask(&server).await.status != 400
                }
                // Read by whoever takes part in caching; its answer is promised, and provoked below.
                _ => !["If-None-Match", "X-Request-Id"].contains(&name),
            };
            assert!(!is_refused, "{id} does not read {name}");
        }
    }
}

#[actix_web::test]
async fn every_documented_success_can_be_had() {
    for (id, good, operation) in operations() {
        let responses = operation["responses"].as_object().expect("responses");
        for (status, response) in responses.iter().filter(|(status, _)| status.as_str() < "307") {
            let no_body = serde_json::Map::new();
            let content = response["content"].as_object().unwrap_or(&no_body);
            if status == "304" {
                let server = stocked().await;
                let reply = good.clone().header("If-None-Match: \"1\"").ask(&server).await;
                assert_eq!(reply.status, 304, "{id}");
                continue;
            }
            assert!(!content.is_empty(), "{id}: {status} has no body");
            for media_type in content.keys() {
                let server = stocked().await;
                let good = match (id, media_type.as_str()) {
                    ("readyz", "application/json") => good.clone().with("verbose"),
                    (_, "application/x-ndjson") => {
                        good.clone().target("/kv?prefix=").header("Accept: application/x-ndjson")
                    }
                    (_, "application/json") => good.clone().header("Accept: application/json"),
                    _ => good.clone(),
                };
                let reply = good.ask(&server).await;
                let answered = (reply.status.to_string(), reply.header("content-type"));
                assert_eq!(answered, (status.clone(), Some(media_type.as_str())), "{id}");
            }
        }
    }
}

#[actix_web::test]
async fn every_documented_error_can_be_provoked() {
    for (id, good, operation) in operations() {
        for (status, response) in operation["responses"].as_object().expect("responses") {
            let schema = &response["content"]["application/problem+json"]["schema"];
            let codes = schema["allOf"][1]["properties"]["code"]["enum"].as_array();
            for code in codes.into_iter().flatten().filter_map(Value::as_str) {
                let Some(reply) = provoke(id, &good, code).await else { continue };
                assert_eq!(reply.status.to_string(), *status, "{id}: {code}: {reply:?}");
                assert_eq!(reply.json()["code"], code, "{id}: {reply:?}");
            }
        }
    }
}

/// Has the server answer a request with this code. `None` for the code of a defect.
async fn provoke(id: &str, good: &Good, code: &str) -> Option<Reply> {
    if let Some(error) = error_of_node(code, id) {
        let server = stocked().await;
        server.fake.fail_with(error);
        return Some(good.ask(&server).await);
    }
    let long = "k".repeat(4_097);
    let names_key = matches!(id, "readKey" | "putKey" | "deleteKey");
    let bad = match code {
        "internal" => return None,
        "overloaded" => return Some(overload(good).await),
        "request_timeout" => return Some(stall(good).await),
        "superseded" => {
            let server = stocked().await;
            good.clone().header("Idempotency-Key: c:2").ask(&server).await;
            return Some(good.clone().header("Idempotency-Key: c:1").ask(&server).await);
        }
        "key_reused" => {
            let server = stocked().await;
            let other = if good.method == "DELETE" { "PUT" } else { "DELETE" };
            let body = (other == "PUT").then_some(&b"v"[..]);
            server.request(other, "/kv/k", &["Idempotency-Key: c:1"], body).await;
            return Some(good.clone().header("Idempotency-Key: c:1").ask(&server).await);
        }
        "revision_trimmed" => {
            let server = stocked().await;
            *server.fake.oldest.lock().unwrap() = 1;
            return Some(good.clone().with("revision=0").ask(&server).await);
        }
        "lease_limit" => {
            let server = stocked().await;
            server.fake.answer_with(Outcome::LeaseLimit(LeaseLimit::Leases));
            return Some(good.ask(&server).await);
        }
        // These ask nothing that could be refused.
        "not_ready" => {
            let server = Server::start();
            server.fake.stop().await;
            return Some(good.ask(&server).await);
        }
        "bad_parameter" => good.clone().with("no_such_parameter=1"),
        "head_too_large" => good.clone().header(&format!("X-Long: {}", "x".repeat(70_000))),
        "missing_key" if names_key => good.clone().target("/kv/"),
        "missing_key" if id == "txn" => good.clone().body(r#"{"success":[{"op":"get"}]}"#),
        "missing_key" => good.clone().target(good.target.split('?').next()?),
        "key_too_long" if names_key => good.clone().target(&format!("/kv/{long}")),
        "key_too_long" if id == "txn" => {
            good.clone().body(format!(r#"{{"success":[{{"op":"get","key":"{long}"}}]}}"#))
        }
        "key_too_long" => {
            let path = good.target.split('?').next()?;
            good.clone().target(&format!("{path}?key={long}"))
        }
        "key_not_found" => good.clone(),
        "lease_not_found" if good.method == "PUT" => good.clone().with("lease=a0"),
        "lease_not_found" if id == "txn" => {
            let put = r#"{"op":"put","key":"k","value":"v","lease":"a0"}"#;
            good.clone().body(format!(r#"{{"success":[{put}]}}"#))
        }
        // No lease was granted.
        "lease_not_found" => good.clone(),
        "condition_failed" => good.clone().header("If-Match: \"99\""),
        "revision_in_future" => good.clone().with("revision=99"),
        "bad_body" if good.method == "PUT" => Good { body: None, ..good.clone() },
        "bad_body" => good.clone().body("no JSON"),
        "value_too_large" => good.clone().body(vec![b' '; 8 * 1024 * 1024 + 1]),
        "too_many_ops" => {
            let operations = vec![r#"{"op":"get","key":"k"}"#; 129].join(",");
            good.clone().body(format!(r#"{{"success":[{operations}]}}"#))
        }
        other => panic!("{id} promises {other}: say here how it can be provoked"),
    };
    Some(bad.ask(&Server::start()).await)
}

/// What the node answers for this code.
fn error_of_node(code: &str, id: &str) -> Option<RequestError> {
    let reason = || "a reason".to_owned();
    Some(match code {
        "not_leader" => RequestError::NotLeader {
            leader_name: "node2".to_owned(),
            leader_raft: "10.0.0.2:7001".to_owned(),
            leader_http: "http://10.0.0.2:8081".to_owned(),
        },
        "no_leader" => RequestError::NoLeader { reason: reason() },
        "not_ready" if !matches!(id, "status" | "members" | "raftStats" | "readyz" | "health") => {
            RequestError::NotReady { reason: reason() }
        }
        "too_stale" => RequestError::TooStale { age_ms: 2, max_ms: 1 },
        "timeout" => RequestError::TimedOut { waiting_for: reason() },
        "refused" => RequestError::Refused { detail: reason() },
        "node_conflict" => RequestError::NodeConflict { detail: reason() },
        "unknown_node" => RequestError::UnknownNode { name: reason(), members: reason() },
        "storage_full" => RequestError::StorageFull { detail: reason() },
        "storage_failed" => RequestError::Storage { detail: reason() },
        "revision_trimmed" if id == "watch" => {
            RequestError::RevisionTrimmed { oldest: 1, revision: 2 }
        }
        _ => return None,
    })
}

/// Asks while as many requests are under way as may be.
async fn overload(good: &Good) -> Reply {
    const ADMIN: usize = 16;
    const BACKUPS: usize = 2;
    let options = HttpOptions {
        max_inflight_reads: 0,
        max_inflight_writes: 0,
        max_watchers: 0,
        ..HttpOptions::default()
    };
    let server = Server::with(options);
    let places = match good.target.as_str() {
        "/join" | "/remove" | "/transfer" | "/compact" => ADMIN,
        "/backup" => BACKUPS,
        _ => 0,
    };
    let mut waiting = Vec::new();
    server.fake.gate.send_replace(false);
    for nth in 1..=places {
        let mut client = server.connect().await;
        client.send(&good.bytes()).await;
        server.fake.has_received(nth).await;
        waiting.push(client);
    }
    good.ask(&server).await
}

/// Announces a body and keeps it back.
async fn stall(good: &Good) -> Reply {
    // The head has to arrive within the same time.
    let options = HttpOptions { request_timeout: Duration::from_secs(2), ..HttpOptions::default() };
    let server = Server::with(options);
    let mut client = server.connect().await;
    let kept_back = Good { body: None, ..good.clone() }.header("Content-Length: 10");
    client.send(&kept_back.bytes()).await;
    client.reply_to(&good.method).await
}
