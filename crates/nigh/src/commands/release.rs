//! `nigh release`: what was pushed, what is live, what may go.

use std::time::Instant;

use clap::{Args, Subcommand};
use nigh_client::CallError;
use nigh_proto::{SiteName, api::ReleaseView};
use serde_json::json;

use super::App;
use crate::{
    exit::Exit,
    failure::Failure,
    follow::{self, Wait, follow},
    push::TIMEOUT_DEFAULT,
    table::Table,
    units,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The site's releases, newest first
    List(List),
    /// One release and how far every edge is with it
    Show(Named),
    /// Make a release the one that every edge serves
    Activate(Activate),
    /// Delete a release that is not live
    Delete(Named),
    /// Delete all but the newest releases
    Prune(PruneArgs),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// How many at most; all of them with 0
    #[arg(long, default_value_t = 20)]
    limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Named {
    /// The release: its id, or the end of it that lists show
    release: String,
}

#[derive(Debug, Args)]
pub(crate) struct Activate {
    /// The release: its id, or the end of it that lists show
    release: String,
    /// What to wait for
    #[arg(long, value_enum, default_value_t)]
    wait: Wait,
}

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// How many of the newest releases stay, besides the live ones
    #[arg(long, default_value_t = 10)]
    keep: u32,
}

pub(crate) async fn run(command: Command, app: &App<'_>) -> Result<Exit, Failure> {
    let site = app.settings.site()?;
    match command {
        Command::List(args) => list(&site, args.limit, app).await,
        Command::Show(args) => show(&site, &args.release, app).await,
        Command::Activate(args) => activate(&site, &args, app).await,
        Command::Delete(args) => delete(&site, &args.release, app).await,
        Command::Prune(args) => prune(&site, args.keep, app).await,
    }
}

async fn list(site: &SiteName, limit: u32, app: &App<'_>) -> Result<Exit, Failure> {
    let limit = (limit > 0).then_some(limit);
    match app.client.releases(site, limit).await {
        Ok(releases) => {
            app.console.result(&json!({ "items": releases }), |_| table(&releases));
            Ok(Exit::Ok)
        }
        Err(error) => Err(app
            .site_failure(site, format!("the releases of {site} cannot be listed"), &error)
            .await),
    }
}

fn table(releases: &[ReleaseView]) -> String {
    let mut table =
        Table::new(&["RELEASE", "STATE", "FILES", "SIZE", "CREATED", "BY", "COMMIT", "MESSAGE"]);
    for release in releases {
        let commit = release.source.as_ref().and_then(|source| source.commit.as_deref());
        table.row([
            release.id.short().to_owned(),
            release.state.label().to_owned(),
            release.files_total.to_string(),
            units::bytes(release.bytes_total),
            release.created_at.to_string(),
            release.pushed_by.clone().unwrap_or_default(),
            commit.map(|commit| commit.chars().take(9).collect()).unwrap_or_default(),
            release.message.clone().unwrap_or_default(),
        ]);
    }
    table.render("no releases yet; push a folder: nigh push DIR")
}

async fn show(site: &SiteName, release: &str, app: &App<'_>) -> Result<Exit, Failure> {
    match app.client.release(site, release).await {
        Ok(view) => {
            app.console.result(&view, describe);
            Ok(Exit::Ok)
        }
        Err(error) => Err(failure(site, release, "cannot be shown", &error, app).await),
    }
}

fn describe(view: &ReleaseView) -> String {
    let mut lines = vec![
        format!("release   {}", view.id),
        format!("site      {}", view.site),
        format!("state     {}", view.state.label()),
        format!("files     {} ({})", view.files_total, units::bytes(view.bytes_total)),
        format!("created   {}", view.created_at),
    ];
    let mut line = |name: &str, value: Option<String>| {
        lines.extend(value.map(|value| format!("{name:<9} {value}")));
    };
    line("activated", view.activated_at.map(|at| at.to_string()));
    line("url", view.url.clone());
    line("by", view.pushed_by.clone());
    line("message", view.message.clone());
    line("commit", view.source.as_ref().and_then(|source| source.commit.clone()));
    line("branch", view.source.as_ref().and_then(|source| source.branch.clone()));
    let expires = view.preview.as_ref().and_then(|preview| preview.expires_at);
    line("expires", expires.map(|at| at.to_string()));
    line("failure", view.failure.clone());
    let mut table = Table::new(&["EDGE", "STATE", "AFTER", "REASON"]);
    for edge in &view.edges {
        let state = serde_json::to_value(edge.state).ok();
        let state = state.as_ref().and_then(|state| state.as_str()).unwrap_or_default().to_owned();
        let ms = edge.ms.map(|ms| format!("{ms} ms")).unwrap_or_default();
        table.row([edge.name.to_string(), state, ms, edge.reason.clone().unwrap_or_default()]);
    }
    format!("{}\n\n{}", lines.join("\n"), table.render("no edges have joined yet"))
}

async fn activate(site: &SiteName, args: &Activate, app: &App<'_>) -> Result<Exit, Failure> {
    let release = &args.release;
    let view = match app.client.activate_release(site, release).await {
        Ok(view) => view,
        Err(error) => return Err(failure(site, release, "was not activated", &error, app).await),
    };
    report(site, view, args.wait, app).await
}

/// Follows a release that control was told to activate, and prints it.
pub(super) async fn report(
    site: &SiteName,
    view: ReleaseView,
    wait: Wait,
    app: &App<'_>,
) -> Result<Exit, Failure> {
    let deadline = Instant::now() + app.settings.timeout.unwrap_or(TIMEOUT_DEFAULT);
    let (view, ended) = follow(&app.client, site, view, wait, deadline, app.console).await?;
    if ended == follow::Ended::Lost {
        return Err(follow::lost(&view));
    }
    app.console.result(&view, |view| {
        let at = view.url.as_deref().map(|url| format!(" at {url}")).unwrap_or_default();
        format!("release {} of {site} is {}{at}", view.id.short(), view.state.label())
    });
    Ok(ended.exit())
}

async fn delete(site: &SiteName, release: &str, app: &App<'_>) -> Result<Exit, Failure> {
    app.settings.confirm(&format!("Release {release} of {site} will be gone."))?;
    if let Err(error) = app.client.delete_release(site, release).await {
        return Err(failure(site, release, "was not deleted", &error, app).await);
    }
    let text = format!("release {release} of {site} is deleted");
    app.console.result(&json!({ "deleted": release }), |_| text);
    Ok(Exit::Ok)
}

async fn prune(site: &SiteName, keep: u32, app: &App<'_>) -> Result<Exit, Failure> {
    match app.client.prune_releases(site, keep).await {
        Ok(pruned) => {
            app.console.result(&pruned, |pruned| {
                let count = units::count(pruned.releases.len() as u64, "release", "releases");
                format!("{count} of {site} deleted; the newest {keep} and those that are live stay")
            });
            Ok(Exit::Ok)
        }
        Err(error) => Err(app
            .site_failure(site, format!("the releases of {site} were not pruned"), &error)
            .await),
    }
}

async fn failure(
    site: &SiteName,
    release: &str,
    what: &str,
    error: &CallError,
    app: &App<'_>,
) -> Failure {
    failure_of(site, format!("release {release} of {site} {what}"), error, app).await
}

/// A failed call about a release of the site.
pub(super) async fn failure_of(
    site: &SiteName,
    what: String,
    error: &CallError,
    app: &App<'_>,
) -> Failure {
    let failure = app.site_failure(site, what, error).await;
    match error.code() {
        Some("release_unknown" | "nothing_to_roll_back" | "release_state") => {
            failure.hint(format!("see which there are: nigh release list --site {site}"))
        }
        _ => failure,
    }
}
