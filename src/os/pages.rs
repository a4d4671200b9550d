//! What is made from a program's command line: completions for the shells of Unix, and manual pages.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;

/// Print a script that completes this program's words in a shell
#[derive(Args, Debug)]
pub struct Completions {
    /// The shell that is to run it
    shell: Shell,
}

/// Print the manual page, or write all of them into a directory
#[derive(Args, Debug)]
pub struct Man {
    /// Directory for the pages of the program and of its commands
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Completions {
    /// Writes to standard output.
    pub fn run(&self, mut command: Command) -> ExitCode {
        let name = command.get_name().to_owned();
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, &name, &mut script);
        end(&name, io::stdout().write_all(&script))
    }
}

impl Man {
    pub fn run(&self, command: Command) -> ExitCode {
        let name = command.get_name().to_owned();
        end(
            &name,
            match &self.out {
                Some(directory) => all(command, directory),
                None => page(command),
            },
        )
    }
}

fn page(command: Command) -> io::Result<()> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    io::stdout().write_all(&page)
}

fn all(command: Command, directory: &Path) -> io::Result<()> {
    let explain = |error: io::Error| {
        io::Error::new(error.kind(), format!("{}: {error}", directory.display()))
    };
    std::fs::create_dir_all(directory).map_err(explain)?;
    clap_mangen::generate_to(command, directory).map_err(explain)
}

fn end(name: &str, written: io::Result<()>) -> ExitCode {
    match written {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has seen enough, as `head` has.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: cannot write: {error}");
            ExitCode::FAILURE
        }
    }
}
