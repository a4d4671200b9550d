//! Whom to ask: the servers a client was given, and those its cluster tells of.
//!
//! The given ones stay for good: they are what a person wrote. The learned ones follow the membership, so
//! that a client that runs for months outlives every server it began with. One server is current; it
//! stays current until it fails.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::error::ClientError;
use crate::config::HttpAddr;

/// Most servers that are kept of those the cluster tells of. Clusters are of 3 to 9 nodes; a reply
/// that lists thousands is not to grow this client.
const MAX_LEARNED: usize = 32;

/// How often the members are asked for while all is well.
const LEARN_EVERY: Duration = Duration::from_secs(30);

pub struct Servers {
    given: Vec<String>,
    state: Mutex<State>,
}

struct State {
    learned: Vec<String>,
    current: String,
    /// When to ask for the members again; `None` means now.
    learn_at: Option<Instant>,
}

impl Servers {
    pub fn new(servers: &[String]) -> Result<Servers, ClientError> {
        let mut given: Vec<String> = Vec::new();
        for server in servers.iter().map(|server| base_url(server)) {
            let server = server?;
            if !given.contains(&server) {
                given.push(server);
            }
        }
        let current = given.first().cloned().ok_or(ClientError::NoServers)?;
        let state = State { learned: Vec::new(), current, learn_at: None };
        Ok(Servers { given, state: Mutex::new(state) })
    }

    pub fn all(&self) -> Vec<String> {
        let state = self.lock();
        let learned = state.learned.iter().filter(|server| !self.given.contains(server));
        self.given.iter().chain(learned).cloned().collect()
    }

    pub fn current(&self) -> String {
        self.lock().current.clone()
    }

    /// `server` answered: the next request goes there too.
    pub fn keep(&self, server: &str) {
        let mut state = self.lock();
        if state.current != server {
            state.current = server.to_owned();
            state.learn_at = None;
        }
    }

    /// The server to try after `server`, round and round.
    pub fn after(&self, server: &str) -> String {
        let all = self.all();
        let next = all.iter().position(|known| known == server).map_or(0, |at| at + 1);
        all[next % all.len()].clone()
    }

    /// Whether it is time to ask for the members; if so, the next time is set.
    pub fn should_learn(&self) -> bool {
        let now = Instant::now();
        let mut state = self.lock();
        let due = state.learn_at.is_none_or(|at| at <= now);
        if due {
            state.learn_at = Some(now + LEARN_EVERY);
        }
        due
    }

    /// The cluster's members are at `urls`; they replace those learned before.
    pub fn learn<'a>(&self, urls: impl Iterator<Item = &'a str>) {
        let learned = urls.filter_map(|url| base_url(url).ok()).take(MAX_LEARNED).collect();
        self.lock().learned = learned;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `http://host:port`, from that or from `host:port`.
pub fn base_url(text: &str) -> Result<String, ClientError> {
    let bad = |why: String| ClientError::BadServer { server: text.to_owned(), why };
    let addr: HttpAddr = text.trim().parse().map_err(|why| bad(format!("{why}")))?;
    match addr.0.is_wildcard() {
        true => Err(bad("it stands for every interface, to which nobody can connect".to_owned())),
        false => Ok(addr.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(given: &[&str]) -> Servers {
        let given: Vec<String> = given.iter().map(|server| server.to_string()).collect();
        Servers::new(&given).unwrap()
    }

    #[test]
    fn given_servers_stay_and_learned_ones_follow_the_members() {
        let servers = servers(&["a:1", "http://a:1/", "b:1"]);
        assert_eq!(servers.all(), ["http://a:1", "http://b:1"]);
        servers.learn(["http://b:1", "http://c:1", "", "0.0.0.0:1"].into_iter());
        assert_eq!(servers.all(), ["http://a:1", "http://b:1", "http://c:1"]);
        servers.learn(["http://d:1"].into_iter());
        assert_eq!(servers.all(), ["http://a:1", "http://b:1", "http://d:1"]);
    }

    #[test]
    fn a_member_list_of_any_length_is_kept_to_a_bound() {
        let servers = servers(&["a:1"]);
        let many: Vec<String> = (1..1000).map(|port| format!("b:{port}")).collect();
        servers.learn(many.iter().map(String::as_str));
        assert_eq!(servers.all().len(), 1 + MAX_LEARNED);
    }

    #[test]
    fn the_next_server_comes_round_and_a_forgotten_one_leads_to_the_first() {
        let servers = servers(&["a:1", "b:1"]);
        assert_eq!(servers.after("http://a:1"), "http://b:1");
        assert_eq!(servers.after("http://b:1"), "http://a:1");
        assert_eq!(servers.after("http://gone:1"), "http://a:1");
    }

    #[tokio::test(start_paused = true)]
    async fn members_are_asked_for_at_first_after_a_change_of_server_and_now_and_then() {
        let servers = servers(&["a:1", "b:1"]);
        assert!(servers.should_learn());
        assert!(!servers.should_learn());
        servers.keep("http://a:1");
        assert!(!servers.should_learn());
        servers.keep("http://b:1");
        assert!(servers.should_learn());
        tokio::time::advance(LEARN_EVERY).await;
        assert!(servers.should_learn());
    }

    #[test]
    fn what_is_no_server_is_refused() {
        for server in ["", "node1", "https://a:1", "http://a:1/kv", "0.0.0.0:8081"] {
            assert!(Servers::new(&[server.to_owned()]).is_err(), "{server}");
        }
        assert!(matches!(Servers::new(&[]), Err(ClientError::NoServers)));
    }
}
