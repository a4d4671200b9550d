//! The shell's commands as `clap` would have them: it parses none of them, and completions and manual pages are made
//! from its description.

use clap::{Arg, ArgAction, Command, CommandFactory};
use conuredb::shell::{COMMANDS, Opt, Spec};

use super::Cli;

/// The program with all commands of the shell.
pub fn whole() -> Command {
    let program = Cli::command().mut_arg("command", |arg| arg.hide(true));
    let program =
        program.mut_arg("output", |arg| arg.global(true)).after_help(super::shell::exit::CODES);
    let program = program.subcommand_help_heading("Commands").subcommand_value_name("COMMAND");
    program.subcommands(COMMANDS.iter().map(command))
}

fn command(spec: &'static Spec) -> Command {
    let examples: String = spec.examples.iter().map(|example| format!("  {example}\n")).collect();
    let arguments = Arg::new("arguments").num_args(0..).hide(true);
    Command::new(spec.name)
        .about(spec.about)
        .visible_aliases(spec.aliases)
        .override_usage(format!("conuresh {}", spec.usage))
        .after_help(format!("Examples:\n{examples}"))
        .args(spec.options.iter().map(option))
        .arg(arguments)
}

fn option(option: &'static Opt) -> Arg {
    let name = option.name.trim_start_matches('-');
    let arg = Arg::new(name).long(name).help(option.about);
    match option.value {
        Some(value) => arg.value_name(value),
        None => arg.action(ArgAction::SetTrue),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_option_is_described() {
        let whole = whole();
        whole.clone().debug_assert();
        for spec in COMMANDS {
            let command = whole.find_subcommand(spec.name).expect(spec.name);
            assert_eq!(command.get_arguments().count(), spec.options.len() + 1, "{}", spec.name);
        }
    }
}
