//! A node's disk as it was some time ago. The node has forgotten what it acknowledged: counted as a voter, it could
//! help to lose it. Its leader knows better, and the node has to stop taking part, say why, and what to do.

use conuredb::processes::{LOOK_EVERY, PATIENCE};
use std::time::Instant;

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
    let goal = faults.load.operations() + MEANWHILE_OPS;
    let deadline = Instant::now() + PATIENCE;
    while faults.load.operations() < goal && Instant::now() < deadline {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    // It has acknowledged what was written meanwhile: it is ready, and then it dies.
    faults.fleet.become_well().await?;
    faults.fleet.nodes[victim].kill()?;
    faults.fleet.nodes[victim].wipe()?;
    std::fs::rename(&copy_of, &data).or_else(|_| copy(&copy_of, &data))?;
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

/// The term that the leader leads in.
async fn term(faults: &Faults<'_>) -> Result<u64, Failure> {
    let leader = faults.fleet.leader().await?;
    let status = faults.fleet.status(leader).await.ok_or("the leader does not answer")?;
    Ok(status.term)
}
