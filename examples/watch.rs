//! Changes as they come: read a state, and watch from behind it, without a gap.
//!
//! ```console
//! $ cargo run --example watch -- http://127.0.0.1:8081
//! ```

use conuredb::client::{Client, ClientError, ClientOptions, Keys, Scan, Watch};
use conuredb::types::Condition;

#[tokio::main]
#[allow(clippy::disallowed_methods, reason = "a program is where chance begins")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = std::env::args().nth(1).unwrap_or("http://127.0.0.1:8081".to_owned());
    let client = Client::new(vec![server], ClientOptions::new(rand::random()))?;
    Ok(run(&client).await?)
}

pub async fn run(client: &Client) -> Result<(), ClientError> {
    client.put(b"watched/a", "1", Condition::None).await?;
    let page = client.scan(&Scan { prefix: "watched/".into(), ..Scan::default() }).await?;
    println!("{} keys at revision {}", page.items.len(), page.revision);

    let keys = Keys::Prefix("watched/".into());
    let watch = Watch { from: Some(page.revision + 1), previous: true, ..Watch::of(keys) };
    let mut watcher = client.watch(watch);

    client.put(b"watched/a", "2", Condition::None).await?;
    client.put(b"watched/b", "1", Condition::None).await?;
    client.delete_prefix(b"watched/").await?;
    // Two puts, and a delete of two keys.
    for _ in 0..4 {
        let Some(event) = watcher.next().await else { break };
        let event = event?;
        let key = String::from_utf8_lossy(&event.item.key).into_owned();
        let before = event.previous.and_then(|previous| previous.value);
        println!("{}: {} {key}, was {before:?}", event.item.mod_revision, event.kind.name());
    }
    Ok(())
}
