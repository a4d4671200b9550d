//! Values in, values out: conditions, times to live, and a range as a stream.
//!
//! ```console
//! $ conure-db &
//! $ cargo run --example put_get -- http://127.0.0.1:8081
//! ```

use std::time::Duration;

use conuredb::client::{Client, ClientError, ClientOptions, ReadOptions, Scan};
use conuredb::types::Condition;

#[tokio::main]
#[allow(clippy::disallowed_methods, reason = "a program is where chance begins")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = std::env::args().nth(1).unwrap_or("http://127.0.0.1:8081".to_owned());
    // The seed names this client's writes, so that one that is sent again is known as such.
    let client = Client::new(vec![server], ClientOptions::new(rand::random()))?;
    Ok(run(&client).await?)
}

pub async fn run(client: &Client) -> Result<(), ClientError> {
    let written = client.put(b"example/greeting", "hello", Condition::None).await?;
    println!("put at revision {}", written.revision);

    // Somebody else may have written meanwhile: then this would be refused, and say so.
    let condition = Condition::ModRevision(written.revision);
    client.put(b"example/greeting", "hello again", condition).await?;
    let refused = client.put(b"example/greeting", "too late", condition).await;
    match refused {
        Err(error) if error.is_code("condition_failed") => println!("refused: {error}"),
        other => println!("this is a surprise: {other:?}"),
    }

    let value = client.get(b"example/greeting", ReadOptions::default()).await?;
    println!("it is {:?}", value.map(|value| value.bytes));

    let ttl = Duration::from_secs(60);
    client.put_for(b"example/session", "me", ttl, Condition::None).await?;
    for number in 0..10 {
        client.put(format!("example/n/{number}").as_bytes(), "x", Condition::None).await?;
    }

    // However many there are, few of them are in memory at a time.
    let mut records = client.stream(Scan { prefix: "example/".into(), ..Scan::default() });
    while let Some(item) = records.next().await? {
        println!("{}", String::from_utf8_lossy(&item.key));
    }
    let deleted = client.delete_prefix(b"example/").await?;
    println!("{} keys deleted at once", deleted.deleted);
    Ok(())
}
