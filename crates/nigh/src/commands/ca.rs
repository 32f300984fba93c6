//! `nigh ca`: control's own CA, which clients and machines trust.

use clap::{Args, Subcommand};
use nigh_proto::api::{AuthorityStage, CaView};
use serde_json::json;

use super::App;
use crate::{
    exit::Exit,
    failure::{CallContext, Failure},
    table::Table,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Which CAs are trusted, and how far a rotation is
    Show(Show),
    /// Replace control's CA; nobody is cut off
    Rotate,
    /// End the trust in replaced CAs now; machines that were away since must join anew
    Retire,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Print the certificates that clients should trust, as a CA file
    #[arg(long)]
    pem: bool,
}

pub(crate) async fn run(command: Command, app: &App<'_>) -> Result<Exit, Failure> {
    match command {
        Command::Show(Show { pem }) => {
            let ca = app.client.ca().await.or_fail(|| "the CAs cannot be shown".to_owned())?;
            app.console.result(&ca, |ca| if pem { ca.bundle_pem.clone() } else { describe(ca) });
        }
        Command::Rotate => {
            let ca = app.client.rotate_ca().await;
            let ca = ca.or_fail(|| "the CA was not replaced".to_owned())?;
            app.console.result(&ca, describe);
            app.console.note(
                "Machines trust the new CA and renew by themselves; follow it with `nigh ca show`. \
                 Give people the new bundle before the old CA ends: nigh ca show --pem",
            );
        }
        Command::Retire => {
            let question = "Machines and people that trust only a replaced CA will be cut off.";
            app.settings.confirm(question)?;
            let ca = app.client.retire_ca().await;
            let ca = ca.or_fail(|| "the replaced CAs are trusted still".to_owned())?;
            app.console.result(&json!({ "authorities": ca.authorities }), |_| describe(&ca));
        }
    }
    Ok(Exit::Ok)
}

fn describe(ca: &CaView) -> String {
    let mut table = Table::new(&["CA", "STAGE", "SINCE", "UNTIL", "MACHINES", "FINGERPRINT"]);
    for authority in &ca.authorities {
        table.row([
            authority.number.to_string(),
            authority.stage.label().to_owned(),
            authority.since.to_string(),
            authority.not_after.to_string(),
            authority.machines.len().to_string(),
            authority.fingerprint.to_string(),
        ]);
    }
    let mut text = table.render("no CA");
    let is_on_its_way = ca.authorities.iter().any(|known| known.stage == AuthorityStage::Next);
    if is_on_its_way && !ca.waiting_for.is_empty() {
        let names: Vec<&str> = ca.waiting_for.iter().map(|name| name.as_str()).collect();
        text.push_str(&format!("\nwaiting until these trust the next CA: {}", names.join(", ")));
        if let Some(at) = ca.goes_on_at {
            text.push_str(&format!("\nit goes on without them at {at}"));
        }
    }
    for name in &ca.left_behind {
        text.push_str(&format!(
            "\n{name} does not trust the current CA: repair it or join it again before the retired \
             one ends"
        ));
    }
    text
}
