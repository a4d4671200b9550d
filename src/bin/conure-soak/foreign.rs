//! Two clusters that get into each other's way: a node of another one answers at a node's address, and each is told to
//! let the other's nodes join. Nothing may pass from one to the other.

use conuredb::processes::{NodeProcess, PATIENCE, until};
use reqwest::Method;
use serde_json::json;

use crate::Failure;
use crate::faults::Faults;

pub async fn inject(faults: &mut Faults<'_>) -> Result<String, Failure> {
    let victim = faults.any();
    let name = faults.fleet.name(victim).to_owned();
    // Under the same name, to have nothing but the cluster to be known by.
    let program = faults.fleet.nodes[victim].command().get_program().to_owned();
    let mut foreign = NodeProcess::new(program.as_ref(), &name, &[] as &[&str])?;
    foreign.start().await?;
    let key = format!("{}/kv/precious", foreign.url());
    until("the other cluster to serve", PATIENCE, async || {
        let put = faults.fleet.http.send(Method::PUT, key.clone(), &[], "data".into()).await;
        put.is_ok_and(|reply| reply.status == 200).then_some(())
    })
    .await?;

    // What is meant for our node reaches theirs, on connections old and new.
    let door = faults.fleet.nodes[victim].raft_addr();
    faults.network().route(victim, foreign.raft_addr());
    for other in faults.fleet.others(victim) {
        faults.network().reset(victim, other);
    }
    let other = faults.fleet.others(victim).last().ok_or("a cluster of one")?;
    let theirs = json!({ "ID": name, "RaftAddr": foreign.raft_addr() });
    let ours =
        json!({ "ID": faults.fleet.name(other), "RaftAddr": faults.fleet.peer_address(other) });
    // Whoever leads: if it is the victim, the others cannot pass the request on to it.
    refused(faults, faults.fleet.nodes.iter().map(NodeProcess::url).collect(), theirs).await?;
    refused(faults, vec![foreign.url()], ours).await?;
    faults.last(500..1_500).await;
    faults.network().route(victim, door);
    for other in faults.fleet.others(victim) {
        faults.network().reset(victim, other);
    }

    let held = faults.fleet.http.get(key).await.ok();
    let members =
        faults.fleet.http.document::<serde_json::Value>(format!("{}/raft/config", foreign.url()));
    let members =
        members.await.map_or(0, |members| members["servers"].as_array().map_or(0, Vec::len));
    let strange = format!("{}/kv?prefix=soak/&count_only=true", foreign.url());
    let strange = faults.fleet.http.document::<serde_json::Value>(strange).await;
    let count = strange.and_then(|page| page["count"].as_u64());
    if held.is_none_or(|reply| &reply.body[..] != b"data") || members != 1 || count != Some(0) {
        faults.findings.violation(format_args!(
            "the cluster that {name} was mistaken for changed: {members} members, {count:?} keys of ours"
        ));
    }
    Ok(name)
}

/// Asks one node after the other for a join that has to be refused, with a reason that whoever asks may mend.
async fn refused(
    faults: &Faults<'_>,
    nodes: Vec<String>,
    body: serde_json::Value,
) -> Result<(), Failure> {
    let what = format!("an answer to a join of {body}");
    let reply = until(&what, PATIENCE, async || {
        for node in &nodes {
            let reply = faults.fleet.http.post(format!("{node}/join"), body.clone()).await;
            // An election, a leader that cannot be reached, or one that does not know yet what it holds.
            if let Ok(reply) = reply
                && !matches!(reply.status, 503 | 504)
            {
                return Some(reply);
            }
        }
        None
    });
    let reply = reply.await?;
    if reply.status != 409 {
        faults.findings.violation(format_args!(
            "a join of {body}: {} {}",
            reply.status,
            reply.text()
        ));
    }
    Ok(())
}
