//! `nigh host`: the host names that a site answers to.

use clap::{Args, Subcommand};
use nigh_proto::{Host, api::HostView};
use serde_json::json;

use super::App;
use crate::{exit::Exit, failure::Failure, table::Table};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Let the site answer to a host
    Add(Named),
    /// No longer answer to a host
    Rm(Named),
    /// All hosts of the site
    List,
}

#[derive(Debug, Args)]
pub(crate) struct Named {
    /// The host name, such as www.example.com
    host: Host,
}

pub(crate) async fn run(command: Command, app: &App<'_>) -> Result<Exit, Failure> {
    let site = app.settings.site()?;
    let (what, error) = match command {
        Command::Add(Named { host }) => match app.client.add_host(&site, host.clone()).await {
            Ok(added) => {
                app.console.result(&added, added_text);
                return Ok(Exit::Ok);
            }
            Err(error) => (format!("{host} was not added to {site}"), error),
        },
        Command::Rm(Named { host }) => match app.client.remove_host(&site, &host).await {
            Ok(()) => {
                let text = format!("{site} no longer answers to {host}");
                app.console.result(&json!({ "removed": host }), |_| text);
                return Ok(Exit::Ok);
            }
            Err(error) => (format!("{host} was not taken from {site}"), error),
        },
        Command::List => match app.client.hosts(&site).await {
            Ok(hosts) => {
                app.console.result(&json!({ "items": hosts }), |_| table(&hosts));
                return Ok(Exit::Ok);
            }
            Err(error) => (format!("the hosts of {site} cannot be listed"), error),
        },
    };
    Err(app.site_failure(&site, what, &error).await)
}

pub(crate) fn added_text(host: &HostView) -> String {
    let HostView { host, site, is_in_zone, .. } = host;
    if *is_in_zone {
        format!("{site} answers to {host}")
    } else {
        format!(
            "{site} answers to {host}\n{host} is in no zone of this fleet: point it here with a CNAME to the site's default host (nigh host list)"
        )
    }
}

fn table(hosts: &[HostView]) -> String {
    let mut table = Table::new(&["HOST", "DEFAULT", "DNS"]);
    for host in hosts {
        let dns =
            if host.is_in_zone { "answered here" } else { "needs a CNAME to the default host" };
        let is_default = if host.is_default { "yes" } else { "" };
        table.row([host.host.to_string(), is_default.to_owned(), dns.to_owned()]);
    }
    table.render("no hosts")
}
