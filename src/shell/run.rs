//! Doing a command: ask the client, print what it said.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use serde_json::{Value, json};

use super::columns::Columns;
use super::command::{Command, Lease, Show, Source};
use super::exit::Failure;
use super::extra::{Asked, Vocabulary, What};
use super::files::Place;
use super::output::Output;
use super::{editor, files, json, print, table};
use crate::client::{Client, Item, ReadOptions, Scan, Status, Watch};
use crate::types::Lifetime;

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
    pub(super) mode: Mode,
    vocabulary: Vocabulary,
    /// Whether the output is read by a person.
    pub(super) terminal: bool,
    /// The form of answers to commands that do not name one.
    usual: Output,
    /// The form of the answer to the present command.
    pub(super) output: Output,
}

impl Session {
    pub fn new(
        client: Client,
        mode: Mode,
        usual: Option<Output>,
        vocabulary: Vocabulary,
    ) -> Session {
        let terminal = io::stdout().is_terminal();
        let usual = usual.unwrap_or(if terminal { Output::Table } else { Output::Plain });
        Session { client, mode, vocabulary, terminal, usual, output: usual }
    }

    /// Who answers at the moment, if somebody does so at once.
    pub async fn glance(&self) -> Option<Status> {
        tokio::time::timeout(GLANCE, self.client.status()).await.ok()?.ok()
    }

    /// Does what is asked, or as much of it as is done when Ctrl-C is pressed.
    pub async fn run_until_ctrl_c(&mut self, asked: Asked) -> Result<(), Failure> {
        if let What::Own(Command::Lock { .. } | Command::Campaign { .. }) = asked.what {
            // They let go of what they hold.
            return self.answer_to(asked).await;
        }
        let goes_on = matches!(
            asked.what,
            What::Own(Command::Watch(_) | Command::Observe { .. } | Command::Top { .. })
        );
        let writes = match &asked.what {
            What::Own(command) => !matches!(
                command,
                Command::Get { .. }
                    | Command::TimeToLive { .. }
                    | Command::Scan { .. }
                    | Command::History { .. }
                    | Command::Diff { .. }
                    | Command::Watch(_)
                    | Command::Observe { .. }
                    | Command::Lease(Lease::Show(_) | Lease::List)
                    | Command::Status
                    | Command::Members
                    | Command::Top { .. }
                    | Command::Backup { .. }
                    | Command::Export { .. }
                    | Command::Compact { .. }
                    | Command::LogLevel(None)
            ),
            What::Extra { .. } | What::Help(_) => false,
        };
        tokio::select! {
            done = self.answer_to(asked) => done,
            _ = tokio::signal::ctrl_c() => {
                // What a terminal shows of it, had it not been told to show nothing.
                print::note("^C");
                if goes_on {
                    // The way in which it ends.
                    return Ok(());
                }
                Err(Failure::Interrupted { writes })
            }
        }
    }

    /// Does what is asked, and answers in the form that is asked for.
    pub async fn answer_to(&mut self, asked: Asked) -> Result<(), Failure> {
        self.output = asked.output.unwrap_or(self.usual);
        match asked.what {
            What::Own(command) => self.run(command).await,
            What::Help(spec) => self.answer(|| table::describe(spec), || json::command(spec)),
            What::Extra { command, arguments } => {
                let Some(extra) = self.vocabulary.extra.clone() else { return Ok(()) };
                let done = extra.run(command, arguments).await.map_err(Failure::Extra)?;
                self.answer(|| format!("{}\n", done.text), || done.json.clone())
            }
        }
    }

    async fn run(&mut self, command: Command) -> Result<(), Failure> {
        match command {
            Command::Put { key, value, lifetime, condition } => {
                let value = match value {
                    Source::Word(bytes) => bytes.into(),
                    Source::File(path) => files::read_value(&path)?,
                    Source::Stdin if self.mode == Mode::OneShot => files::read_stdin()?,
                    Source::Stdin => {
                        return Err(Failure::StdinTaken { by: "put KEY -", instead: "use --file" });
                    }
                };
                let client = &self.client;
                let written = match lifetime {
                    Lifetime::Unbounded => client.put(&key, value, condition).await?,
                    Lifetime::Ttl { ms } => {
                        let ttl = Duration::from_millis(ms);
                        client.put_for(&key, value, ttl, condition).await?
                    }
                    Lifetime::Lease(lease) => {
                        client.put_with_lease(&key, value, lease, condition).await?
                    }
                };
                self.answer(
                    || format!("OK revision {}\n", written.revision),
                    || {
                        json!({
                            "revision": written.revision,
                            "create_revision": written.create_revision,
                            "version": written.version,
                        })
                    },
                )
            }
            Command::Get { key, read, show } => self.get(key, read, show).await,
            Command::Delete { key, condition } => {
                let deleted = self.client.delete(&key, condition).await?;
                let number = u64::from(deleted.existed);
                let what = if deleted.existed { "" } else { ", there was no such key" };
                self.answer(
                    || format!("OK deleted {number}{what}\n"),
                    || json!({ "deleted": number, "revision": deleted.revision }),
                )
            }
            Command::DeletePrefix { prefix, sure } => {
                if prefix.is_empty() && !sure {
                    self.make_sure()?;
                }
                let done = self.client.delete_prefix(&prefix).await?;
                self.answer(
                    || format!("OK deleted {}\n", done.deleted),
                    || json!({ "deleted": done.deleted, "revision": done.revision }),
                )
            }
            Command::Scan { scan, limit } => self.scan(scan, limit).await,
            Command::TimeToLive { key } => {
                let value = self.client.get(&key, ReadOptions::default()).await?;
                let value = value.ok_or_else(|| Failure::NotFound(key.clone()))?;
                let ttl = value.ttl;
                let text = || match (ttl, value.lease) {
                    (Some(ttl), _) => format!("{}\n", humantime::format_duration(ttl)),
                    (None, Some(lease)) => format!("it ends with lease {lease}\n"),
                    (None, None) => "it does not expire\n".to_owned(),
                };
                self.answer(text, || {
                    let lease = value.lease.map(|lease| lease.to_string());
                    let ttl_ms = ttl.map(|ttl| ttl.as_millis() as u64);
                    let mut object = json!({ "ttl_ms": ttl_ms, "lease": lease });
                    json::put_bytes(&mut object, "key", &key);
                    object
                })
            }
            Command::Txn(txn) => self.txn(&txn).await,
            Command::Swap { key, old, new } => self.swap(key, old, new).await,
            Command::History { key, read, limit } => self.history(&key, read, limit).await,
            Command::Diff { prefix, from, to } => self.diff(prefix.into(), from, to).await,
            Command::Watch(watch) => self.watch(watch).await,
            Command::Lease(lease) => self.lease(lease).await,
            Command::Lock { name, ttl, program } => self.lock(&name, ttl, &program).await,
            Command::Campaign { name, value, ttl } => self.campaign(&name, value, ttl).await,
            Command::Observe { name } => self.observe(&name).await,
            Command::Status => {
                let status = self.client.status().await?;
                self.answer(|| print::status(&status), || json!(status))
            }
            Command::Members => {
                let members = self.client.members().await?;
                self.answer(|| print::members(&members), || json::members(&members))
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
            Command::Backup { place, read } => self.backup(&place, read).await,
            Command::Export { prefix, place } => self.export(prefix, &place).await,
            Command::Import { place: Place::Standard, .. } if self.mode != Mode::OneShot => {
                Err(Failure::StdinTaken { by: "import -", instead: "name a file" })
            }
            Command::Import { place, from_line } => self.import(&place, from_line).await,
            Command::Compact { wait } => self.compact(wait).await,
            Command::LogLevel(filter) => {
                let now = match filter {
                    Some(filter) => self.client.set_log_level(&filter).await?,
                    None => self.client.log_level().await?,
                };
                self.answer(
                    || format!("{} logs {}\n", now.node, now.filter),
                    || json::log_level(&now),
                )
            }
            Command::Help(None) => self.answer(
                || self.vocabulary.overview(),
                || self.vocabulary.all().map(json::command).collect(),
            ),
            Command::Help(Some(name)) => match table::find(name) {
                Some(spec) => self.answer(|| table::describe(spec), || json::command(spec)),
                None => Ok(()),
            },
            Command::Exit => Ok(()),
            Command::Top { once, every } => self.top(once, every).await,
        }
    }

    async fn get(&self, key: Vec<u8>, read: ReadOptions, show: Show) -> Result<(), Failure> {
        let is_json = self.output == Output::Json;
        if show == Show::Meta || (is_json && show == Show::Value) {
            let item = self.client.get_item(&key, read).await?;
            let item = item.ok_or_else(|| Failure::NotFound(key.clone()))?;
            let item = Item { key: key.into(), ..item };
            return self.answer(|| print::record(&item), || json::item(&item));
        }
        let value = self.client.get(&key, read).await?.ok_or(Failure::NotFound(key))?.bytes;
        let Show::Out(path) = show else { return self.value(&value) };
        files::write_value(&path, &value)?;
        self.answer(
            || format!("OK {} bytes in {}\n", value.len(), path.display()),
            || json!({ "bytes": value.len(), "file": path.display().to_string() }),
        )
    }

    /// Follows pages up to `limit` items, printing each as it comes.
    async fn scan(&self, mut scan: Scan, limit: usize) -> Result<(), Failure> {
        let mut left = limit;
        let headings = if scan.keys_only { &["KEY"][..] } else { &["KEY", "VALUE"] };
        let mut is_first = true;
        loop {
            scan.limit = Some(left.min(PAGE_ITEMS));
            let page = self.client.scan(&scan).await?;
            let items = || page.items.iter().take(left);
            match self.output {
                Output::Json => self.write_lines(items().map(json::item))?,
                Output::Plain => {
                    let lines: String =
                        items().map(|item| print::item(item, self.terminal)).collect();
                    self.write(lines.as_bytes())?;
                }
                Output::Table => {
                    let rows: Vec<Vec<String>> = items().map(print::item_cells).collect();
                    self.write_table(headings, &rows, is_first)?;
                }
            }
            is_first = false;
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
            let event = event?;
            self.answer(|| print::event(&event, self.terminal), || json::event(&event))?;
        }
        Ok(())
    }

    /// Asks the person whether every key is meant; without a person, that has to be said in the command.
    fn make_sure(&self) -> Result<(), Failure> {
        if self.mode == Mode::Lines || !io::stdin().is_terminal() {
            return Err(Failure::Unsure);
        }
        match editor::ask("This removes every key of the store. Type yes to go on: ")?.as_str() {
            "yes" => Ok(()),
            _ => Err(Failure::Refused),
        }
    }

    fn value(&self, bytes: &[u8]) -> Result<(), Failure> {
        match (self.terminal, self.mode) {
            (true, _) => self.write(print::value(bytes).as_bytes()),
            (false, Mode::OneShot) => self.write(bytes),
            (false, _) => self.write(&[bytes, b"\n"].concat()),
        }
    }

    /// Answers in the form that was asked for. Text ends with its newline, a document gets one.
    pub(super) fn answer(
        &self,
        text: impl FnOnce() -> String,
        document: impl FnOnce() -> Value,
    ) -> Result<(), Failure> {
        match self.output {
            Output::Json => self.write_lines([document()]),
            Output::Plain | Output::Table => self.write(text().as_bytes()),
        }
    }

    /// Answers with a sentence, where there is no more to say.
    pub(super) fn say(&self, text: &str) -> Result<(), Failure> {
        self.answer(|| format!("{text}\n"), || json!({ "message": text }))
    }

    /// A document a line.
    pub(super) fn write_lines(
        &self,
        documents: impl IntoIterator<Item = Value>,
    ) -> Result<(), Failure> {
        let lines: String = documents.into_iter().map(|document| format!("{document}\n")).collect();
        self.write(lines.as_bytes())
    }

    /// Rows of a table that may come in several blocks, with headings above the first.
    pub(super) fn write_table(
        &self,
        headings: &[&str],
        rows: &[Vec<String>],
        is_first: bool,
    ) -> Result<(), Failure> {
        let columns = Columns::fitting(headings, rows.iter().map(Vec::as_slice));
        let mut text = if is_first { columns.line(headings) } else { String::new() };
        text.extend(rows.iter().map(|row| columns.line(row)));
        self.write(text.as_bytes())
    }

    pub(super) fn write(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(Failure::Output)
    }
}
