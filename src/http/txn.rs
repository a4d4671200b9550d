//! `POST /txn`: comparisons, and the operations of one of two branches, in one atomic write.
//!
//! The body is read against a limit, then item by item, so that a refusal says which item is wrong and why.
//! Bytes are text, or base64 under the name with `_base64`, as everywhere. What a transaction means stands in
//! [`crate::types::Txn`]; here is its JSON.

mod answer;

use actix_web::HttpRequest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use self::answer::TxnAnswer;
use super::body::{Cap, RequestBody};
use super::contract::parameters;
use super::error::{Answer, Code, Problem};
use super::kv::{from_write, not_written};
use super::reply::Reply;
use super::target::{self, Params};
use super::{State, headers, node};
use crate::types::{
    Compare, Key, KeyError, KeyRange, MAX_KEY_BYTES, MAX_TXN_RANGE_ITEMS, Operand, Operation,
    Outcome, Relation, Revision, Txn, TxnOp,
};

/// Records that a range reads when it does not say.
const DEFAULT_LIMIT: usize = 100;

const EXAMPLE: &str = r#"{"compare":[{"key":"a","version":1}],"success":[{"op":"put","key":"a","value":"1"}],"failure":[{"op":"get","key":"a"}]}"#;

/// The body. Its items are read one by one, to be named when they are wrong.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    #[serde(default)]
    compare: Vec<Map<String, Value>>,
    #[serde(default)]
    success: Vec<Map<String, Value>>,
    #[serde(default)]
    failure: Vec<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireCompare {
    key: Option<String>,
    key_base64: Option<String>,
    is: Option<String>,
    value: Option<String>,
    value_base64: Option<String>,
    version: Option<u64>,
    create_revision: Option<Revision>,
    mod_revision: Option<Revision>,
    exists: Option<bool>,
}

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
enum WireOp {
    Put {
        key: Option<String>,
        key_base64: Option<String>,
        value: Option<String>,
        value_base64: Option<String>,
        ttl: Option<String>,
        lease: Option<String>,
    },
    Get {
        key: Option<String>,
        key_base64: Option<String>,
    },
    Range {
        prefix: Option<String>,
        prefix_base64: Option<String>,
        start: Option<String>,
        start_base64: Option<String>,
        end: Option<String>,
        end_base64: Option<String>,
        limit: Option<usize>,
        #[serde(default)]
        reverse: bool,
        #[serde(default)]
        keys_only: bool,
    },
    Delete {
        key: Option<String>,
        key_base64: Option<String>,
        prefix: Option<String>,
        prefix_base64: Option<String>,
        start: Option<String>,
        start_base64: Option<String>,
        end: Option<String>,
        end_base64: Option<String>,
    },
}

/// Carries a transaction out.
pub async fn post(request: &HttpRequest, body: &mut RequestBody, state: &State) -> Answer {
    let params = Params::parse(request.uri().query(), &[parameters::TXN])?;
    let redirect = params.flag("redirect")?;
    let request_id = headers::request_id(request.headers())?;
    let (options, mut hold) = (&state.options, state.admission.hold());
    let cap = Cap::of_transactions(options);
    let bytes = body.read(cap, options.request_timeout, &mut hold).await?;
    let txn = parse(&bytes, options.max_txn_ops, Cap::of_values(options))?;
    drop(bytes);
    let permit = state.admission.write()?;
    let idempotent = request_id.is_some();
    let operation = Operation::Txn(txn.clone());
    let outcome = node::write(state, operation, request_id, redirect, permit, hold).await;
    match outcome.map_err(|error| from_write(error, request, idempotent))? {
        Outcome::Txn { succeeded, revision, results } => {
            let answer = TxnAnswer::new(&txn, succeeded, revision, &results);
            let mut hold = state.admission.hold();
            hold.grow(answer::max_json_bytes(&results))?;
            Ok(Reply::json(&answer).revision(revision).holding(hold))
        }
        outcome => Err(not_written(outcome)),
    }
}

fn parse(bytes: &[u8], max_ops: usize, cap: Cap) -> Result<Txn, Problem> {
    // By way of a map: an array of values would be taken for the fields in their order.
    let body = serde_json::from_slice(bytes).map(Value::Object);
    let body: Body = body
        .and_then(serde_json::from_value)
        .map_err(|error| bad(format!("{error}; the body is JSON such as {EXAMPLE}")))?;
    let Body { compare, success, failure } = body;
    for (list, items) in [("compare", &compare), ("success", &success), ("failure", &failure)] {
        if items.len() > max_ops {
            let detail = format!(
                "{list} has {} items, a list of a transaction has at most {max_ops} \
                 (limits.max_txn_ops)",
                items.len()
            );
            return Err(Problem::new(Code::TooManyOps, detail).with("max_ops", max_ops));
        }
    }
    let compare = each("compare", compare, comparison)?;
    let operation = |wire| operation(wire, cap);
    let success = each("success", success, operation)?;
    let failure = each("failure", failure, operation)?;
    Txn::new(compare, success, failure).map_err(|error| bad(error.to_string()))
}

fn bad(detail: String) -> Problem {
    Problem::new(Code::BadBody, detail)
}

/// Reads the items of a list; an error begins with the item's place.
fn each<W: DeserializeOwned, T>(
    list: &str,
    items: Vec<Map<String, Value>>,
    read: impl Fn(W) -> Result<T, Problem>,
) -> Result<Vec<T>, Problem> {
    let one = |(at, item)| {
        let wire =
            serde_json::from_value(Value::Object(item)).map_err(|error| bad(error.to_string()));
        wire.and_then(&read).map_err(|problem| problem.at(&format!("{list}[{at}]")))
    };
    items.into_iter().enumerate().map(one).collect()
}

fn comparison(wire: WireCompare) -> Result<Compare, Problem> {
    let is = match wire.is.as_deref() {
        None => Relation::Equal,
        Some(name) => {
            let known = Relation::NAMES.iter().find(|(known, _)| *known == name);
            known.ok_or_else(|| bad(format!("is: {name:?} is none of = != < <= > >=")))?.1
        }
    };
    let value = bytes_of("value", wire.value, wire.value_base64)?;
    let operands = [
        value.map(Operand::Value),
        wire.version.map(Operand::Version),
        wire.create_revision.map(Operand::CreateRevision),
        wire.mod_revision.map(Operand::ModRevision),
        wire.exists.map(Operand::Exists),
    ];
    let mut operands = operands.into_iter().flatten();
    let (Some(to), None) = (operands.next(), operands.next()) else {
        let detail = "compare with one of value, version, create_revision, mod_revision and exists";
        return Err(bad(detail.to_owned()));
    };
    if matches!(to, Operand::Exists(_)) && !matches!(is, Relation::Equal | Relation::NotEqual) {
        return Err(bad("exists is true or false, and compared by = or !=".to_owned()));
    }
    Ok(Compare { key: key_of(wire.key, wire.key_base64)?, is, to })
}

fn operation(wire: WireOp, cap: Cap) -> Result<TxnOp, Problem> {
    Ok(match wire {
        WireOp::Put { key, key_base64, value, value_base64, ttl, lease } => {
            let value = bytes_of("value", value, value_base64)?;
            let value = value.ok_or_else(|| bad("a put needs value or value_base64".to_owned()))?;
            if value.len() > cap.bytes {
                return Err(cap.exceeded());
            }
            let ttl = ttl.map(|ttl| humantime::parse_duration(&ttl)).transpose();
            let ttl = ttl.map_err(|_| bad("ttl takes a duration, such as 30s".to_owned()))?;
            let lifetime = target::lifetime(ttl, lease.as_deref())?;
            TxnOp::Put { key: key_of(key, key_base64)?, value, lifetime }
        }
        WireOp::Get { key, key_base64 } => TxnOp::Get { key: key_of(key, key_base64)? },
        WireOp::Range {
            prefix,
            prefix_base64,
            start,
            start_base64,
            end,
            end_base64,
            limit,
            reverse,
            keys_only,
        } => {
            let limit = limit.unwrap_or(DEFAULT_LIMIT);
            if !(1..=MAX_TXN_RANGE_ITEMS).contains(&limit) {
                return Err(bad(format!("limit: takes 1 to {MAX_TXN_RANGE_ITEMS}")));
            }
            let prefix = bound_of("prefix", prefix, prefix_base64)?;
            let start = bound_of("start", start, start_base64)?;
            let end = bound_of("end", end, end_base64)?;
            let range = range_of(prefix, start, end)?;
            let range =
                range.ok_or_else(|| bad("a range needs prefix, start or end".to_owned()))?;
            TxnOp::Range { range, limit, reverse, keys_only }
        }
        WireOp::Delete {
            key,
            key_base64,
            prefix,
            prefix_base64,
            start,
            start_base64,
            end,
            end_base64,
        } => {
            let prefix = bound_of("prefix", prefix, prefix_base64)?;
            let start = bound_of("start", start, start_base64)?;
            let end = bound_of("end", end, end_base64)?;
            let range = match (range_of(prefix, start, end)?, key.is_some() || key_base64.is_some())
            {
                (None, _) => KeyRange::only(&key_of(key, key_base64)?),
                (Some(range), false) => range,
                (Some(_), true) => {
                    return Err(bad("a delete is of a key, or of a range".to_owned()));
                }
            };
            TxnOp::Delete { range }
        }
    })
}

/// The bytes of a field; not given twice.
fn bytes_of(
    name: &str,
    text: Option<String>,
    base64: Option<String>,
) -> Result<Option<Bytes>, Problem> {
    match (text, base64) {
        (Some(_), Some(_)) => Err(bad(format!("{name} and {name}_base64 exclude each other"))),
        (Some(text), None) => Ok(Some(text.into())),
        (None, Some(base64)) => match STANDARD.decode(base64) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(error) => Err(bad(format!("{name}_base64: {error}"))),
        },
        (None, None) => Ok(None),
    }
}

fn key_of(text: Option<String>, base64: Option<String>) -> Result<Key, Problem> {
    let bytes = bytes_of("key", text, base64)?.ok_or(KeyError::Empty)?;
    Ok(Key::new(bytes)?)
}

/// A bound of a range, one byte longer than a key at most.
fn bound_of(
    name: &str,
    text: Option<String>,
    base64: Option<String>,
) -> Result<Option<Bytes>, Problem> {
    match bytes_of(name, text, base64)? {
        Some(bound) if bound.len() > MAX_KEY_BYTES + 1 => {
            Err(Problem::from(KeyError::TooLong { len_bytes: bound.len() }).at(name))
        }
        bound => Ok(bound),
    }
}

fn range_of(
    prefix: Option<Bytes>,
    start: Option<Bytes>,
    end: Option<Bytes>,
) -> Result<Option<KeyRange>, Problem> {
    if prefix.is_none() && start.is_none() && end.is_none() {
        return Ok(None);
    }
    if end.as_ref().is_some_and(Bytes::is_empty) {
        return Err(bad("end: is empty; leave it out to reach the last key".to_owned()));
    }
    let between = KeyRange { start: start.unwrap_or_default(), end };
    Ok(Some(KeyRange::prefix(prefix.unwrap_or_default()).intersect(&between)))
}
