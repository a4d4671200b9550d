//! Doing a command: ask the client, print what it said.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use super::command::{Command, Show, Source};
use super::exit::Failure;
use super::{files, print, table};
use crate::client::{Client, ReadOptions, Scan, Status, Watch};

/// Items asked for in one page of a scan.
const PAGE_ITEMS: usize = 1_000;

/// How long the prompt waits to show who answers. More would be felt.
const GLANCE: Duration = Duration::from_millis(250);

/// Where commands come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    OneShot,
    Lines,
    Prompt,
}

/// A client, and where its answers go.
pub struct Session {
    pub(super) client: Client,
    mode: Mode,
    /// Whether the output is read by a person.
    pub(super) terminal: bool,
}

impl Session {
    pub fn new(client: Client, mode: Mode) -> Session {
        Session { client, mode, terminal: io::stdout().is_terminal() }
    }

    /// Who answers at the moment, if somebody does so at once.
    pub async fn glance(&self) -> Option<Status> {
        tokio::time::timeout(GLANCE, self.client.status()).await.ok()?.ok()
    }

    /// Does `command`, or as much of it as is done when Ctrl-C is pressed.
    pub async fn run_until_ctrl_c(&mut self, command: Command) -> Result<(), Failure> {
        let is_watch = matches!(command, Command::Watch(_));
        let writes = !matches!(
            command,
            Command::Get { .. }
                | Command::TimeToLive { .. }
                | Command::Scan { .. }
                | Command::History { .. }
                | Command::Diff { .. }
                | Command::Watch(_)
                | Command::Status
                | Command::Members
        );
        tokio::select! {
            done = self.run(command) => done,
            _ = tokio::signal::ctrl_c() => {
                // The terminal has shown "^C" where the next words would go.
                print::note("");
                if is_watch {
                    // The way in which a watch ends.
                    return Ok(());
                }
                Err(Failure::Interrupted { writes })
            }
        }
    }

    pub async fn run(&mut self, command: Command) -> Result<(), Failure> {
        match command {
            Command::Put { key, value, ttl, condition } => {
                let value = match value {
                    Source::Word(bytes) => bytes.into(),
                    Source::File(path) => files::read_value(&path)?,
                    Source::Stdin if self.mode == Mode::OneShot => files::read_stdin()?,
                    Source::Stdin => return Err(Failure::StdinTaken),
                };
                let written = match ttl {
                    Some(ttl) => self.client.put_for(&key, value, ttl, condition).await?,
                    None => self.client.put(&key, value, condition).await?,
                };
                self.say(&format!("OK revision {}", written.revision))
            }
            Command::Get { key, read, show: Show::Meta } => {
                let item = self.client.get_item(&key, read).await?;
                let mut item = item.ok_or(Failure::NotFound(key.clone()))?;
                item.key = key.into();
                self.write(print::record(&item).as_bytes())
            }
            Command::Get { key, read, show } => {
                let value = self.client.get(&key, read).await?.ok_or(Failure::NotFound(key))?.bytes;
                match show {
                    Show::Out(path) => {
                        files::write_value(&path, &value)?;
                        self.say(&format!("OK {} bytes in {}", value.len(), path.display()))
                    }
                    _ => self.value(&value),
                }
            }
            Command::Delete { key, condition } => {
                let deleted = self.client.delete(&key, condition).await?;
                self.say(if deleted.existed {
                    "OK deleted 1"
                } else {
                    "OK deleted 0, there was no such key"
                })
            }
            Command::DeletePrefix { prefix } => {
                let deleted = self.client.delete_prefix(&prefix).await?;
                self.say(&format!("OK deleted {}", deleted.deleted))
            }
            Command::Scan { scan, limit } => self.scan(scan, limit).await,
            Command::TimeToLive { key } => {
                let value = self.client.get(&key, ReadOptions::default()).await?;
                match value.ok_or(Failure::NotFound(key))?.ttl {
                    Some(ttl) => self.say(&humantime::format_duration(ttl).to_string()),
                    None => self.say("it does not expire"),
                }
            }
            Command::Txn(txn) => self.txn(&txn).await,
            Command::Swap { key, old, new } => self.swap(key, old, new).await,
            Command::History { key, read, limit } => self.history(&key, read, limit).await,
            Command::Diff { prefix, from, to } => self.diff(prefix.into(), from, to).await,
            Command::Watch(watch) => self.watch(watch).await,
            Command::Status => {
                let status = self.client.status().await?;
                self.write(print::status(&status).as_bytes())
            }
            Command::Members => {
                let members = self.client.members().await?;
                self.write(print::members(&members).as_bytes())
            }
            Command::Join(join) => {
                self.client.join(&join).await?;
                self.say("OK")
            }
            Command::Remove { id } => {
                self.client.remove(&id).await?;
                self.say("OK")
            }
            Command::Transfer { id } => {
                self.client.transfer(&id).await?;
                self.say("OK")
            }
            Command::Help(None) => self.write(table::overview().as_bytes()),
            Command::Help(Some(name)) => {
                let text = table::find(name).map(table::describe).unwrap_or_default();
                self.write(text.as_bytes())
            }
            Command::Exit => Ok(()),
        }
    }

    /// Follows pages up to `limit` items, printing each as it comes.
    async fn scan(&self, mut scan: Scan, limit: usize) -> Result<(), Failure> {
        let mut left = limit;
        loop {
            scan.limit = Some(left.min(PAGE_ITEMS));
            let page = self.client.scan(&scan).await?;
            let lines: String =
                page.items.iter().take(left).map(|item| print::item(item, self.terminal)).collect();
            self.write(lines.as_bytes())?;
            left = left.saturating_sub(page.items.len());
            scan.cursor = page.next;
            match (&scan.cursor, left) {
                (None, _) => return Ok(()),
                (Some(_), 0) => {
                    print::note(&format!("more keys follow these {limit}; `--limit N` lists them"));
                    return Ok(());
                }
                _ => {}
            }
        }
    }

    /// Prints changes as they come, until the watch can go on nowhere.
    async fn watch(&self, watch: Watch) -> Result<(), Failure> {
        let mut watcher = self.client.watch(watch);
        while let Some(event) = watcher.next().await {
            self.write(print::event(&event?, self.terminal).as_bytes())?;
        }
        Ok(())
    }

    fn value(&self, bytes: &[u8]) -> Result<(), Failure> {
        match (self.terminal, self.mode) {
            (true, _) => self.write(print::value(bytes).as_bytes()),
            (false, Mode::OneShot) => self.write(bytes),
            (false, _) => self.write(&[bytes, b"\n"].concat()),
        }
    }

    fn say(&self, text: &str) -> Result<(), Failure> {
        self.write(format!("{text}\n").as_bytes())
    }

    pub(super) fn write(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(Failure::Output)
    }
}
