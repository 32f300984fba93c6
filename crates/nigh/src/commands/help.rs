//! `nigh help`: commands, and the topics that no command has.

use clap::{Arg, Command, CommandFactory};
use serde_json::json;

use crate::{
    cli::Cli, console::Console, environment::VARIABLES, exit::Exit, failure::Failure, suggest,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A command, `exit-codes` or `environment`
    topic: Vec<String>,
}

pub(crate) fn run(args: &Args, console: &Console) -> Result<Exit, Failure> {
    let topic: Vec<&str> = args.topic.iter().map(String::as_str).collect();
    match topic[..] {
        ["exit-codes"] => exit_codes(console),
        ["environment"] => environment(console),
        _ => command(&topic, console)?,
    }
    Ok(Exit::Ok)
}

fn exit_codes(console: &Console) {
    let codes: Vec<_> = Exit::ALL
        .iter()
        .map(|exit| json!({ "code": exit.code(), "meaning": exit.meaning() }))
        .collect();
    console.result(&codes, |_| {
        let line = |exit: &Exit| format!("{:>4}  {}", exit.code(), exit.meaning());
        Exit::ALL.iter().map(line).collect::<Vec<_>>().join("\n")
    });
}

fn environment(console: &Console) {
    let variables: Vec<_> = VARIABLES
        .iter()
        .map(|(name, meaning)| json!({ "name": name, "meaning": meaning }))
        .collect();
    console.result(&variables, |_| {
        let line = |(name, meaning): &(&str, &str)| format!("{name:<16} {meaning}");
        let lines = VARIABLES.iter().map(line).collect::<Vec<_>>().join("\n");
        format!("{lines}\n\nA flag wins over the environment, that over nigh.toml, that over the user configuration.")
    });
}

fn command(path: &[&str], console: &Console) -> Result<(), Failure> {
    let mut command = Cli::command();
    command.build();
    let mut found = &mut command;
    for name in path {
        let names: Vec<String> =
            found.get_subcommands().map(|command| command.get_name().to_owned()).collect();
        found = match found.find_subcommand_mut(name) {
            Some(found) => found,
            None => {
                let topics = names.iter().map(String::as_str).chain(["exit-codes", "environment"]);
                let failure = Failure::new(Exit::Usage, format!("there is no help on {name:?}"));
                return Err(match suggest::did_you_mean(name, topics) {
                    Some(hint) => failure.hint(hint),
                    None => failure.hint("nigh help shows every command"),
                });
            }
        };
    }
    let text = found.render_long_help().to_string();
    console.result(&described(found, true), |_| text);
    Ok(())
}

/// A command with its arguments and subcommands; those that every command has only at the top.
fn described(command: &Command, is_top: bool) -> serde_json::Value {
    let is_shown = |argument: &&Arg| {
        let is_own = !matches!(argument.get_id().as_str(), "help" | "version");
        is_own && !argument.is_hide_set() && (is_top || !argument.is_global_set())
    };
    let argument = |argument: &Arg| {
        json!({
            "name": argument.get_id().as_str(),
            "long": argument.get_long(),
            "short": argument.get_short(),
            "help": argument.get_help().map(ToString::to_string),
            "is_required": argument.is_required_set(),
        })
    };
    json!({
        "name": command.get_name(),
        "about": command.get_about().map(ToString::to_string),
        "arguments": command.get_arguments().filter(is_shown).map(argument).collect::<Vec<_>>(),
        "commands": command.get_subcommands().map(|inner| described(inner, false)).collect::<Vec<_>>(),
    })
}
