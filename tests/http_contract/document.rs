//! Every reply that these tests get is held against `/openapi.json`: its status, its headers, its media type and the
//! schema of its body. So the document cannot promise less, or other things, than what is answered. That it does not
//! promise more is told by the module `promises`.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::client::Reply;

/// Headers that belong to the protocol and not to the contract.
const PROTOCOL_HEADERS: [&str; 6] =
    ["allow", "connection", "content-length", "content-type", "date", "transfer-encoding"];

pub static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_slice(&conuredb::http::openapi()).expect("JSON"));

static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

/// The operation that a request asks for: its methods, and its own part of the document if it has one.
pub fn operation(method: &str, path: &str) -> (Option<&'static Value>, Option<&'static Value>) {
    let paths = DOCUMENT["paths"].as_object().expect("paths");
    // The one that says most of the path.
    let around = || {
        let fits = paths.iter().filter(|(template, _)| {
            let Some((before, rest)) = template.split_once('{') else { return false };
            let after = rest.split_once('}').map_or("", |(_, after)| after);
            path.strip_prefix(before).is_some_and(|rest| rest.ends_with(after))
        });
        fits.max_by_key(|(template, _)| template.len())
    };
    let resource = paths.get_key_value(path).or_else(around).map(|(_, resource)| resource);
    (resource, resource.and_then(|resource| resource.get(method.to_lowercase())))
}

/// Checks a reply, but for the body of a stream.
#[track_caller]
pub fn check(method: &str, target: &str, reply: &Reply) {
    if reply.header("x-conure-served-by").is_none() {
        let is_bare = matches!(reply.status, 400 | 408 | 431) && reply.body.is_empty();
        assert!(is_bare, "only the parser's refusals say nothing of who answers: {reply:?}");
        return;
    }
    // A target may name the host, too.
    let target = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => target,
    };
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let (resource, operation) = operation(method, path);
    let Some(operation) = operation else {
        let expected = match resource {
            None => (404, "not_found"),
            Some(resource) => {
                assert_eq!(reply.header("allow").map(methods), Some(documented(resource)));
                (405, "method_not_allowed")
            }
        };
        // The head is looked at first.
        if reply.status != 431 {
            assert_eq!(reply.status, expected.0, "{method} {target} is not documented: {reply:?}");
        }
        if method != "HEAD" {
            let problem = reply.json();
            assert!(reply.status == 431 || problem["code"] == expected.1, "{problem}");
            conforms(&json!({ "$ref": "#/components/schemas/Problem" }), &problem, target);
        }
        return;
    };
    let response = operation["responses"].get(reply.status.to_string());
    let response = response.unwrap_or_else(|| {
        let (status, said) = (reply.status, String::from_utf8_lossy(&reply.body));
        panic!("{method} {target}: {status} is not documented: {said}")
    });
    check_headers(method, target, response, reply);
    check_body(method, target, response, reply);
}

/// What `Allow` lists.
fn methods(allow: &str) -> Vec<String> {
    let mut methods: Vec<String> = allow.split(", ").map(str::to_owned).collect();
    methods.sort();
    methods
}

fn documented(resource: &Value) -> Vec<String> {
    let names = resource.as_object().expect("a resource").keys();
    let mut methods: Vec<String> =
        names.filter(|name| *name != "parameters").map(|name| name.to_uppercase()).collect();
    methods.sort();
    methods
}

#[track_caller]
fn check_headers(method: &str, target: &str, response: &Value, reply: &Reply) {
    let headers = response["headers"].as_object().expect("headers");
    for (name, header) in headers {
        let Some(text) = reply.header(&name.to_ascii_lowercase()) else {
            assert!(header["required"] != true, "{method} {target}: {name} is missing: {reply:?}");
            continue;
        };
        let value = match header["schema"]["type"] == "integer" {
            true => text.parse::<u64>().map_or(json!(text), |number| json!(number)),
            false => json!(text),
        };
        conforms(&header["schema"], &value, &format!("{method} {target}: {name}"));
    }
    for (name, value) in &reply.headers {
        let is_known = PROTOCOL_HEADERS.contains(&name.as_str())
            || headers.keys().any(|known| known.eq_ignore_ascii_case(name));
        assert!(is_known, "{method} {target}: {name}: {value} is not documented: {reply:?}");
    }
}

#[track_caller]
fn check_body(method: &str, target: &str, response: &Value, reply: &Reply) {
    if method == "HEAD" {
        return;
    }
    let Some(content) = response.get("content") else {
        assert!(reply.body.is_empty(), "{method} {target}: no body is documented: {reply:?}");
        return;
    };
    let media_type = reply.header("content-type").expect("a media type");
    let media = content.get(media_type).unwrap_or_else(|| {
        panic!("{method} {target}: {} {media_type} is not documented", reply.status)
    });
    if media.get("x-item-schema").is_some() || media_type == "application/octet-stream" {
        return;
    }
    let body = match media_type.contains("json") {
        true => reply.json(),
        false => json!(reply.text()),
    };
    conforms(&media["schema"], &body, &format!("{method} {target}"));
}

/// Checks a line of a stream, or the data of an event.
#[track_caller]
pub fn check_item(path: &str, media_type: &str, item: &Value) {
    let (_, operation) = operation("GET", path);
    let content = &operation.expect("a stream is of a resource")["responses"]["200"]["content"];
    let schema = &content[media_type]["x-item-schema"];
    assert!(!schema.is_null(), "{media_type} of {path} is no documented stream");
    conforms(schema, item, path);
}

#[track_caller]
fn conforms(schema: &Value, value: &Value, what: &str) {
    let mut validators = VALIDATORS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let validator = validators.entry(schema.to_string()).or_insert_with(|| {
        let mut whole = schema.clone();
        whole["components"] = DOCUMENT["components"].clone();
        Arc::new(jsonschema::draft202012::new(&whole).expect("a schema"))
    });
    let validator = validator.clone();
    drop(validators);
    let errors: Vec<String> = validator.iter_errors(value).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{what}: {value} is not as documented: {errors:#?}");
}
