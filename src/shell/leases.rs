//! `lease`: grants, and what there is.

use serde_json::{Value, json};

use super::command::Lease;
use super::exit::Failure;
use super::output::Output;
use super::run::Session;
use super::words::escape;
use super::{json, print};
use crate::client::LeaseInfo;
use crate::types::LeaseId;

impl Session {
    pub(super) async fn lease(&self, lease: Lease) -> Result<(), Failure> {
        match lease {
            Lease::Grant(ttl) => {
                let id = self.client.lease_grant(ttl).await?;
                self.answer(|| format!("{id}\n"), || json!({ "id": id.to_string() }))
            }
            Lease::KeepAlive(id) => {
                self.client.lease_keep_alive(id).await?;
                self.say("OK")
            }
            Lease::Revoke(id) => {
                let revoked = self.client.lease_revoke(id).await?;
                let deleted = revoked.deleted;
                self.answer(|| format!("OK deleted {deleted}\n"), || json!({ "deleted": deleted }))
            }
            Lease::Show(id) => self.show(id).await,
            Lease::List => self.list().await,
        }
    }

    /// A lease, and its keys one a line.
    async fn show(&self, id: LeaseId) -> Result<(), Failure> {
        let mut cursor: Option<String> = None;
        loop {
            let page = self.client.lease(id, cursor.as_deref()).await?;
            let page = page.ok_or_else(|| Failure::NoLease(id))?;
            if cursor.is_none() {
                let lease = [page.lease];
                self.answer(|| print::leases(&lease), || document(&lease[0]))?;
            }
            match self.output {
                Output::Json => self.write_lines(page.names.iter().map(|key| {
                    let mut object = json!({});
                    json::put_bytes(&mut object, "key", key);
                    object
                }))?,
                Output::Plain | Output::Table => {
                    let names = page.names.iter().map(|key| format!("{}\n", escape(key)));
                    self.write(names.collect::<String>().as_bytes())?;
                }
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    /// All leases, one a line.
    async fn list(&self) -> Result<(), Failure> {
        let mut leases: Vec<LeaseInfo> = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let page = self.client.leases(cursor.as_deref()).await?;
            leases.extend(page.items);
            cursor = page.next;
            if cursor.is_none() {
                return match self.output {
                    Output::Json => self.write_lines(leases.iter().map(document)),
                    Output::Plain | Output::Table => self.write(print::leases(&leases).as_bytes()),
                };
            }
        }
    }
}

fn document(lease: &LeaseInfo) -> Value {
    json!({
        "id": lease.id.to_string(),
        "ttl_ms": lease.ttl.as_millis() as u64,
        "left_ms": lease.left.as_millis() as u64,
        "keys": lease.keys,
    })
}
