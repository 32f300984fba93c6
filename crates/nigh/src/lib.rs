//! The command line: arguments, configuration, a command or a role, output, exit code.
//!
//! `cli` is what may be typed. `environment`, `user_config` and `site_file` are read once, and
//! `settings` says which of them wins. `console` prints, `failure` and `exit` say how a command ended.
//! `commands` has one file for each command, `push` and `demo` the parts of the largest ones, `serve`
//! runs roles, `role_config` is what their files say.

mod cli;
mod commands;
mod console;
mod demo;
mod environment;
mod exit;
mod failure;
mod follow;
mod push;
mod role_config;
mod serve;
mod settings;
mod site_file;
mod site_rules;
mod suggest;
mod table;
mod toml_file;
mod units;
mod user_config;

use std::process::ExitCode;

use clap::Parser;

use crate::{cli::Cli, console::Console, environment::Environment, exit::Exit, failure::Failure};

/// Reads arguments and environment, does what they say, and tells the shell how it went.
pub fn main() -> ExitCode {
    let environment = Environment::read();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are results; anything else is wrong usage. Printing fails only when
            // nobody listens.
            let _ = error.print();
            if !error.use_stderr() {
                return Exit::Ok.into();
            }
            if std::env::args_os().any(|argument| argument == "--json") {
                let text = error.render().to_string();
                let what = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
                let failure = Failure::new(Exit::Usage, what).hint("nigh help").code("usage");
                Console::json().report(&failure);
            }
            return Exit::Usage.into();
        }
    };
    let console = Console::new(&cli.global, &environment);
    match commands::run(cli, environment, &console) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            console.failure(&failure);
            failure.exit.into()
        }
    }
}
