//! Transactions. What they are is [`crate::types::Txn`]; here is how they are sent, and what comes back.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Client;
use super::call::{Call, Retry};
use super::error::ClientError;
use super::kv::Item;
use crate::types::{Compare, KeyRange, Lifetime, Operand, Revision, Txn, TxnOp};

/// What a transaction did.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct TxnDone {
    /// Whether the comparisons held.
    pub succeeded: bool,
    /// That of what was written; the store's present one when nothing was.
    pub revision: Revision,
    /// One for each operation of the branch that was taken.
    pub results: Vec<TxnAnswer>,
}

/// What an operation did.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum TxnAnswer {
    Put {
        create_revision: Revision,
        version: u64,
    },
    Get {
        item: Option<Item>,
        /// The value was too large to be read in a transaction.
        #[serde(default)]
        too_large: bool,
        /// This is the answer to a retry, and what was read the first time was not kept.
        #[serde(default)]
        forgotten: bool,
    },
    Range {
        #[serde(default)]
        items: Vec<Item>,
        /// There were more than fit.
        #[serde(default)]
        more: bool,
        #[serde(default)]
        forgotten: bool,
    },
    Delete {
        deleted: u64,
    },
}

impl Client {
    /// Carries a transaction out. Sent again, it is applied once.
    pub async fn txn(&self, txn: &Txn) -> Result<TxnDone, ClientError> {
        let (method, body) = (Method::POST, txn_document(txn).to_string().into());
        let call = Call { method, body, retry: Retry::Always, ..Call::get("/txn") };
        self.write(call.header(reqwest::header::CONTENT_TYPE, "application/json")).await?.json()
    }
}

/// What `POST /txn` takes for a transaction.
pub fn txn_document(txn: &Txn) -> Value {
    let branch = |taken| txn.branch(taken).iter().map(operation).collect::<Vec<_>>();
    json!({
        "compare": txn.compare().iter().map(comparison).collect::<Vec<_>>(),
        "success": branch(true),
        "failure": branch(false),
    })
}

fn put_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), text.into()),
        Err(_) => object.insert(format!("{name}_base64"), STANDARD.encode(bytes).into()),
    };
}

fn comparison(compare: &Compare) -> Value {
    let mut object = Map::new();
    put_bytes(&mut object, "key", compare.key.as_bytes());
    object.insert("is".to_owned(), compare.is.name().into());
    let (name, value): (&str, Value) = match &compare.to {
        Operand::Value(value) => {
            put_bytes(&mut object, "value", value);
            return object.into();
        }
        Operand::Version(version) => ("version", (*version).into()),
        Operand::CreateRevision(revision) => ("create_revision", (*revision).into()),
        Operand::ModRevision(revision) => ("mod_revision", (*revision).into()),
        Operand::Exists(exists) => ("exists", (*exists).into()),
    };
    object.insert(name.to_owned(), value);
    object.into()
}

fn operation(operation: &TxnOp) -> Value {
    let mut object = Map::new();
    let name = match operation {
        TxnOp::Put { key, value, lifetime } => {
            put_bytes(&mut object, "key", key.as_bytes());
            put_bytes(&mut object, "value", value);
            match lifetime {
                Lifetime::Unbounded => None,
                Lifetime::Ttl { ms } => object.insert("ttl".to_owned(), format!("{ms}ms").into()),
                Lifetime::Lease(id) => object.insert("lease".to_owned(), id.to_string().into()),
            };
            "put"
        }
        TxnOp::Get { key } => {
            put_bytes(&mut object, "key", key.as_bytes());
            "get"
        }
        TxnOp::Range { range, limit, reverse, keys_only } => {
            put_range(&mut object, range);
            object.insert("limit".to_owned(), (*limit).into());
            object.insert("reverse".to_owned(), (*reverse).into());
            object.insert("keys_only".to_owned(), (*keys_only).into());
            "range"
        }
        TxnOp::Delete { range } => {
            put_range(&mut object, range);
            "delete"
        }
    };
    object.insert("op".to_owned(), name.into());
    object.into()
}

fn put_range(object: &mut Map<String, Value>, range: &KeyRange) {
    put_bytes(object, "start", &range.start);
    if let Some(end) = &range.end {
        put_bytes(object, "end", end);
    }
}
