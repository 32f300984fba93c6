//! `nigh help`: commands, and the topics that no command has.

use clap::CommandFactory;
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
    console.line(found.render_long_help().to_string().trim_end());
    Ok(())
}
