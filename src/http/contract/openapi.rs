//! The table as OpenAPI 3.1: what `GET /openapi.json` answers.
//!
//! Two things the format has no words for stand beside it: the schema of a stream's items (`x-item-schema`, which
//! OpenAPI 3.2 calls `itemSchema`), and that a `{key}` in a path may hold slashes.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::parameters::{EVERY, Header, LOCATION, Parameter, REQUEST_ID, RETRY_AFTER};
use super::{Content, Operation, Path, Success, Verb, schemas, table};
use crate::http::error::Code;

const PROBLEM: &str = "application/problem+json";

/// The document, made once.
pub static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| document().to_string().into());

fn document() -> Value {
    let mut paths = Map::new();
    for resource in table::resources() {
        let mut item = Map::new();
        if let Path::Around { parameter, .. } = resource.path {
            item.insert("parameters".to_owned(), json!([path_parameter(parameter)]));
        }
        for it in resource.operations {
            let spelt = operation(it);
            if it.verb == Verb::Get {
                item.insert("head".to_owned(), head(&spelt));
            }
            item.insert(it.verb.name().to_owned(), spelt);
        }
        paths.insert(resource.path.template(), item.into());
    }
    json!({
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "ConureDB",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "A distributed key-value store.",
            "description": ABOUT,
            "license": { "name": "MIT", "identifier": "MIT" },
        },
        "servers": [{ "url": "/" }],
        "tags": [
            { "name": "keys", "description": "Keys, ranges, transactions, changes." },
            { "name": "leases", "description": "Times to live that keys share." },
            { "name": "upkeep", "description": "Copies of the store, and the size of its file." },
            { "name": "cluster", "description": "Who belongs to it and who leads." },
            { "name": "node", "description": "What one node knows of itself." },
        ],
        "paths": paths,
        "components": { "schemas": schemas::all() },
    })
}

const ABOUT: &str = "Any node answers any request. Keys and values are bytes: in paths and queries they are \
    percent-encoded and never normalized, in JSON they stand as base64 under a name that ends in _base64 when they \
    are no UTF-8. Unknown and repeated parameters are refused. Any path that is not listed is answered with 404 \
    `not_found`, any other method with 405 `method_not_allowed` and `Allow`.";

fn path_parameter(it: &Parameter) -> Value {
    json!({
        "name": it.name,
        "in": "path",
        "required": true,
        "description": it.about,
        "schema": it.kind.schema(),
    })
}

fn operation(it: &Operation) -> Value {
    let mut spelt = Map::new();
    let mut add = |name: &str, value: Value| drop(spelt.insert(name.to_owned(), value));
    add("operationId", it.id.into());
    add("summary", it.summary.into());
    add("tags", json!([it.tag]));
    let mut parameters: Vec<Value> = distinct(it.parameters).into_iter().map(query).collect();
    parameters.extend(it.headers.iter().chain([&REQUEST_ID]).map(request_header));
    add("parameters", parameters.into());
    if let Some(body) = &it.body {
        let content: Map<String, Value> = body
            .content
            .iter()
            .map(|(media_type, schema)| ((*media_type).to_owned(), json!({ "schema": to(schema) })))
            .collect();
        let about = body.about;
        add(
            "requestBody",
            json!({ "description": about, "required": body.is_required, "content": content }),
        );
    }
    add("responses", responses(it).into());
    spelt.into()
}

/// The same request answered without a body.
fn head(get: &Value) -> Value {
    let mut head = get.clone();
    head["operationId"] =
        format!("{}Head", head["operationId"].as_str().unwrap_or_default()).into();
    if let Some(responses) = head["responses"].as_object_mut() {
        for response in responses.values_mut().filter_map(Value::as_object_mut) {
            response.remove("content");
        }
    }
    head
}

/// The parameters of several lists, each name once.
fn distinct(lists: &[&'static [Parameter]]) -> Vec<&'static Parameter> {
    let mut all: Vec<&Parameter> = Vec::new();
    for parameter in lists.iter().copied().flatten() {
        if all.iter().all(|known| known.name != parameter.name) {
            all.push(parameter);
        }
    }
    all
}

fn query(it: &Parameter) -> Value {
    json!({
        "name": it.name,
        "in": "query",
        "description": it.about,
        "allowEmptyValue": matches!(it.kind, super::parameters::Kind::Bytes | super::parameters::Kind::Flag),
        "schema": it.kind.schema(),
    })
}

fn request_header(it: &Header) -> Value {
    json!({ "name": it.name, "in": "header", "description": it.about, "schema": it.shape.schema() })
}

fn response_headers(headers: &[&Header]) -> Value {
    let spelt = |it: &&Header| {
        let (required, schema) = (it.is_required, it.shape.schema());
        let header = json!({ "description": it.about, "required": required, "schema": schema });
        (it.name.to_owned(), header)
    };
    headers.iter().map(spelt).collect::<Map<String, Value>>().into()
}

fn to(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

fn responses(it: &Operation) -> Map<String, Value> {
    let successes = it.answers.iter().map(|answer| (answer.status, success(answer)));
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for code in it.problems.concat() {
        by_status.entry(code.status_number()).or_default().push(code);
    }
    let problems = by_status.into_iter().map(|(status, codes)| (status, problem(status, &codes)));
    successes.chain(problems).map(|(status, value)| (status.to_string(), value)).collect()
}

fn success(it: &Success) -> Value {
    let headers: Vec<&Header> = EVERY.iter().chain(it.headers).collect();
    let mut response = json!({ "description": it.about, "headers": response_headers(&headers) });
    if !it.content.is_empty() {
        response["content"] = it.content.iter().map(media).collect::<Map<String, Value>>().into();
    }
    response
}

fn media(it: &Content) -> (String, Value) {
    let mut value = json!({ "schema": to(it.schema) });
    if let Some(item) = it.item {
        value["x-item-schema"] = to(item);
    }
    (it.media_type.to_owned(), value)
}

/// The answer of a status that says what went wrong: one of these codes.
fn problem(status: u16, codes: &[Code]) -> Value {
    let names: Vec<&str> = codes.iter().map(|code| code.name()).collect();
    let titles: Vec<String> =
        codes.iter().map(|code| format!("`{}`: {}.", code.name(), code.title())).collect();
    let mut headers: Vec<&Header> = EVERY.iter().collect();
    match status {
        307 => headers.push(&LOCATION),
        429 | 503 | 507 => headers.push(&RETRY_AFTER),
        _ => {}
    }
    headers.extend(codes.iter().flat_map(|code| code.headers()));
    let schema = json!({
        "allOf": [
            to("Problem"),
            { "properties": { "status": { "const": status }, "code": { "enum": names } } },
        ],
    });
    json!({
        "description": titles.join(" "),
        "headers": response_headers(&headers),
        "content": { PROBLEM: { "schema": schema } },
    })
}
