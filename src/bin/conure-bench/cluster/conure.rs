//! A ConureDB cluster: `conure-db` processes found beside this executable, or nodes that run already.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::args::System;
use super::error::{ClientError, ClusterError};
use super::http::HttpClient;
use super::process::{Process, free_ports, wait_ready};

/// What runs, and where it answers: the leader first.
pub struct Nodes {
    pub processes: Vec<Process>,
    pub addresses: Vec<String>,
}

/// Starts a cluster of `count` nodes with their default settings.
pub async fn start(count: usize, dir: &Path) -> Result<Nodes, ClusterError> {
    let program = program()?;
    let ports = free_ports(2 * count)?;
    let (raft_ports, http_ports) = ports.split_at(count);
    let mut processes = Vec::new();
    for (index, (raft, http)) in raft_ports.iter().zip(http_ports).enumerate() {
        let seed = format!("127.0.0.1:{}", http_ports[0]);
        let seed = (index > 0).then_some(&*seed);
        let name = format!("node{}", index + 1);
        processes.push(start_node(&program, name, dir, (*raft, *http), seed)?);
    }
    let addresses: Vec<String> =
        http_ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    wait_ready(System::Conure, &mut processes, async || all_ready(&addresses).await).await?;
    Ok(Nodes { addresses: leader_first(addresses).await?, processes })
}

/// Starts another node, which joins those at `seed`; says where it answers.
pub fn start_another(
    name: &str,
    dir: &Path,
    seed: &str,
) -> Result<(Process, String), ClusterError> {
    let ports = free_ports(2)?;
    let node = start_node(&program()?, name.into(), dir, (ports[0], ports[1]), Some(seed))?;
    Ok((node, format!("127.0.0.1:{}", ports[1])))
}

fn start_node(
    program: &Path,
    name: String,
    dir: &Path,
    (raft, http): (u16, u16),
    seed: Option<&str>,
) -> Result<Process, ClusterError> {
    let mut arguments: Vec<String> = [
        ("node-id", name.clone()),
        ("data-dir", dir.join(&name).display().to_string()),
        ("raft-addr", format!("127.0.0.1:{raft}")),
        ("http-addr", format!("127.0.0.1:{http}")),
        ("log-level", "warn".to_owned()),
    ]
    .map(|(flag, value)| format!("--{flag}={value}"))
    .into();
    arguments.extend(seed.map(|seed| format!("--seeds=http://{seed}")));
    Process::start(program, name, dir, &arguments)
}

/// Takes nodes that run already.
pub async fn attach(urls: &[String]) -> Result<Nodes, ClusterError> {
    let address = |url: &String| {
        let rest = url.strip_prefix("http://").unwrap_or(url);
        rest.trim_end_matches('/').to_owned()
    };
    let addresses = urls.iter().map(address).collect();
    Ok(Nodes { addresses: leader_first(addresses).await?, processes: Vec::new() })
}

fn program() -> Result<PathBuf, ClusterError> {
    let own = std::env::current_exe().map_err(ClusterError::io("find this executable"))?;
    let program = own.with_file_name("conure-db");
    match program.is_file() {
        true => Ok(program),
        false => Err(ClusterError::NotInstalled {
            program: "conure-db beside conure-bench",
            remedy: "build both: `cargo build --release --bins`",
        }),
    }
}

pub async fn page(address: &str, target: &str) -> Result<Value, ClientError> {
    let mut client = HttpClient::connect(address).await?;
    let answer = client.page(target).await?;
    match serde_json::from_slice(&answer.body) {
        Ok(document) if answer.status == 200 => Ok(document),
        _ => Err(ClientError::Refused {
            address: address.to_owned(),
            status: answer.status,
            said: String::from_utf8_lossy(&answer.body).into_owned(),
        }),
    }
}

/// Every node knows every other as a voter, and is ready.
async fn all_ready(addresses: &[String]) -> Result<(), String> {
    for address in addresses {
        let config = page(address, "/raft/config").await.map_err(|error| error.to_string())?;
        let servers = config["servers"].as_array().map_or(&[][..], Vec::as_slice);
        let voters = servers.iter().filter(|server| server["suffrage"] == "voter").count();
        if voters < addresses.len() {
            return Err(format!("{address} knows of {voters} voters"));
        }
        let mut client = HttpClient::connect(address).await.map_err(|error| error.to_string())?;
        let ready = client.page("/readyz").await.map_err(|error| error.to_string())?;
        if ready.status != 200 {
            return Err(format!("{address}: {}", String::from_utf8_lossy(&ready.body)));
        }
    }
    Ok(())
}

/// The same nodes, the one that leads in front.
async fn leader_first(mut addresses: Vec<String>) -> Result<Vec<String>, ClusterError> {
    let mut why = "none of them leads".to_owned();
    for (index, address) in addresses.iter().enumerate() {
        match page(address, "/status").await {
            Ok(status) if status["is_leader"] == true => {
                addresses.swap(0, index);
                return Ok(addresses);
            }
            Ok(_) => {}
            Err(error) => why = error.to_string(),
        }
    }
    Err(ClusterError::NotReady {
        system: System::Conure,
        waited: std::time::Duration::ZERO,
        what: format!("no leader among {}: {why}", addresses.join(", ")),
        said: String::new(),
    })
}
