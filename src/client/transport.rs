//! One call: attempts at one server after the other until an answer settles it or time runs out.
//!
//! | An attempt ends in | then |
//! |---|---|
//! | 2xx, or any refusal not named below | settled |
//! | 307 | the same request at `Location`, at once, [`MAX_REDIRECTS`] times |
//! | no connection, 408, 429, 503 | not applied: the next server |
//! | 502, 504, a broken connection, an attempt's timeout | unknown: the next server if a repeat is safe |
//!
//! A round asks each server once without a pause; rounds are apart by a pause that doubles and is
//! drawn at random, so that clients which failed together do not return together. `Retry-After`
//! makes the pause longer.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::header::CONTENT_LENGTH;
use reqwest::{Method, RequestBuilder, Response};
use tokio::time::{Instant, timeout};

use super::call::{Call, Failure, MAX_PROBLEM_BYTES, Reply, Retry, read, refusal};
use super::error::{Applied, ClientError};
use super::{Client, Members};

const MAX_REDIRECTS: u32 = 5;

/// The pause after the first round, and the longest. An election takes a few hundred milliseconds.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long the members may take to be listed.
const LEARN_TIMEOUT: Duration = Duration::from_secs(2);

/// One time round the servers.
#[derive(Default)]
struct Round {
    number: u32,
    tried: Vec<String>,
    redirects: u32,
    /// What to report should this be the last round: a server's words before a silence.
    error: Option<ClientError>,
}

impl Round {
    fn add(&mut self, server: String, error: ClientError) {
        self.tried.push(server);
        let silence = matches!(error, ClientError::Unreachable { .. });
        if !silence || self.error.is_none() {
            self.error = Some(error);
        }
    }

    /// Whether no server took a connection.
    fn is_unreachable(&self) -> bool {
        matches!(self.error, Some(ClientError::Unreachable { .. }))
    }

    /// The round's error as that of the whole call, one of whose attempts left the outcome in `doubt`.
    fn in_sum(self, doubt: Applied) -> ClientError {
        let mut error = self.error.unwrap_or(ClientError::NoServers);
        match &mut error {
            ClientError::Unreachable { tried, applied, .. } => {
                *tried = self.tried;
                *applied = doubt;
            }
            // The outcome of a condition is kept under the write's name: had an earlier attempt been
            // applied, this one would have been told so.
            ClientError::Refused { problem, .. } if problem.status == 412 => {}
            ClientError::Refused { applied, .. } | ClientError::Lost { applied, .. } => {
                *applied = doubt
            }
            _ => {}
        }
        error
    }
}

impl Client {
    pub(super) async fn call(&self, call: &Call) -> Result<Reply, ClientError> {
        self.call_by(call, |server, deadline| self.attempt(server, call, deadline)).await
    }

    /// Makes attempts at `call` until one settles it.
    pub(super) async fn call_by<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        call: &Call,
        attempt: impl Fn(String, Instant) -> F,
    ) -> Result<T, ClientError> {
        let (servers, options) = (&self.shared.servers, &self.shared.options);
        let began = Instant::now();
        let deadline = began + options.timeout;
        let mut server = servers.current();
        let mut round = Round::default();
        let mut doubt = Applied::No;
        loop {
            let answer = attempt(server.clone(), deadline).await;
            if answer.as_ref().map_or_else(Failure::is_answer, |_| true) {
                servers.keep(&server);
                self.learn_in_background();
            }
            let failure = match answer {
                Ok(reply) => return Ok(reply),
                Err(failure) => failure,
            };
            if failure.error.applied() == Applied::Unknown {
                doubt = Applied::Unknown;
            }
            let repeat = match call.retry {
                Retry::Always => failure.passing,
                Retry::Unapplied => failure.passing && doubt == Applied::No,
                Retry::Never => false,
            };
            if let (true, Some(location)) = (round.redirects < MAX_REDIRECTS, &failure.redirect) {
                round.redirects += 1;
                server = location.clone();
                continue;
            }
            let retry_after = failure.retry_after.unwrap_or_default();
            round.add(server.clone(), failure.error);
            if !repeat {
                return Err(round.in_sum(doubt));
            }
            server = servers.after(&server);
            if round.tried.contains(&server) {
                let pause = self.shared.pauses.draw(round.number).max(retry_after);
                let unheard = round.is_unreachable() && doubt == Applied::No;
                let end = if unheard { deadline.min(began + options.patience) } else { deadline };
                if Instant::now() + pause >= end {
                    return Err(round.in_sum(doubt));
                }
                tokio::time::sleep(pause).await;
                round = Round { number: round.number + 1, ..Round::default() };
            }
        }
    }

    /// One attempt, at one server.
    pub(super) async fn attempt(
        &self,
        server: String,
        call: &Call,
        deadline: Instant,
    ) -> Result<Reply, Failure> {
        let options = &self.shared.options;
        let left = deadline.saturating_duration_since(Instant::now());
        let longest = call.attempt_timeout.unwrap_or(options.attempt_timeout);
        let request = self.request(&server, call).timeout(left.min(longest));
        let lost = |source: reqwest::Error| {
            let server = server.clone();
            Failure::passing(ClientError::Lost { server, source, applied: call.after_silence() })
        };
        let response = accepted(&server, call, request.send().await).await?;
        let headers = response.headers().clone();
        let limit_bytes = options.max_reply_bytes;
        match read(response, limit_bytes).await.map_err(lost)? {
            Some(body) => Ok(Reply { server, headers, body, silence: call.after_silence() }),
            None => Err(Failure::settled(ClientError::ReplyTooLong {
                server,
                limit_bytes,
                applied: call.after_silence(),
            })),
        }
    }

    /// What is sent to `server`, without a time limit.
    pub(super) fn request(&self, server: &str, call: &Call) -> RequestBuilder {
        let url = format!("{server}{}", call.target);
        let mut request = self.shared.http.request(call.method.clone(), url);
        if call.method != Method::GET {
            // The library says nothing of an empty body, and servers cannot tell it from a forgotten one.
            let len_bytes = call.body.len();
            request = request.header(CONTENT_LENGTH, len_bytes).body(call.body.clone());
        }
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        request
    }

    /// Asks for the members when that is due, beside the caller's work and without telling it of
    /// failures: the servers known so far will do.
    fn learn_in_background(&self) {
        if !self.shared.servers.should_learn() {
            return;
        }
        let client = self.clone();
        tokio::spawn(async move {
            let server = client.shared.servers.current();
            let deadline = Instant::now() + LEARN_TIMEOUT;
            let listed = client.attempt(server, &Call::get("/raft/config"), deadline).await;
            if let Some(members) = listed.ok().and_then(|reply| reply.json::<Members>().ok()) {
                client.learn(&members);
            }
        });
    }

    pub(super) fn learn(&self, members: &Members) {
        let addresses = members.servers.iter().map(|member| member.http_address.as_str());
        self.shared.servers.learn(addresses);
    }

    /// The head of an answer whose body is read as it comes. A server has the time of an attempt for it.
    pub(super) async fn head_of(&self, server: &str, call: &Call) -> Result<Response, Failure> {
        let after = self.shared.options.attempt_timeout;
        match timeout(after, self.request(server, call).send()).await {
            Ok(sent) => accepted(server, call, sent).await,
            Err(_) => {
                Err(Failure::passing(ClientError::Silent { server: server.to_owned(), after }))
            }
        }
    }
}

/// The head of a 2xx answer, or what the one that came means.
async fn accepted(
    server: &str,
    call: &Call,
    sent: Result<Response, reqwest::Error>,
) -> Result<Response, Failure> {
    let response = sent.map_err(|source| match source.is_connect() {
        true => Failure::passing(ClientError::Unreachable {
            tried: Vec::new(),
            source,
            applied: Applied::No,
        }),
        false => {
            let (server, applied) = (server.to_owned(), call.after_silence());
            Failure::passing(ClientError::Lost { server, source, applied })
        }
    })?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let headers = response.headers().clone();
    let body = read(response, MAX_PROBLEM_BYTES).await.ok().flatten().unwrap_or_default();
    Err(refusal(server, call, status, &headers, &body))
}

/// The pauses between rounds.
pub struct Pauses {
    chance: Mutex<StdRng>,
}

impl Pauses {
    pub fn new(seed: u128) -> Pauses {
        Pauses { chance: Mutex::new(StdRng::seed_from_u64(seed as u64)) }
    }

    /// The pause after round `rounds` (counted from 0): half of it fixed, half drawn.
    pub fn draw(&self, rounds: u32) -> Duration {
        let longest = FIRST_PAUSE.saturating_mul(1 << rounds.min(16)).min(LONGEST_PAUSE);
        let mut chance = self.chance.lock().unwrap_or_else(PoisonError::into_inner);
        longest.mul_f64(chance.random_range(0.5..=1.0))
    }
}
