//! A lock, and what makes it safe: writes under its guard, and a token for everything else.
//!
//! ```console
//! $ cargo run --example lock -- http://127.0.0.1:8081
//! ```

use std::time::Duration;

use conuredb::client::{Client, ClientOptions, RecipeError};
use conuredb::types::{Key, Lifetime, Txn, TxnOp};

const TTL: Duration = Duration::from_secs(10);

#[tokio::main]
#[allow(clippy::disallowed_methods, reason = "a program is where chance begins")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = std::env::args().nth(1).unwrap_or("http://127.0.0.1:8081".to_owned());
    let client = Client::new(vec![server], ClientOptions::new(rand::random()))?;
    Ok(run(&client).await?)
}

pub async fn run(client: &Client) -> Result<(), RecipeError> {
    let lock = client.lock(b"example", TTL).await?;
    println!("held with token {}", lock.fencing_token());

    // Work, and stop when the lock is lost.
    tokio::select! {
        done = work(client, &lock) => done?,
        why = lock.lost() => return Err(why.into()),
    }
    lock.release().await?;

    // The next holder has a greater token, whoever it is.
    let lock = client.lock(b"example", TTL).await?;
    println!("held again with token {}", lock.fencing_token());
    lock.release().await
}

async fn work(client: &Client, lock: &conuredb::client::Lock) -> Result<(), RecipeError> {
    // In the same store the guard does it: the put happens while the lock is held, or not at all.
    let put = TxnOp::Put {
        key: Key::new("example/report")?,
        value: "done".into(),
        lifetime: Lifetime::Unbounded,
    };
    let txn = Txn::new(vec![lock.guard()], vec![put], Vec::new()).expect("it writes one key");
    let done = client.txn(&txn).await?;
    println!("written under the lock: {}", done.succeeded);
    // Elsewhere, send lock.fencing_token() along, and have the other side refuse a lower one than it has seen.
    client.delete_prefix(b"example/report").await?;
    Ok(())
}
