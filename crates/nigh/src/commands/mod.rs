//! One file for each command, and the choice between them.

pub(crate) mod api;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod ca;
pub(crate) mod cert;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod events;
pub(crate) mod help;
pub(crate) mod host;
pub(crate) mod machine;
pub(crate) mod man;
pub(crate) mod operation;
pub(crate) mod ready;
pub(crate) mod release;
pub(crate) mod restore;
pub(crate) mod rollback;
pub(crate) mod site;
pub(crate) mod status;
pub(crate) mod takeover;
pub(crate) mod token;
pub(crate) mod webhook;

use std::path::Path;

use nigh_client::{CallError, Client};
use nigh_proto::{SiteName, report::MachineRole};

use crate::{
    cli::{Cli, Command, GlobalArgs},
    console::Console,
    environment::Environment,
    exit::Exit,
    failure::Failure,
    push, serve,
    settings::Settings,
    site_file::FoundSite,
    suggest,
};

/// What every command about a control has.
#[derive(Debug)]
pub(crate) struct App<'a> {
    pub(crate) console: &'a Console,
    pub(crate) settings: Settings,
    pub(crate) client: Client,
}

/// Does what was typed.
pub(crate) fn run(cli: Cli, environment: Environment, console: &Console) -> Result<Exit, Failure> {
    let Cli { global, command } = cli;
    match command {
        Command::Completions(args) => Ok(completions::run(&args)),
        Command::Man(args) => man::run(&args, console),
        Command::Help(args) => help::run(&args, console),
        Command::Check(args) => check::run(&args, &global, &environment, console),
        Command::Serve(args) => serve::run(&args, &global, &environment, console),
        Command::Demo(args) => block_on(demo::run(args, console)),
        Command::Ready(args) => block_on(ready::run(&args, &global, &environment, console)),
        Command::Restore(args) => block_on(restore::run(&args, &global, &environment, console)),
        Command::Token(token::Command::Recover(args)) => {
            block_on(token::recover(args, &global, &environment, console))
        }
        Command::Push(args) => block_on(push::run(args, global, environment, console)),
        command => block_on(about_control(command, global, environment, console)),
    }
}

async fn about_control(
    command: Command,
    global: GlobalArgs,
    environment: Environment,
    console: &Console,
) -> Result<Exit, Failure> {
    let config = global.config.as_deref().or(environment.config.as_deref());
    let found = FoundSite::find(config, &[Path::new(".")])?;
    let app = App::new(&global, &environment, found.file.site.name.as_deref(), console)?;
    match command {
        Command::Rollback(args) => rollback::run(&args, &app).await,
        Command::Release(command) => release::run(command, &app).await,
        Command::Site(command) => site::run(command, &app).await,
        Command::Host(command) => host::run(command, &app).await,
        Command::Cert(command) => cert::run(command, &app).await,
        Command::Edge(command) => machine::run(command, MachineRole::Edge, &app).await,
        Command::Dns(command) => machine::run(command.into(), MachineRole::Dns, &app).await,
        Command::Ca(command) => ca::run(command, &app).await,
        Command::Status => status::run(&app).await,
        Command::Token(command) => token::run(command, &app).await,
        Command::Audit(args) => audit::run(args, global.site.as_deref(), &app).await,
        Command::Events(args) => events::run(args, &app).await,
        Command::Operation(command) => operation::run(command, &app).await,
        Command::Webhook(command) => webhook::run(command, &app).await,
        Command::Api(args) => api::run(args, &app).await,
        Command::Backup(args) => backup::run(&args, &app).await,
        Command::Push(_)
        | Command::Check(_)
        | Command::Demo(_)
        | Command::Serve(_)
        | Command::Ready(_)
        | Command::Restore(_)
        | Command::Completions(_)
        | Command::Man(_)
        | Command::Help(_) => unreachable!("handled by the caller"),
    }
}

/// Runs a command's future to its end.
fn block_on(future: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Failure::new(Exit::Failure, "no threads could be started").caused_by(&error)
    })?;
    let result = runtime.block_on(future);
    // A read of standard input that nobody ends must not hold the program.
    runtime.shutdown_background();
    result
}

impl<'a> App<'a> {
    pub(crate) fn new(
        global: &GlobalArgs,
        environment: &Environment,
        site_in_file: Option<&str>,
        console: &'a Console,
    ) -> Result<Self, Failure> {
        let settings = Settings::new(global, environment, site_in_file)?;
        let client = settings.client()?;
        Ok(Self { console, settings, client })
    }

    /// A failed call about a site. A site that does not exist is looked for under a similar name.
    pub(crate) async fn site_failure(
        &self,
        site: &SiteName,
        what: String,
        error: &CallError,
    ) -> Failure {
        let failure = Failure::of_call(what, error);
        if error.code() != Some("site_unknown") {
            return failure;
        }
        let sites = self.client.sites().await.unwrap_or_default();
        let known = sites.iter().map(|known| known.name.as_str());
        let failure = match suggest::did_you_mean(site.as_str(), known) {
            Some(hint) => failure.hint(hint),
            None => failure,
        };
        failure.hint(format!("make it: nigh site create {site}"))
    }
}
