//! `nigh status`: the fleet at a glance.

use nigh_proto::api::StatusView;

use super::{App, machine};
use crate::{
    exit::Exit,
    failure::{CallContext, Failure},
    units,
};

pub(crate) async fn run(app: &App<'_>) -> Result<Exit, Failure> {
    let status =
        app.client.status().await.or_fail(|| "the state of the fleet is not known".to_owned())?;
    app.console.result(&status, describe);
    Ok(Exit::Ok)
}

fn describe(status: &StatusView) -> String {
    let mut text = format!(
        "control   {} at revision {}\nsites     {} with {}\nblobs     {} in {}, {} free\n\n{}",
        status.version,
        status.revision,
        status.sites_total,
        units::count(status.releases_total, "release", "releases"),
        status.blobs_total,
        units::bytes(status.blobs_bytes),
        units::bytes(status.disk_free_bytes),
        machine::table(&status.machines).render("no machine has joined yet: nigh edge token NAME"),
    );
    for warning in &status.warnings {
        text.push_str("\nwarning: ");
        text.push_str(warning);
    }
    text
}
