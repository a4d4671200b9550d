//! Keeps a lease alive, and knows until when it surely is.
//!
//! A keepalive goes out when a third of the time to live is over, and again and again until one is answered. By this
//! machine's clock the lease surely lasts for its time to live from when the last keepalive that was answered was
//! *sent*: the servers counted from later. Less a tenth of it, that is the deadline by which a holder is told: clocks
//! may run at other speeds, and whoever is told needs time to stop.
//!
//! What this cannot know: a server whose clock is set forward ends leases earlier, and a process that is
//! paused learns late that time has passed. Against these there are fencing tokens (docs/RECIPES.md).

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Client;
use super::error::ClientError;
use super::kv::DeletedRange;
use crate::types::LeaseId;

/// How many times a lease is kept alive within its time to live.
const KEEPALIVES: u32 = 3;

/// The part of the time to live before its end in which the lease counts as lost.
const MARGIN: u32 = 10;

/// The part of the time to live that one attempt of a keepalive may take: then another server is asked.
const ATTEMPT: u32 = 6;

/// The least that an attempt is given.
const SHORTEST_ATTEMPT: Duration = Duration::from_millis(250);

/// How long to wait after a keepalive that the servers refused.
const PAUSE: Duration = Duration::from_millis(100);

/// Why a lease is held no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseLost {
    #[error("the lease has ended: it was revoked, or not kept alive in time")]
    Ended,
    #[error("no server kept the lease alive in time: it may have ended")]
    Unconfirmed,
}

#[derive(Clone, Copy, Debug)]
enum Standing {
    Held { until: Instant },
    Lost(LeaseLost),
}

/// Holds a lease; see [`Client::keep_lease`]. Dropped, it lets the lease go: at once if the servers can be told, else
/// when its time is up.
pub struct LeaseKeeper {
    client: Client,
    id: LeaseId,
    ttl: Duration,
    standing: watch::Receiver<Standing>,
    task: AbortHandle,
    is_revoked: bool,
}

impl Client {
    /// Grants a lease and keeps it alive in the background.
    pub async fn keep_lease(&self, ttl: Duration) -> Result<LeaseKeeper, ClientError> {
        let sent = Instant::now();
        let id = self.lease_grant(ttl).await?;
        let until = sent + certain(ttl);
        let (standing, seen) = watch::channel(Standing::Held { until });
        let client = self.clone();
        let attempt = Some((ttl / ATTEMPT).max(SHORTEST_ATTEMPT));
        let keepalive = move || {
            let client = client.clone();
            async move { client.keep_alive_within(id, attempt).await }
        };
        let task = tokio::spawn(keep(keepalive, ttl, sent, standing)).abort_handle();
        let client = self.clone();
        Ok(LeaseKeeper { client, id, ttl, standing: seen, task, is_revoked: false })
    }
}

impl LeaseKeeper {
    pub fn id(&self) -> LeaseId {
        self.id
    }

    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Until when the lease surely lasts, by this machine's clock, unless it was revoked; it may already be over.
    pub fn held_until(&self) -> Option<Instant> {
        match *self.standing.borrow() {
            Standing::Held { until } => Some(until),
            Standing::Lost(_) => None,
        }
    }

    /// Whether the lease surely lasts at this moment.
    pub fn is_held(&self) -> bool {
        self.held_until().is_some_and(|until| Instant::now() < until)
    }

    /// Waits until the lease is, or may be, lost: a tenth of its time to live before its deadline at the latest.
    pub async fn lost(&self) -> LeaseLost {
        let mut standing = self.standing.clone();
        loop {
            let until = match *standing.borrow_and_update() {
                Standing::Lost(why) => return why,
                Standing::Held { until } => until,
            };
            // The task says so too; a busy runtime may come to this one first.
            match timeout_at(until, standing.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return LeaseLost::Unconfirmed,
            }
        }
    }

    /// Ends the lease and deletes its keys; says how many.
    pub async fn revoke(mut self) -> Result<DeletedRange, ClientError> {
        self.task.abort();
        let revoked = self.client.lease_revoke(self.id).await;
        self.is_revoked = revoked.is_ok();
        revoked
    }
}

impl Drop for LeaseKeeper {
    fn drop(&mut self) {
        self.task.abort();
        let has_ended = matches!(*self.standing.borrow(), Standing::Lost(LeaseLost::Ended));
        if self.is_revoked || has_ended {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            let (client, id) = (self.client.clone(), self.id);
            // Nobody is left to hear how it went; the lease ends by itself in any case.
            runtime.spawn(async move { drop(client.lease_revoke(id).await) });
        }
    }
}

/// For how long after a keepalive was sent the lease surely lasts.
fn certain(ttl: Duration) -> Duration {
    ttl - ttl / MARGIN
}

/// Keeps a lease alive that was last confirmed by what was sent at `confirmed`.
async fn keep<F: Future<Output = Result<(), ClientError>>>(
    keepalive: impl Fn() -> F,
    ttl: Duration,
    mut confirmed: Instant,
    standing: watch::Sender<Standing>,
) {
    loop {
        let until = confirmed + certain(ttl);
        sleep_until(confirmed + ttl / KEEPALIVES).await;
        let kept = loop {
            let sent = Instant::now();
            match timeout_at(until, keepalive()).await {
                Ok(Ok(())) => break Ok(sent),
                Ok(Err(error)) if error.is_code("lease_not_found") => break Err(LeaseLost::Ended),
                Ok(Err(_)) if sent + PAUSE < until => sleep_until(sent + PAUSE).await,
                Ok(Err(_)) | Err(_) => {
                    sleep_until(until).await;
                    break Err(LeaseLost::Unconfirmed);
                }
            }
        };
        match kept {
            Ok(sent) => {
                confirmed = sent;
                standing.send_replace(Standing::Held { until: sent + certain(ttl) });
            }
            Err(why) => {
                standing.send_replace(Standing::Lost(why));
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::pending;

    use tokio::time::{advance, sleep};

    use super::super::error::{Applied, Problem};
    use super::*;

    const TTL: Duration = Duration::from_secs(30);

    fn refusal(code: &str) -> ClientError {
        let problem = Box::new(Problem { code: code.to_owned(), ..Problem::default() });
        ClientError::Refused { problem, applied: Applied::No }
    }

    /// Keeps a lease by answers, each after a time, and then by silence. Says how it ended, after how long, and when
    /// keepalives were sent.
    async fn kept_by(
        answers: Vec<(Duration, Result<(), ClientError>)>,
    ) -> (LeaseLost, Duration, Vec<Duration>) {
        let began = Instant::now();
        let (answers, sent) = (RefCell::new(answers.into_iter()), RefCell::new(Vec::new()));
        let (standing, seen) = watch::channel(Standing::Held { until: began + certain(TTL) });
        let keepalive = || {
            sent.borrow_mut().push(began.elapsed());
            let answer = answers.borrow_mut().next();
            async move {
                match answer {
                    None => pending().await,
                    Some((after, answer)) => {
                        sleep(after).await;
                        answer
                    }
                }
            }
        };
        keep(keepalive, TTL, began, standing).await;
        let Standing::Lost(why) = *seen.borrow() else { panic!("it ends when the lease is lost") };
        (why, began.elapsed(), sent.into_inner())
    }

    const NONE: Duration = Duration::ZERO;
    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn three_times_in_its_time_it_is_kept_and_then_lost_before_it_ends() {
        let (why, after, sent) = kept_by(vec![(NONE, Ok(())), (NONE, Ok(()))]).await;
        assert_eq!(why, LeaseLost::Unconfirmed);
        assert_eq!(sent, [10, 20, 30].map(Duration::from_secs));
        // Last confirmed after 20 s, a tenth of 30 s before it may end.
        assert_eq!(after, Duration::from_secs(20 + 27));
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_counts_from_when_it_was_asked_for() {
        let (_, after, _) = kept_by(vec![(9 * SECOND, Ok(()))]).await;
        assert_eq!(after, Duration::from_secs(10 + 27));
        let (_, after, sent) = kept_by(vec![(18 * SECOND, Ok(()))]).await;
        assert_eq!(after, Duration::from_secs(27), "and comes in vain when it is too late");
        assert_eq!(sent.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_tried_again_and_an_ended_lease_is_not() {
        let refused = |count| (0..count).map(|_| (NONE, Err(refusal("no_leader"))));
        let answers = refused(50).chain([(NONE, Ok(()))]).collect();
        let (_, after, _) = kept_by(answers).await;
        assert_eq!(after, Duration::from_secs(10 + 5 + 27));
        let (why, after, _) = kept_by(refused(10_000).collect()).await;
        assert_eq!((why, after), (LeaseLost::Unconfirmed, Duration::from_secs(27)));
        let (why, after, _) = kept_by(vec![(NONE, Err(refusal("lease_not_found")))]).await;
        assert_eq!((why, after), (LeaseLost::Ended, Duration::from_secs(10)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_is_told_in_time_though_the_task_is_not() {
        let until = Instant::now() + SECOND;
        let (sender, standing) = watch::channel(Standing::Held { until });
        let options = super::super::ClientOptions::new(1);
        let client = Client::new(vec!["127.0.0.1:1".to_owned()], options).expect("an address");
        let id = LeaseId::new(1).expect("not 0");
        let task = tokio::spawn(pending::<()>()).abort_handle();
        let keeper = LeaseKeeper { client, id, ttl: TTL, standing, task, is_revoked: true };
        assert!(keeper.is_held());
        advance(SECOND).await;
        assert!(!keeper.is_held(), "the clock alone says so");
        assert_eq!(keeper.lost().await, LeaseLost::Unconfirmed);
        sender.send_replace(Standing::Lost(LeaseLost::Ended));
        assert_eq!((keeper.lost().await, keeper.held_until()), (LeaseLost::Ended, None));
    }
}
