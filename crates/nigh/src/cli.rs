//! What may be typed?

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueHint};

use crate::{commands, push, serve, units};

/// A CDN that you run yourself: push a folder, and every edge has it before the first visitor asks.
#[derive(Debug, Parser)]
#[command(name = "nigh", version, disable_help_subcommand = true, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Understood by every command.
#[expect(clippy::doc_markdown, reason = "these comments are the help text, shown as they are")]
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct GlobalArgs {
    /// Print the result as one JSON document
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say nothing on the way
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Say more on the way
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,
    /// No colours [env: NO_COLOR]
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
    /// Do not ask before something is lost
    #[arg(long, short, global = true)]
    pub(crate) yes: bool,
    /// Never ask; by itself in CI and without a terminal
    #[arg(long, global = true)]
    pub(crate) non_interactive: bool,
    /// The site that the command is about [env: NIGH_SITE]
    #[arg(long, short, global = true, value_name = "NAME")]
    pub(crate) site: Option<String>,
    /// Where control's API is; several controls with commas between [env: NIGH_API_URL]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) api_url: Option<String>,
    /// A file with the API token [env: NIGH_TOKEN_FILE; NIGH_TOKEN is the token itself]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) token_file: Option<PathBuf>,
    /// The authority that signed control's certificate [env: NIGH_CA_FILE]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) ca_file: Option<PathBuf>,
    /// The configuration file: nigh.toml, or that of a role [env: NIGH_CONFIG]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// The profile of the user configuration [env: NIGH_PROFILE]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// How long the command may take: 90s, 10m
    #[arg(long, global = true, value_name = "DURATION", value_parser = units::parse_duration)]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a folder the site that every edge serves
    Push(push::Args),
    /// Go back to the release before, or to a given one
    Rollback(commands::rollback::Args),
    /// Look at a site's releases, activate or delete them
    #[command(subcommand)]
    Release(commands::release::Command),
    /// Make, list, show and delete sites
    #[command(subcommand)]
    Site(commands::site::Command),
    /// The host names that a site answers to
    #[command(subcommand)]
    Host(commands::host::Command),
    /// The certificates that edges serve with
    #[command(subcommand)]
    Cert(commands::cert::Command),
    /// The machines that serve visitors
    #[command(subcommand)]
    Edge(commands::machine::Command),
    /// The machines that answer DNS
    #[command(subcommand)]
    Dns(commands::machine::DnsCommand),
    /// Control's own CA, which clients and machines trust
    #[command(subcommand)]
    Ca(commands::ca::Command),
    /// The fleet at a glance
    Status,
    /// Lint a folder's _redirects, _headers and nigh.toml without pushing it
    Check(commands::check::Args),
    /// What happened in the fleet, and what happens now
    Events(commands::events::Args),
    /// Work that goes on after a command has ended
    #[command(subcommand)]
    Operation(commands::operation::Command),
    /// Servers that are told what happens
    #[command(subcommand)]
    Webhook(commands::webhook::Command),
    /// Tokens for the API
    #[command(subcommand)]
    Token(commands::token::Command),
    /// Write everything that control knows to one file
    Backup(commands::backup::Args),
    /// Make control itself again: from a backup, or from what machines hold
    Restore(commands::restore::Args),
    /// Who changed what, and whether that record is whole
    Audit(commands::audit::Args),
    /// A whole CDN on this machine, to try things on
    Demo(commands::demo::Args),
    /// Run a role
    Serve(serve::Args),
    /// Ask the roles on this machine whether they can do their work
    Ready(commands::ready::Args),
    /// Print the completions for a shell
    Completions(commands::completions::Args),
    /// Write the manual pages of every command
    Man(commands::man::Args),
    /// Make any call of the API
    Api(commands::api::Args),
    /// Explain a command, the exit codes or the environment
    Help(commands::help::Args),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_arguments_may_stand_anywhere() {
        for line in ["nigh --json -s docs release list", "nigh release list --json -s docs"] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert!(cli.global.json);
            assert_eq!(cli.global.site.as_deref(), Some("docs"));
        }
    }
}
