//! `nigh site`: make, list, show and delete sites.

use std::str::FromStr;

use clap::{Args, Subcommand};
use nigh_proto::{
    Host, SiteName,
    api::{Change, NewSite, QuotasChange, SiteChange, SiteView},
};
use serde_json::json;

use super::App;
use crate::{
    exit::Exit,
    failure::{CallContext, Failure},
    table::Table,
    units,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a site; it answers at its default host at once
    Create(Create),
    /// All sites
    List,
    /// One site
    Show(Named),
    /// Change what a site may hold
    Set(Set),
    /// Delete a site, its hosts and its releases
    Delete(Delete),
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// What the site is called
    name: SiteName,
    /// A host besides the default one; may be repeated
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<Host>,
}

#[expect(clippy::doc_markdown, reason = "these comments are the help text, shown as they are")]
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// The site; --site, NIGH_SITE or nigh.toml otherwise
    name: Option<SiteName>,
}

#[expect(clippy::doc_markdown, reason = "these comments are the help text, shown as they are")]
#[derive(Debug, Args)]
pub(crate) struct Set {
    /// The site; --site, NIGH_SITE or nigh.toml otherwise
    name: Option<SiteName>,
    /// Files of one release; "default" for the fleet's own bound
    #[arg(long, value_name = "N")]
    files_max: Option<Bound>,
    /// Bytes of one release: 500000000, 500MB, 2GB
    #[arg(long, value_name = "SIZE")]
    bytes_max: Option<Bound>,
    /// Releases that control keeps
    #[arg(long, value_name = "N")]
    releases_max: Option<Bound>,
}

/// A bound as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    Default,
    Of(u64),
}

impl FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "default" => Ok(Bound::Default),
            text => units::parse_bytes(text).map(Bound::Of),
        }
    }
}

impl From<Bound> for Change<u64> {
    fn from(bound: Bound) -> Self {
        match bound {
            Bound::Default => Change::Unset,
            Bound::Of(max) => Change::Set(max),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// The site; typed, never taken from elsewhere
    name: SiteName,
}

pub(crate) async fn run(command: Command, app: &App<'_>) -> Result<Exit, Failure> {
    match command {
        Command::Create(args) => create(args, app).await,
        Command::List => list(app).await,
        Command::Show(args) => show(args, app).await,
        Command::Set(args) => set(args, app).await,
        Command::Delete(args) => delete(args, app).await,
    }
}

async fn create(args: Create, app: &App<'_>) -> Result<Exit, Failure> {
    let Create { name, hosts } = args;
    let site = app
        .client
        .create_site(&NewSite { name: name.clone(), hosts })
        .await
        .or_fail(|| format!("site {name} was not made"))?;
    app.console.result(&site, |site| {
        format!(
            "site {} is at {}\nnow push a folder: nigh push DIR --site {}",
            site.name, site.url, site.name
        )
    });
    Ok(Exit::Ok)
}

async fn list(app: &App<'_>) -> Result<Exit, Failure> {
    let sites = app.client.sites().await.or_fail(|| "the sites could not be listed".to_owned())?;
    app.console.result(&json!({ "items": sites }), |_| table(&sites));
    Ok(Exit::Ok)
}

fn table(sites: &[SiteView]) -> String {
    let mut table = Table::new(&["SITE", "ACTIVE", "RELEASES", "URL"]);
    for site in sites {
        table.row([
            site.name.to_string(),
            site.active.as_ref().map_or("-", |release| release.short()).to_owned(),
            site.releases_total.to_string(),
            site.url.clone(),
        ]);
    }
    table.render("no sites yet; make one: nigh site create NAME")
}

async fn show(args: Named, app: &App<'_>) -> Result<Exit, Failure> {
    let name = args.or_settings(app)?;
    let site = match app.client.site(&name).await {
        Ok(site) => site,
        Err(error) => {
            return Err(app
                .site_failure(&name, format!("site {name} cannot be shown"), &error)
                .await);
        }
    };
    app.console.result(&site, describe);
    Ok(Exit::Ok)
}

fn describe(site: &SiteView) -> String {
    let hosts = site.hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let active = site.active.as_ref().map_or("none", |release| release.as_str());
    format!(
        "site      {}\nurl       {}\nhosts     {hosts}\nactive    {active}\nreleases  {}\n\
             files     {}\nsize      {}\ncreated   {}",
        site.name,
        site.url,
        of(site.releases_total.to_string(), site.quotas.releases_max.map(|max| max.to_string())),
        of(site.files_total.to_string(), site.quotas.files_max.map(|max| max.to_string())),
        of(units::bytes(site.bytes_total), site.quotas.bytes_max.map(units::bytes)),
        site.created_at
    )
}

/// How much of what may be.
fn of(total: String, max: Option<String>) -> String {
    max.map_or(total.clone(), |max| format!("{total} of {max}"))
}

async fn set(args: Set, app: &App<'_>) -> Result<Exit, Failure> {
    let Set { name, files_max, bytes_max, releases_max } = args;
    let name = Named { name }.or_settings(app)?;
    let change = |bound: Option<Bound>| bound.map_or(Change::None, Change::from);
    let quotas = QuotasChange {
        files_max: change(files_max),
        bytes_max: change(bytes_max),
        releases_max: change(releases_max),
    };
    if quotas == QuotasChange::default() {
        return Err(Failure::new(Exit::Usage, "nothing is to be changed")
            .hint("name a bound: nigh site set NAME --bytes-max 2GB"));
    }
    let change = SiteChange { quotas: Change::Set(quotas) };
    match app.client.change_site(&name, &change).await {
        Ok(site) => app.console.result(&site, describe),
        Err(error) => {
            let what = format!("site {name} was not changed");
            return Err(app.site_failure(&name, what, &error).await);
        }
    }
    Ok(Exit::Ok)
}

async fn delete(Delete { name }: Delete, app: &App<'_>) -> Result<Exit, Failure> {
    app.settings.confirm(&format!("Site {name} and all of its releases will be gone."))?;
    if let Err(error) = app.client.delete_site(&name).await {
        return Err(app.site_failure(&name, format!("site {name} was not deleted"), &error).await);
    }
    app.console.result(&json!({ "deleted": name }), |_| format!("site {name} is deleted"));
    Ok(Exit::Ok)
}

impl Named {
    fn or_settings(self, app: &App<'_>) -> Result<SiteName, Failure> {
        self.name.map_or_else(|| app.settings.site(), Ok)
    }
}
