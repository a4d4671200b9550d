//! The shell's command line. What it does is in `conuredb::shell`; here stands what belongs to a
//! process: flags, the runtime, and the only randomness, which names this client's writes.

mod describe;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use conuredb::client::{Client, ClientOptions};
use conuredb::os::pages::{Completions, Man};
use conuredb::shell::{self, Output, Shell, Vocabulary, exit::Failure};

/// How long to look for a server where none listens: enough for a node that is being restarted, and
/// not too long for a person who forgot to start one.
const PATIENCE: Duration = Duration::from_secs(2);

/// A shell for ConureDB.
///
/// With a command, does that one and exits. Without one, reads commands from standard input, one a
/// line; at a terminal it is a prompt with history and completion.
#[derive(Parser)]
#[command(
    name = "conuresh",
    version,
    after_help = after_help(),
    disable_help_subcommand = true,
    subcommand_help_heading = "About this program",
    subcommand_value_name = "PAGES",
    args_conflicts_with_subcommands = true
)]
struct Cli {
    /// Servers of one cluster; repeatable, or with commas between
    #[arg(
        long,
        value_name = "URL",
        env = "CONURE_SERVER",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:8081"
    )]
    server: Vec<String>,

    /// How long a command may take, with all retries
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = humantime::parse_duration)]
    timeout: Duration,

    /// The form of answers: table at a terminal, else plain
    #[arg(short, long, value_name = "FORM", value_enum)]
    output: Option<Output>,

    /// In commands from a pipe, stop at the first that fails
    #[arg(short = 'e', long)]
    exit_on_error: bool,

    /// One command and its arguments; all that follows the command belongs to it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<OsString>,

    #[command(subcommand)]
    pages: Option<Pages>,
}

/// What talks to no server.
#[derive(Subcommand)]
enum Pages {
    Completions(Completions),
    Man(Man),
}

fn after_help() -> String {
    format!("{}\n{}", shell::overview(), shell::exit::CODES)
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match &cli.pages {
        Some(Pages::Completions(wanted)) => return wanted.run(describe::whole()),
        Some(Pages::Man(wanted)) => return wanted.run(describe::whole()),
        None => {}
    }
    #[allow(clippy::disallowed_methods, reason = "the outermost layer, where chance begins")]
    let mut options = ClientOptions::new(rand::random());
    options.timeout = cli.timeout;
    options.patience = PATIENCE;
    // An empty CONURE_SERVER, or a comma at the end, is no server.
    let servers = cli.server.into_iter().filter(|server| !server.trim().is_empty()).collect();
    let client = match Client::new(servers, options) {
        Ok(client) => client,
        Err(error) => return shell::fail(error.into()),
    };
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
            Ok(runtime) => runtime,
            Err(why) => return shell::fail(Failure::Runtime(why)),
        };
    let vocabulary = Vocabulary::default();
    let shell = Shell { runtime: &runtime, client, output: cli.output, vocabulary };
    let code = if !cli.command.is_empty() {
        shell.one_shot(cli.command.into_iter().map(OsString::into_vec).collect())
    } else if shell::is_interactive() {
        shell.prompt()
    } else {
        shell.lines(cli.exit_on_error)
    };
    // Requests in the background (the members') have no use any more.
    runtime.shutdown_background();
    code
}
