//! Too much, too slow, or too many in one breath.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::bystander::Bystander;
use crate::harness::{Node, PATIENCE, until};
use crate::{MIB, exchange, peak, started};

/// Pause between two bytes of a slow client: less than any limit on silence.
const DRIP_EVERY: Duration = Duration::from_millis(100);

fn text(said: Option<Vec<u8>>) -> String {
    String::from_utf8_lossy(&said.expect("the node closes the connection")).into_owned()
}

#[tokio::test]
async fn a_gibibyte_is_refused_with_memory_flat_whether_announced_or_not() {
    let node = started(&[]).await;
    let bystander = Bystander::of(&node);
    bystander.is_served(5).await;
    let before = node.resident_bytes();

    let announced = b"PUT /kv/k HTTP/1.1\r\nHost: t\r\nContent-Length: 1073741824\r\n\r\n";
    let said = send_until_closed(&node, announced, &vec![b'x'; MIB as usize]).await;
    assert!(said.starts_with("HTTP/1.1 413") && said.contains("value_too_large"), "{said}");
    let chunked = b"PUT /kv/k HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = [&b"100000\r\n"[..], &vec![b'x'; MIB as usize], b"\r\n"].concat();
    let said = send_until_closed(&node, chunked, &chunk).await;
    assert!(said.starts_with("HTTP/1.1 413") && said.contains("value_too_large"), "{said}");

    let grown = peak(&node).saturating_sub(before);
    // The longest value, twice while its buffer doubles, and what else goes on.
    assert!(grown < 48 * MIB, "two bodies of 1 GiB took {} MiB", grown / MIB);
    bystander.ends_unharmed().await;
}

/// Sends a head and then a thousand times `part`, or until the node has had enough; what the node says.
async fn send_until_closed(node: &Node, head: &[u8], part: &[u8]) -> String {
    let stream = TcpStream::connect(node.http_addr()).await.expect("a connection");
    let (mut from, mut to) = stream.into_split();
    to.write_all(head).await.expect("a head");
    let mut said = vec![0; 1024];
    let sending = async {
        for _ in 0..1024 {
            if to.write_all(part).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let read = async {
        let len = from.read(&mut said).await.unwrap_or(0);
        said.truncate(len);
    };
    // The reply comes while the body is being sent; then the node closes.
    tokio::select! {
        read = tokio::time::timeout(PATIENCE, read) => read.expect("a reply"),
        () = sending => unreachable!("it waits for ever"),
    }
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test]
async fn heads_without_end_are_cut_off_with_memory_flat() {
    const BOMBS: u64 = 64;
    let node = started(&[]).await;
    let bystander = Bystander::of(&node);
    bystander.is_served(5).await;
    let before = node.resident_bytes();
    let long =
        [b"GET /livez HTTP/1.1\r\nHost: t\r\nX-Long: ".to_vec(), vec![b'x'; 4 * MIB as usize]]
            .concat();
    let many = (0..50_000)
        .fold("GET /livez HTTP/1.1\r\n".to_owned(), |head, n| head + &format!("X-{n}: x\r\n"));
    let mut bombs = JoinSet::new();
    for number in 0..BOMBS {
        let (address, bomb) =
            (node.http_addr(), if number % 2 == 0 { long.clone() } else { many.clone().into() });
        bombs.spawn(async move { text(exchange(&address, &bomb).await) });
    }
    while let Some(said) = bombs.join_next().await {
        let said = said.expect("no panic");
        // Who sends on is reset, and may not get to read the reply.
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{said}");
    }
    let grown = peak(&node).saturating_sub(before);
    assert!(grown < BOMBS * MIB / 2, "{BOMBS} heads of MiBs took {} MiB", grown / MIB);
    bystander.ends_unharmed().await;
}

#[tokio::test]
async fn slow_heads_and_slow_bodies_are_let_go_and_harm_nobody() {
    let node = started(&["--set=timeouts.request=2s"]).await;
    let bystander = Bystander::of(&node);
    let mut slow = JoinSet::new();
    for number in 0..200 {
        let (address, begin) = match number % 2 {
            0 => (node.http_addr(), "GET /livez HTTP/1.1\r\nX-Slow: "),
            _ => (
                node.http_addr(),
                "PUT /kv/slow HTTP/1.1\r\nHost: t\r\nContent-Length: 100000\r\n\r\n",
            ),
        };
        slow.spawn(async move {
            let stream = TcpStream::connect(address).await.expect("a connection");
            let (mut from, mut to) = stream.into_split();
            to.write_all(begin.as_bytes()).await.expect("a beginning");
            let drip = async {
                while to.write_all(b"x").await.is_ok() {
                    tokio::time::sleep(DRIP_EVERY).await;
                }
                std::future::pending::<()>().await;
            };
            let mut said = Vec::new();
            let closed = tokio::select! {
                closed = tokio::time::timeout(PATIENCE, from.read_to_end(&mut said)) => closed.is_ok(),
                () = drip => unreachable!("it waits for ever"),
            };
            assert!(closed, "a slow client is kept");
            String::from_utf8_lossy(&said).into_owned()
        });
    }
    bystander.is_served(20).await;
    while let Some(said) = slow.join_next().await {
        let said = said.expect("it is let go");
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");
    }
    bystander.ends_unharmed().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_and_unread_answers_do_not_pile_up() {
    let node = started(&[]).await;
    for number in 0..50 {
        node.put(&format!("/kv/p{number}"), format!("value-{number};")).await.is_ok();
    }
    let get = |key: &str| format!("GET /kv/{key} HTTP/1.1\r\nHost: t\r\n\r\n");
    let pipeline: String = (0..1_000).map(|n| get(&format!("p{}", n % 50))).collect();
    let end = "GET /livez HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
    let said = text(exchange(&node.http_addr(), (pipeline + end).as_bytes()).await);
    let values: Vec<&str> =
        said.split("value-").skip(1).filter_map(|rest| rest.split(';').next()).collect();
    let expected: Vec<String> = (0..1_000).map(|n| (n % 50).to_string()).collect();
    assert_eq!(values, expected);

    node.put("/kv/large", vec![b'x'; MIB as usize]).await.is_ok();
    let bystander = Bystander::of(&node);
    bystander.is_served(5).await;
    let before = node.resident_bytes();
    let mut deaf = Vec::new();
    for _ in 0..16 {
        let mut stream = TcpStream::connect(node.http_addr()).await.expect("a connection");
        stream.write_all(get("large").repeat(200).as_bytes()).await.expect("a pipeline");
        deaf.push(stream);
    }
    until("the first answers to wait for their reader", async || {
        for stream in &deaf {
            stream.readable().await.ok()?;
        }
        Some(())
    })
    .await;
    bystander.is_served(20).await;
    let grown = peak(&node).saturating_sub(before);
    // Each has 200 MiB in store; the value that it is being sent, and the sockets' buffers, may be held.
    assert!(grown < 16 * 4 * MIB, "16 deaf clients took {} MiB", grown / MIB);
    bystander.ends_unharmed().await;
}
