//! A node's disk as it was some time ago. The node has forgotten what it acknowledged: counted as a voter, it could
//! help to lose it. Its leader knows better, and the node has to stop taking part, say why, and what to do.

use std::time::Instant;

use conuredb::client::Stats;
use conuredb::processes::{LOOK_EVERY, PATIENCE, until};

use crate::Failure;
use crate::disks::copy;
use crate::faults::Faults;

/// What the node says of itself then.
const REFUSAL: &str = "older than what this node has acknowledged";

/// Operations between the copy and its return, so that the log has moved on.
const MEANWHILE_OPS: u64 = 200;

pub async fn inject(faults: &mut Faults<'_>) -> Result<String, Failure> {
    let victim = faults.follower().await?;
    let name = faults.fleet.name(victim).to_owned();
    let data = faults.fleet.nodes[victim].data_dir().to_owned();
    let copy_of = faults.fleet.nodes[victim].home().join("old-backup");
    faults.fleet.nodes[victim].terminate().await?;
    copy(&data, &copy_of)?;
    faults.fleet.start(victim).await?;
    faults.fleet.become_well().await?;
    let term = term(faults).await?;
    let copied = stats(faults, victim).await?.last_log_index;
    let goal = faults.load.operations() + MEANWHILE_OPS;
    let deadline = Instant::now() + PATIENCE;
    while faults.load.operations() < goal && Instant::now() < deadline {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    faults.fleet.become_well().await?;
    // A node that is ready may be a little behind: only what its leader heard from it is what it has acknowledged.
    until(&format!("{name} to acknowledge more than entry {copied}"), PATIENCE, async || {
        let leader = faults.fleet.leader().await.ok()?;
        let peers = stats(faults, leader).await.ok()?.peers;
        // It may lead by now, and then nobody hears from it.
        (leader == victim || peers.get(&name)?.match_index? > copied).then_some(())
    })
    .await?;
    faults.fleet.nodes[victim].kill()?;
    faults.fleet.nodes[victim].wipe()?;
    if std::fs::rename(&copy_of, &data).is_err() {
        // To another file system; the next copy must not find the files of this one.
        copy(&copy_of, &data)?;
        std::fs::remove_dir_all(&copy_of)?;
    }
    let before = faults.fleet.nodes[victim].log_lines(REFUSAL).len();
    faults.fleet.start(victim).await?;
    let deadline = Instant::now() + PATIENCE;
    while faults.fleet.nodes[victim].log_lines(REFUSAL).len() == before {
        // Only the leader that was told knows; another one begins anew.
        if self::term(faults).await? != term {
            faults.fleet.nodes[victim].kill()?;
            faults.replace_disk(victim).await?;
            return Ok(format!("{name}, under another leader"));
        }
        if Instant::now() > deadline {
            faults
                .findings
                .violation(format_args!("{name} takes part with an old copy of its disk"));
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    // It knows after a restart, too.
    faults.fleet.nodes[victim].kill()?;
    faults.fleet.start(victim).await?;
    let reply = faults.fleet.http.get(format!("{}/readyz", faults.fleet.nodes[victim].url())).await;
    if reply.is_ok_and(|reply| reply.status == 200) {
        faults.findings.violation(format_args!("{name} has forgotten that it went back in time"));
    }
    faults.fleet.nodes[victim].kill()?;
    faults.replace_disk(victim).await?;
    Ok(name)
}

/// What a node counts. Its log may have grown since it was copied, which does no harm here.
async fn stats(faults: &Faults<'_>, node: usize) -> Result<Stats, Failure> {
    let url = format!("{}/raft/stats", faults.fleet.nodes[node].url());
    let what = format!("{} to tell how far its log is", faults.fleet.name(node));
    Ok(until(&what, PATIENCE, async || faults.fleet.http.document(url.clone()).await).await?)
}

/// The term that the leader leads in.
async fn term(faults: &Faults<'_>) -> Result<u64, Failure> {
    let leader = faults.fleet.leader().await?;
    let status = faults.fleet.status(leader).await.ok_or("the leader does not answer")?;
    Ok(status.term)
}
