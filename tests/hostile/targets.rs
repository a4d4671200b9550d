//! Requests whose form is good and whose content is absurd. Each has an answer that says what is wrong, none is a
//! failure of the server, and none costs more than it should.

use crate::bystander::Bystander;
use crate::harness::Node;
use crate::{MIB, exchange, peak, started};

/// What must be answered 400: with the code and the name of what is wrong.
const REFUSED: &[(&str, &str)] = &[
    ("/kv?prefix=&limit=-1", "limit"),
    ("/kv?prefix=&limit=18446744073709551616", "limit"),
    ("/kv?prefix=&limit=1e9", "limit"),
    ("/kv?prefix=&limit=", "limit"),
    ("/kv?cursor=", "cursor"),
    ("/kv?cursor=%00%ff", "cursor"),
    ("/kv?cursor=////", "cursor"),
    ("/kv/k?revision=-1", "revision"),
    ("/kv/k?revision=18446744073709551616", "revision"),
    ("/kv/k?stale=maybe", "stale"),
    ("/kv/k?stale=true&max_stale=forever", "max_stale"),
    ("/kv/k?stale=true&max_stale=-1s", "max_stale"),
    ("/kv/k?stale=true&stale=true", "stale"),
    ("/watch", "prefix"),
    ("/watch?prefix=&from_revision=x", "from_revision"),
    ("/kv", "key"),
    ("/kv/", "key"),
    ("/kv?key=%zz", "key"),
];

/// What is absurd and still has an answer.
const ANSWERED: &[(&str, u16)] = &[
    ("/kv?prefix=&limit=18446744073709551615", 200),
    ("/kv?prefix=%ff%ff%ff&start=%00&end=%00", 200),
    ("/kv/k?stale=true&max_stale=1000000h", 404),
    ("/kv/%00", 404),
    ("/kv/../../etc/passwd", 404),
    ("/kv/%2e%2e%2f%2e%2e%2fetc%2fpasswd", 404),
    ("/kv/a%2fb", 404),
    ("/kv/%c3%28", 404),
    ("/kv//", 404),
    ("/../kv/k", 404),
    ("/%00", 404),
    ("/livez/../status", 404),
];

async fn get(node: &Node, target: &str) -> (u16, String) {
    let request = format!("GET {target} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    let said = exchange(&node.http_addr(), request.as_bytes()).await.expect("an answer");
    let said = String::from_utf8_lossy(&said).into_owned();
    let status = said.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("{target}: {said:?}")), said)
}

#[tokio::test]
async fn absurd_limits_cursors_and_keys_are_refused_by_name_or_answered() {
    let node = started(&[]).await;
    let bystander = Bystander::of(&node);
    bystander.is_served(5).await;
    let before = node.resident_bytes();
    for (target, name) in REFUSED {
        let (status, said) = get(&node, target).await;
        assert!(status == 400 && said.contains(name), "{target}: {said}");
    }
    for (target, expected) in ANSWERED {
        let (status, said) = get(&node, target).await;
        assert_eq!(status, *expected, "{target}: {said}");
    }
    let long = [
        format!("/kv?cursor={}", "A".repeat(60_000)),
        format!("/kv/{}", "k".repeat(4_097)),
        format!("/kv?prefix={}", "p".repeat(60_000)),
        format!("/kv/{}", "%ff".repeat(4_097)),
    ];
    for target in &long {
        for _ in 0..50 {
            let (status, said) = get(&node, target).await;
            assert!((400..500).contains(&status), "{}…: {said}", &target[..20]);
        }
    }
    let grown = peak(&node).saturating_sub(before);
    assert!(grown < 32 * MIB, "they took {} MiB", grown / MIB);
    bystander.ends_unharmed().await;
}
