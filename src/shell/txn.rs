//! `txn` and `cas`: several keys at once, and what is printed of it.

use std::fmt::Write;

use serde_json::json;

use super::exit::Failure;
use super::output::Output;
use super::run::Session;
use super::words::escape;
use super::{json, print};
use crate::client::TxnAnswer;
use crate::types::{Compare, Key, Lifetime, Operand, Relation, Txn, TxnOp};

impl Session {
    pub(super) async fn txn(&self, txn: &Txn) -> Result<(), Failure> {
        let done = self.client.txn(txn).await?;
        if self.output == Output::Json {
            return self.write_lines([json::txn(&done)]);
        }
        let branch = if done.succeeded { "then" } else { "else" };
        let mut text = format!("OK {branch}, revision {}\n", done.revision);
        let operations = txn.branch(done.succeeded).iter();
        for (operation, answer) in operations.zip(&done.results) {
            self.print_answer(&mut text, operation, answer);
        }
        self.write(text.as_bytes())
    }

    /// A line for a write and for each record that was read.
    fn print_answer(&self, text: &mut String, operation: &TxnOp, answer: &TxnAnswer) {
        let key = match operation {
            TxnOp::Put { key, .. } | TxnOp::Get { key } => escape(key.as_bytes()),
            TxnOp::Range { .. } | TxnOp::Delete { .. } => String::new(),
        };
        let said = match answer {
            TxnAnswer::Put { version, .. } => format!("put {key}, version {version}"),
            TxnAnswer::Delete { deleted } => format!("deleted {deleted}"),
            TxnAnswer::Get { item: Some(item), .. } => {
                text.push_str(&print::item(item, self.terminal));
                return;
            }
            TxnAnswer::Range { items, more, forgotten: false } => {
                let lines = items.iter().map(|item| print::item(item, self.terminal));
                text.extend(lines);
                match more {
                    true => "(more than fits a transaction)".to_owned(),
                    false => return,
                }
            }
            TxnAnswer::Get { too_large: true, .. } => {
                format!("{key}: too large for a transaction; `get` prints it")
            }
            TxnAnswer::Get { forgotten: true, .. } | TxnAnswer::Range { .. } => {
                "(done before, and what was read then is not known any more)".to_owned()
            }
            TxnAnswer::Get { .. } => format!("{key}: there is no such key"),
        };
        writeln!(text, "{said}").expect("a string takes all that is written");
    }

    /// Stores `new` if the value is `old`; if not, says what it is.
    pub(super) async fn swap(
        &self,
        key: Vec<u8>,
        old: Vec<u8>,
        new: Vec<u8>,
    ) -> Result<(), Failure> {
        let key = Key::new(key).map_err(|error| Failure::Key(error.to_string()))?;
        let is_old =
            Compare { key: key.clone(), is: Relation::Equal, to: Operand::Value(old.into()) };
        let put = TxnOp::Put { key: key.clone(), value: new.into(), lifetime: Lifetime::Unbounded };
        let txn = Txn::new(vec![is_old], vec![put], vec![TxnOp::Get { key: key.clone() }])
            .map_err(|error| Failure::Key(error.to_string()))?;
        let mut done = self.client.txn(&txn).await?;
        if done.succeeded {
            return self.answer(
                || format!("OK revision {}\n", done.revision),
                || json!({ "swapped": true, "revision": done.revision }),
            );
        }
        let value = match done.results.pop() {
            Some(TxnAnswer::Get { item: Some(item), .. }) => item.value,
            Some(TxnAnswer::Get { item: None, too_large: false, forgotten: false }) => {
                return Err(Failure::NotFound(key.as_bytes().to_vec()));
            }
            _ => None,
        };
        Err(Failure::OtherValue { key: key.as_bytes().to_vec(), value: value.map(Into::into) })
    }
}
