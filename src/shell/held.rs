//! `lock` and `elect`: what is held while a program runs, or until somebody says enough.
//!
//! A signal that ends this program lets go of what it holds first. A program that runs under a lock shares the terminal,
//! so that Ctrl-C reaches it by itself; SIGTERM and SIGHUP, and SIGINT without a terminal, are passed on to it. When the
//! lock is lost the program gets SIGTERM, and SIGKILL when the lease is over, before which nobody else gets the lock.
//! What it has started itself is its own business.

use std::ffi::OsStr;
use std::future::poll_fn;
use std::io::{self, IsTerminal};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::task::Poll;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{self, SignalKind, signal};
use tokio::time::timeout;

use super::exit::Failure;
use super::print;
use super::run::{Mode, Session};
use super::words::escape;
use crate::client::{LeaseLost, Lock, RecipeError};

/// The part of the time to live that is left when a lock is told to be lost.
const MARGIN: u32 = 10;

/// Signals that ask this program to end.
///
/// The runtime that listens to one does so for good. So at a prompt there is only that of Ctrl-C, and commands from a
/// pipe, which end by signals, cannot hold anything.
struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    fn listen(mode: Mode) -> Result<Signals, Failure> {
        let all = [
            (Signal::INT, SignalKind::interrupt()),
            (Signal::TERM, SignalKind::terminate()),
            (Signal::HUP, SignalKind::hangup()),
        ];
        let listened_to = match mode {
            Mode::OneShot => &all[..],
            Mode::Prompt => &all[..1],
            Mode::Lines => return Err(Failure::HeldInPipe),
        };
        let listen =
            |&(name, kind): &(Signal, SignalKind)| signal(kind).map(|signals| (name, signals));
        let signals = listened_to.iter().map(listen).collect::<io::Result<_>>();
        signals.map(Signals).map_err(Failure::Runtime)
    }

    async fn next(&mut self) -> Signal {
        poll_fn(|context| {
            let mut signals = self.0.iter_mut();
            let came = |(name, signal): &mut (Signal, unix::Signal)| {
                signal.poll_recv(context).is_ready().then_some(*name)
            };
            signals.find_map(came).map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    async fn any(&mut self) {
        self.next().await;
    }
}

impl Session {
    /// Runs a program while a lock is held.
    pub(super) async fn lock(
        &self,
        name: &[u8],
        ttl: Duration,
        program: &[Vec<u8>],
    ) -> Result<(), Failure> {
        let mut signals = Signals::listen(self.mode)?;
        let lock = self.client.lock_unless(name, ttl, signals.any()).await?;
        let lock = lock.ok_or(Failure::GivenUp)?;
        let ended = self.run_under(&lock, ttl, program, &mut signals).await;
        match (ended, lock.release().await) {
            (Err(failure), _) => Err(failure),
            // It was lost at the very end, and the program may not have been alone.
            (Ok(_), Err(RecipeError::Lost(why))) => Err(Failure::LockLost(why)),
            (Ok(status), released) => {
                if let Err(error) = released {
                    print::note(&format!("the lock is held until its lease ends: {error}"));
                }
                match exit_code(status) {
                    0 => Ok(()),
                    code => Err(Failure::Program { code }),
                }
            }
        }
    }

    async fn run_under(
        &self,
        lock: &Lock,
        ttl: Duration,
        program: &[Vec<u8>],
        signals: &mut Signals,
    ) -> Result<ExitStatus, Failure> {
        let mut words = program.iter().map(|word| OsStr::from_bytes(word));
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        command.env("CONURE_LOCK_KEY", OsStr::from_bytes(lock.key().as_bytes()));
        command.env("CONURE_FENCING_TOKEN", lock.fencing_token().to_string());
        let start = |source| Failure::Start { program: program[0].clone(), source };
        let mut child = command.kill_on_drop(true).spawn().map_err(start)?;
        loop {
            tokio::select! {
                status = child.wait() => return status.map_err(start),
                why = lock.lost() => return Err(stop(child, ttl, why).await),
                signal = signals.next() => {
                    if signal != Signal::INT || !io::stdin().is_terminal() {
                        send(&child, signal);
                    }
                }
            }
        }
    }

    /// Campaigns, and leads until a signal comes.
    pub(super) async fn campaign(
        &self,
        name: &[u8],
        value: Vec<u8>,
        ttl: Duration,
    ) -> Result<(), Failure> {
        let mut signals = Signals::listen(self.mode)?;
        let led = self.client.campaign_unless(name, value, ttl, signals.any()).await?;
        let led = led.ok_or(Failure::GivenUp)?;
        let key = escape(led.key().as_bytes());
        self.say(&format!("elected\t{}\t{key}", led.fencing_token()))?;
        tokio::select! {
            why = led.lost() => Err(RecipeError::Lost(why).into()),
            () = signals.any() => Ok(led.resign().await?),
        }
    }

    /// Shows who leads, as that changes.
    pub(super) async fn observe(&self, name: &[u8]) -> Result<(), Failure> {
        let mut observer = self.client.observe(name);
        loop {
            match observer.next().await? {
                None => self.say("nobody")?,
                Some(leader) => {
                    let (key, value) = (escape(&leader.key), escape(&leader.value));
                    self.say(&format!("leader\t{}\t{key}\t{value}", leader.fencing_token))?;
                }
            }
        }
    }
}

/// Stops a program that has lost its lock.
async fn stop(mut child: Child, ttl: Duration, why: LeaseLost) -> Failure {
    send(&child, Signal::TERM);
    if timeout(ttl / MARGIN, child.wait()).await.is_err() {
        // It fails when the program has ended meanwhile.
        let _ = child.kill().await;
    }
    Failure::LockLost(why)
}

/// Sends a signal to a program that has not been waited for, so that its number is still its own.
fn send(child: &Child, signal: Signal) {
    let number = child.id().and_then(|id| i32::try_from(id).ok());
    if let Some(pid) = number.and_then(Pid::from_raw) {
        // It fails when the program has just ended.
        let _ = kill_process(pid, signal);
    }
}

/// As shells have it: a signal counts behind 128.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
