//! Several keys at once: money is moved from one account to another, or not at all.
//!
//! ```console
//! $ cargo run --example txn -- http://127.0.0.1:8081
//! ```

use conuredb::client::{Client, ClientError, ClientOptions, ReadOptions};
use conuredb::types::{Compare, Condition, Key, Lifetime, Operand, Relation, Revision, Txn, TxnOp};

#[tokio::main]
#[allow(clippy::disallowed_methods, reason = "a program is where chance begins")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = std::env::args().nth(1).unwrap_or("http://127.0.0.1:8081".to_owned());
    let client = Client::new(vec![server], ClientOptions::new(rand::random()))?;
    Ok(run(&client).await?)
}

pub async fn run(client: &Client) -> Result<(), ClientError> {
    client.put(b"account/ada", "100", Condition::None).await?;
    client.put(b"account/bob", "0", Condition::None).await?;
    transfer(client, "account/ada", "account/bob", 30).await?;
    for name in ["account/ada", "account/bob"] {
        let (amount, revision) = balance(client, name).await?;
        println!("{name} has {amount}, since revision {revision}");
    }
    client.delete_prefix(b"account/").await?;
    Ok(())
}

async fn balance(client: &Client, name: &str) -> Result<(i64, Revision), ClientError> {
    let value = client.get(name.as_bytes(), ReadOptions::default()).await?;
    let value = value.expect("it was put before");
    let amount = std::str::from_utf8(&value.bytes).ok().and_then(|text| text.parse().ok());
    Ok((amount.expect("accounts hold numbers"), value.mod_revision))
}

async fn transfer(client: &Client, from: &str, to: &str, amount: i64) -> Result<(), ClientError> {
    let key = |name: &str| Key::new(name.to_owned()).expect("a short name");
    loop {
        let (has, its_revision) = balance(client, from).await?;
        let (had, other_revision) = balance(client, to).await?;
        let as_it_was = |name, revision| Compare {
            key: key(name),
            is: Relation::Equal,
            to: Operand::ModRevision(revision),
        };
        let put = |name, amount: i64| TxnOp::Put {
            key: key(name),
            value: amount.to_string().into(),
            lifetime: Lifetime::Unbounded,
        };
        let txn = Txn::new(
            vec![as_it_was(from, its_revision), as_it_was(to, other_revision)],
            vec![put(from, has - amount), put(to, had + amount)],
            Vec::new(),
        );
        if client.txn(&txn.expect("no key is put twice")).await?.succeeded {
            return Ok(());
        }
        // Somebody was faster: look again.
    }
}
