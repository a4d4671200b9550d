//! Locks and elections, through real processes: one holder at a time, whoever is killed, and tokens that grow.

use std::fs::{self, File};
use std::io::Write;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use conuredb::client::{Client, Lock, ReadOptions, RecipeError, Scan};
use conuredb::types::{Condition, Key, LeaseId, Lifetime, Revision, Txn, TxnOp};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::cluster::Cluster;
use crate::harness::{Node, PATIENCE, conuresh, run, until};

/// Longer than any standstill of a busy machine: nobody is to lose what he holds.
const LONG: Duration = Duration::from_secs(300);

/// The shell with a program under it, whose standard input stays open until this is dropped.
struct Shell {
    process: Child,
    out: TempDir,
}

impl Shell {
    fn start(node: &Node, arguments: &[&str]) -> Shell {
        let out = tempfile::tempdir().expect("a temporary directory");
        let file = |name| File::create(out.path().join(name)).expect("a file");
        let mut command = conuresh(node, arguments);
        command.stdin(Stdio::piped()).stdout(file("out")).stderr(file("err"));
        // Programs are found by it.
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        Shell { process: command.spawn().expect("the binary runs"), out }
    }

    fn said(&self, name: &str) -> String {
        fs::read_to_string(self.out.path().join(name)).expect("a file")
    }

    async fn says(&self, what: &str) -> String {
        until(&format!("the shell to say {what:?}"), async || {
            let said = self.said("out");
            said.contains(what).then_some(said)
        })
        .await
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).expect("a process of our own");
    }

    async fn ended(&mut self) -> ExitStatus {
        let process = &mut self.process;
        until("the shell to end", async || process.try_wait().expect("a child of ours")).await
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits until so many stand in the queue of a lock or an election; their keys, by place.
async fn queue(client: &Client, prefix: &str, count: usize) -> Vec<String> {
    until(&format!("{count} in {prefix}"), async || {
        let scan = Scan { prefix: prefix.to_owned().into(), ..Scan::default() };
        let mut items = client.scan(&scan).await.ok()?.items;
        items.sort_by_key(|item| item.create_revision);
        let keys = items.iter().map(|item| String::from_utf8_lossy(&item.key).into_owned());
        (items.len() == count).then(|| keys.collect())
    })
    .await
}

fn lease_of(key: &str) -> LeaseId {
    key.rsplit('/').next().expect("a name").parse().expect("a lease")
}

/// Takes the lock, and adds one to a counter by reading and writing it: lost if two do so at once. Says whether it was
/// written.
async fn count_up(client: &Client, tokens: &Mutex<Vec<Revision>>) -> Result<bool, RecipeError> {
    let lock: Lock = client.lock(b"counter", LONG).await?;
    tokens.lock().expect("no panic while it is held").push(lock.fencing_token());
    let value = client.get(b"count", ReadOptions::default()).await?.expect("it was put").bytes;
    let count: u64 = String::from_utf8_lossy(&value).parse().expect("a number");
    let (key, value) = (Key::new("count")?, (count + 1).to_string().into());
    let put = TxnOp::Put { key, value, lifetime: Lifetime::Unbounded };
    let txn = Txn::new(vec![lock.guard()], vec![put], vec![]).expect("it writes one key");
    let done = client.txn(&txn).await?;
    lock.release().await?;
    Ok(done.succeeded)
}

#[tokio::test]
async fn a_lock_is_exclusive_and_its_tokens_grow_over_kills_of_the_leader() {
    const HOLDERS: usize = 5;
    const TIMES: usize = 6;
    let mut cluster = Cluster::start(3, &[]).await;
    let client = cluster.client(0);
    client.put(b"count", "0", Condition::None).await.expect("a write");
    let tokens = Arc::new(Mutex::new(Vec::new()));
    let mut holders = tokio::task::JoinSet::new();
    for holder in 0..HOLDERS {
        let (client, tokens) = (cluster.client(holder % 3), tokens.clone());
        holders.spawn(async move {
            let mut written = 0;
            for _ in 0..TIMES {
                match count_up(&client, &tokens).await {
                    Ok(done) => written += u64::from(done),
                    // A machine that stood still for so long lost it, and knows.
                    Err(RecipeError::Lost(why)) => eprintln!("holder {holder}: {why}"),
                    Err(error) => panic!("holder {holder}: {error}"),
                }
            }
            written
        });
    }
    for taken in [HOLDERS, 3 * HOLDERS] {
        until("the lock to go round", async || {
            let count = tokens.lock().expect("no panic while it is held").len();
            (count >= taken || count == HOLDERS * TIMES).then_some(())
        })
        .await;
        let leader = cluster.leader().await;
        cluster.nodes[leader].kill();
        cluster.nodes[leader].restart().await;
        cluster.nodes[leader].wait_until_ready().await;
    }
    let mut written = 0;
    while let Some(holder) = holders.join_next().await {
        written += holder.expect("no holder fails");
    }
    let value = client.get(b"count", ReadOptions::default()).await.expect("a read");
    let value = value.expect("it was put").bytes;
    assert_eq!(String::from_utf8_lossy(&value), written.to_string(), "every count is there");
    let tokens = tokens.lock().expect("nobody holds it").clone();
    assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
    assert!(written > 0 && tokens.len() >= written as usize);
}

#[tokio::test]
async fn the_lock_of_a_killed_holder_is_free_when_its_lease_is_over() {
    const TTL: Duration = Duration::from_secs(15);
    let cluster = Cluster::start(1, &[]).await;
    let (node, client) = (&cluster.nodes[0], cluster.client(0));
    let holder = Shell::start(node, &["lock", "--ttl", "15s", "job", "cat"]);
    let held = queue(&client, "lock/job/", 1).await.remove(0);
    let item = client.get_item(held.as_bytes(), ReadOptions::default()).await.expect("a read");
    let token = item.expect("it is held").create_revision;
    holder.signal(Signal::KILL);
    let killed = Instant::now();
    let next = client.lock(b"job", LONG).await.expect("it gets free");
    assert!(killed.elapsed() < TTL + PATIENCE);
    assert!(next.fencing_token() > token);
    assert_eq!(client.lease(lease_of(&held), None).await.expect("an answer"), None);
}

#[tokio::test]
async fn a_program_runs_under_a_lock_and_the_shell_ends_as_it_did() {
    let cluster = Cluster::start(1, &[]).await;
    let (node, client) = (&cluster.nodes[0], cluster.client(0));
    let script = "echo $CONURE_LOCK_KEY $CONURE_FENCING_TOKEN; exit 3";
    let mut command = conuresh(node, &["lock", "--ttl", "5m", "job", "/bin/sh", "-c", script]);
    command.env("PATH", "/bin:/usr/bin");
    let ran = run(command).await;
    assert_eq!(ran.status.code(), Some(3), "{ran:?}");
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    let (key, token) = said.trim_end().split_once(' ').expect("a key and a token");
    assert!(key.starts_with("lock/job/"), "{said}");
    assert!(ran.stderr.is_empty(), "{ran:?}");
    // It was released, and not left to its lease.
    queue(&client, "lock/job/", 0).await;
    let next = client.lock(b"job", LONG).await.expect("it is free");
    assert!(next.fencing_token() > token.parse().expect("a number"));

    // One that waits says nothing and can be told to go; the queue closes behind it.
    let mut waiting = Shell::start(node, &["lock", "--ttl", "5m", "job", "/bin/echo", "never"]);
    queue(&client, "lock/job/", 2).await;
    waiting.signal(Signal::TERM);
    assert!(!waiting.ended().await.success());
    queue(&client, "lock/job/", 1).await;
    assert_eq!(waiting.said("out"), "");
    next.release().await.expect("it was held");

    let mut piped = Shell::start(node, &[]);
    let mut input = piped.process.stdin.take().expect("a pipe");
    input.write_all(b"lock job /bin/echo never\n").expect("it reads");
    drop(input);
    assert_eq!(piped.ended().await.code(), Some(2), "a pipe ends by the signals that a lock takes");

    let missing = run(conuresh(node, &["lock", "job", "/no/such/program"])).await;
    assert_eq!(missing.status.code(), Some(127), "{missing:?}");
    queue(&client, "lock/job/", 0).await;
}

#[tokio::test]
async fn a_signal_reaches_the_program_and_a_lost_lock_stops_it() {
    let cluster = Cluster::start(1, &[]).await;
    let (node, client) = (&cluster.nodes[0], cluster.client(0));
    let mut told = Shell::start(node, &["lock", "--ttl", "5m", "job", "cat"]);
    let first = queue(&client, "lock/job/", 1).await.remove(0);
    told.signal(Signal::TERM);
    // Who was told before the program was there has left the queue; else it ended as the program did.
    let code = told.ended().await.code();
    assert!(matches!(code, Some(143 | 1)), "{code:?}: {}", told.said("err"));
    queue(&client, "lock/job/", 0).await;

    let mut lost = Shell::start(node, &["lock", "--ttl", "15s", "job", "cat"]);
    let second = queue(&client, "lock/job/", 1).await.remove(0);
    assert_ne!(first, second);
    client.lease_revoke(lease_of(&second)).await.expect("it is held");
    assert_eq!(lost.ended().await.code(), Some(7), "{}", lost.said("err"));
    assert!(lost.said("err").contains("lease has ended"), "{}", lost.said("err"));
}

#[tokio::test]
async fn elections_hand_over_and_observers_are_told() {
    let mut cluster = Cluster::start(3, &[]).await;
    let client = cluster.client(0);
    let mut observer = client.observe(b"boss");
    assert_eq!(observer.next().await.expect("an answer"), None);
    let first = client.campaign(b"boss", "first", LONG).await.expect("nobody else is there");
    let told = observer.next().await.expect("an answer").expect("a leader");
    assert_eq!((&told.value[..], told.fencing_token), (&b"first"[..], first.fencing_token()));
    assert_eq!(&told.key[..], first.key().as_bytes());
    // Another election, whose name begins alike.
    let other = client.campaign(b"boss/of", "other", LONG).await.expect("an election of its own");

    let node = &cluster.nodes[0];
    let mut second = Shell::start(node, &["elect", "boss", "second", "--ttl", "5m"]);
    queue(&client, "election/boss/", 3).await;
    let rival = cluster.client(1);
    let third = tokio::spawn(async move { rival.campaign(b"boss", "third", LONG).await });
    queue(&client, "election/boss/", 4).await;
    first.proclaim("first, still").await.expect("it leads");
    let told = observer.next().await.expect("an answer").expect("a leader");
    assert_eq!(&told.value[..], b"first, still");
    assert_eq!(second.said("out"), "", "it was not elected");

    first.resign().await.expect("it led");
    let said = second.says("\n").await;
    let told = observer.next().await.expect("an answer").expect("a leader");
    assert_eq!(&told.value[..], b"second");
    let expected =
        format!("elected\t{}\t{}\n", told.fencing_token, String::from_utf8_lossy(&told.key));
    assert_eq!(said, expected);

    // A leader of the cluster that dies changes nothing about who leads here.
    let leader = cluster.leader().await;
    if leader != 0 {
        cluster.nodes[leader].kill();
    }
    let mut observing = Shell::start(&cluster.nodes[0], &["elect", "--observe", "boss"]);
    observing.says("second\n").await;
    second.signal(Signal::INT);
    assert!(second.ended().await.success(), "{}", second.said("err"));
    let third = third.await.expect("no panic").expect("it is elected");
    assert!(third.fencing_token() > told.fencing_token);
    observing.says("third\n").await;
    assert_eq!(client.leader(b"boss").await.expect("an answer").expect("a leader").value, "third");
    drop(third);
    observing.says("nobody\n").await;
    observing.signal(Signal::TERM);
    observing.ended().await;
    other.resign().await.expect("it led all the time");
}
