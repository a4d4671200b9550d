//! Real input: the words of a large text, the text itself, and the files of this repository go in and come back byte
//! for byte: through REST, through the shell, after a restart, and from a node that joined by snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use conuredb::types::Condition;
use tokio::task::JoinSet;

use crate::cluster::{CALM, Cluster, Stored, client};
use crate::harness::{Node, conuresh, run, until};

/// A word list as many systems have one.
const WORD_LIST: &str = "/usr/share/dict/words";

/// Lines of the list that is made where there is none.
const LINES: usize = 100_000;

/// Lines that become keys; all of them are in the text that becomes one value.
const WORDS: usize = 20_000;

/// Clients that load at the same time.
const LOADERS: usize = 64;

/// Checkpoints and purges after little, so that a newcomer needs a snapshot. The nodes still hold 1,000 entries.
const EAGER: &[&str] = &["--set=raft.checkpoint_log_bytes=1MiB", "--set=raft.keep_log_entries=0"];

/// The system's word list, or one of the same size: numbers spelled by syllables, in an order far from sorted.
fn text() -> Vec<u8> {
    if let Ok(text) = fs::read(WORD_LIST)
        && text.len() < 8 * 1024 * 1024
    {
        return text;
    }
    const SYLLABLES: [&str; 16] = [
        "ka", "lo", "mi", "nu", "re", "sa", "to", "vi", "ze", "bra", "cho", "dry", "flé", "gnu",
        "ño", "s's",
    ];
    let mut text = String::new();
    for number in 0..LINES {
        // Coprime to the count of lines: each number comes once.
        let mut rest = number * 7_919 % LINES + LINES;
        while rest > 0 {
            text += SYLLABLES[rest % SYLLABLES.len()];
            rest /= SYLLABLES.len();
        }
        writeln!(text).expect("text grows");
    }
    text.into_bytes()
}

/// The files of this repository: paths below its root, and their bytes.
fn repository() -> BTreeMap<Vec<u8>, Vec<u8>> {
    fn walk(directory: &Path, root: &Path, files: &mut BTreeMap<Vec<u8>, Vec<u8>>) {
        for entry in fs::read_dir(directory).expect("a readable directory") {
            let entry = entry.expect("an entry");
            let (path, kind) = (entry.path(), entry.file_type().expect("its kind"));
            if kind.is_dir() && entry.file_name() != "target" && entry.file_name() != ".git" {
                walk(&path, root, files);
            } else if kind.is_file() {
                let name = path.strip_prefix(root).expect("below the root");
                let key = [b"repo/", name.as_os_str().as_encoded_bytes()].concat();
                files.insert(key, fs::read(&path).expect("a readable file"));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = BTreeMap::new();
    walk(root, root, &mut files);
    assert!(files.len() > 100, "only {} files", files.len());
    files
}

/// Everything that goes in.
fn input() -> BTreeMap<Vec<u8>, Vec<u8>> {
    let text = text();
    let words: BTreeSet<&[u8]> =
        text.split(|&byte| byte == b'\n').filter(|word| !word.is_empty()).take(WORDS).collect();
    assert!(words.len() > WORDS / 2, "only {} words", words.len());
    let mut input: BTreeMap<Vec<u8>, Vec<u8>> =
        words.iter().map(|word| ([b"word/", *word].concat(), word.to_vec())).collect();
    input.extend(repository());
    input.insert(b"text".to_vec(), text);
    input
}

/// Puts everything, by many clients at once that begin at different nodes.
async fn load(cluster: &Cluster, input: &Arc<BTreeMap<Vec<u8>, Vec<u8>>>) {
    let mut loaders = JoinSet::new();
    for number in 0..LOADERS {
        let (client, input) = (cluster.client(number), input.clone());
        loaders.spawn(async move {
            for (key, value) in input.iter().skip(number).step_by(LOADERS) {
                client.put(key, value.clone(), Condition::None).await.expect("a write");
            }
        });
    }
    loaders.join_all().await;
}

/// Reads everything back from one node.
async fn is_all_there(node: &Node, input: &BTreeMap<Vec<u8>, Vec<u8>>) {
    let mut records = node.records("word%2F").await;
    records.extend(node.records("repo%2F").await);
    // The text alone is as long as all the rest: as bytes, and not inside JSON.
    let text = node.get("/kv/text").await;
    assert_eq!(text.status, 200, "{}", text.text());
    records.insert(b"text".to_vec(), Stored { value: text.body, version: 1 });
    assert_eq!(records.len(), input.len(), "{} has not all keys", node.name);
    for (key, value) in input {
        let key_text = String::from_utf8_lossy(key);
        assert!(records[key].value == *value, "{}: {key_text} came back changed", node.name);
        assert_eq!(records[key].version, 1, "{}: {key_text}", node.name);
    }
}

#[tokio::test]
async fn a_text_and_this_repository_come_back_byte_for_byte() {
    let input = Arc::new(input());
    let mut cluster = Cluster::start(3, EAGER).await;
    load(&cluster, &input).await;
    for node in &cluster.nodes {
        is_all_there(node, &input).await;
    }

    // A fourth, which no log reaches back for any more.
    let seeds = format!("--seeds={}", cluster.nodes[1].url());
    until("the leader cuts its log", async || {
        (cluster.nodes[0].first_log_index().await > Some(0)).then_some(()) // the newcomer has nothing
    })
    .await;
    let newcomer = Node::start("node4", &[CALM, EAGER, &[&seeds[..]]].concat()).await;
    newcomer.wait_for_voters(4).await;
    newcomer.wait_until_ready().await;
    is_all_there(&newcomer, &input).await;
    cluster.nodes.push(newcomer);

    // Half of them end in order, half are killed.
    for (number, node) in cluster.nodes.iter_mut().enumerate() {
        match number % 2 {
            0 => assert_eq!(node.terminate().await.code(), Some(0)),
            _ => node.kill(),
        }
    }
    for node in &mut cluster.nodes {
        node.restart().await;
    }
    cluster.wait_until_ready().await;
    for node in &cluster.nodes {
        is_all_there(node, &input).await;
    }
}

#[tokio::test]
async fn the_shell_puts_and_gets_the_files_of_this_repository() {
    let node = Node::start("node1", CALM).await;
    node.wait_until_ready().await;
    let files = repository();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let home = tempfile::tempdir().expect("a directory");

    // All of them by one shell that reads commands, as a script would have it.
    let script = home.path().join("commands");
    let mut commands = String::new();
    for key in files.keys() {
        let key = String::from_utf8(key.clone()).expect("paths here are UTF-8");
        let path = root.join(key.strip_prefix("repo/").expect("their prefix"));
        writeln!(commands, "put {key} --file {}", path.display()).expect("text grows");
    }
    fs::write(&script, commands).expect("a script");
    let mut puts = conuresh(&node, &["--exit-on-error"]);
    puts.stdin(fs::File::open(&script).expect("the script"));
    let done = run(puts).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let records = node.records("repo%2F").await;
    assert_eq!(records.len(), files.len());
    for (key, bytes) in &files {
        assert!(records[key].value == *bytes, "{}", String::from_utf8_lossy(key));
    }

    // Some come back through it, and one that is no text.
    for key in files.keys().step_by(files.len() / 8) {
        let got = run(conuresh(&node, &["get", std::str::from_utf8(key).expect("UTF-8")])).await;
        assert!(got.status.success() && got.stdout == files[key]);
    }
    let binary: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
    let (there, back) = (home.path().join("there"), home.path().join("back"));
    fs::write(&there, &binary).expect("a file");
    let (there, back) = (there.display().to_string(), back.display().to_string());
    assert!(run(conuresh(&node, &["put", "binary", "--file", &there])).await.status.success());
    assert!(run(conuresh(&node, &["get", "binary", "--out", &back])).await.status.success());
    assert!(fs::read(&back).expect("the file") == binary);
    assert_eq!(run(conuresh(&node, &["get", "no-such-key"])).await.status.code(), Some(4));
    let members = run(conuresh(&node, &["members"])).await;
    assert!(String::from_utf8_lossy(&members.stdout).contains(&node.raft_addr()));
}

#[tokio::test]
async fn a_node_that_missed_more_than_the_log_keeps_catches_up_by_snapshot() {
    let mut cluster = Cluster::start(3, EAGER).await;
    let behind = cluster.follower().await;
    cluster.nodes[behind].kill();
    let urls =
        cluster.nodes.iter().filter(|node| node.is_running()).map(|node| node.url()).collect();
    let client = client(urls);
    let last = cluster.nodes[behind].log().len();
    // Several checkpoints' worth, in values of a size that leaves pages of every kind.
    for number in 0..600u32 {
        let value = vec![number as u8; 10_000 + number as usize];
        client.put(&number.to_be_bytes(), value, Condition::None).await.expect("a write");
    }
    until("a checkpoint and the log cut behind it", async || {
        let leader = &cluster.nodes[cluster.leader().await];
        let stats = leader.get("/raft/stats").await.json();
        (stats["last_snapshot_index"].as_u64()? > 300).then_some(())
    })
    .await;
    cluster.nodes[behind].restart().await;
    cluster.nodes[behind].wait_until_ready().await;
    let records = cluster.nodes[behind].records("").await;
    assert_eq!(records.len(), 600, "{}", &cluster.nodes[behind].log()[last..]);
    for number in 0..600u32 {
        let stored = &records[&number.to_be_bytes()[..]];
        assert!(stored.value == vec![number as u8; 10_000 + number as usize], "{number}");
    }
}
