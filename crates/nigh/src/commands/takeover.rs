//! `nigh restore --from-edges`: a control without a backup takes over what its machines hold.

use std::time::{Duration, Instant};

use nigh_proto::api::{HeldMachine, NewTakeover, TakenOver, TakeoverPlan, TakeoverView};
use serde_json::json;

use super::{App, restore::Args};
use crate::{
    exit::Exit,
    failure::{CallContext as _, Failure},
    table::Table,
    units,
};

/// Machines tell their states with their next reports.
const STATES_WAIT: Duration = Duration::from_secs(30);
/// How long blobs are waited for, unless `--timeout` says otherwise.
const BLOBS_WAIT: Duration = Duration::from_secs(10 * 60);
const POLL: Duration = Duration::from_millis(500);

pub(crate) async fn run(args: &Args, app: &App<'_>) -> Result<Exit, Failure> {
    if args.drop {
        return drop(app).await;
    }
    let view = told(app).await?;
    if args.dry_run {
        app.console.result(&view, describe_view);
        return Ok(Exit::Ok);
    }
    if let Some(plan) = view.plan.as_ref().filter(|plan| !plan.zones_missing.is_empty())
        && !args.without_zones
    {
        return Err(Failure::new(Exit::Conflict, "nothing was taken over")
            .code("zones_missing")
            .why("DNS servers answer for zones that control's configuration does not name")
            .hint(format!(
                "put this into control.toml, reload control and repeat:\n\n{}",
                zones(plan)
            ))
            .hint("or let go of the zones: --without-zones"));
    }
    let new = NewTakeover { from: args.by.clone(), without_zones: args.without_zones };
    let taken = app.client.take_over(&new).await;
    let taken = taken.or_fail(|| "nothing was taken over".to_owned())?;
    let missing = if taken.from.is_empty() { 0 } else { refilled(app).await? };
    let report = json!({ "taken_over": taken, "blobs_missing": missing });
    app.console.result(&report, |_| describe(&taken, missing));
    Ok(if missing > 0 { Exit::Partial } else { Exit::Ok })
}

async fn view(app: &App<'_>) -> Result<TakeoverView, Failure> {
    app.client.takeover().await.or_fail(|| "what machines hold is not known".to_owned())
}

/// What machines hold, once those that are asked for their states have told them.
async fn told(app: &App<'_>) -> Result<TakeoverView, Failure> {
    let deadline = Instant::now() + app.settings.timeout.unwrap_or(STATES_WAIT).min(STATES_WAIT);
    let mut said = false;
    loop {
        let view = view(app).await?;
        if view.waiting_for.is_empty() || Instant::now() >= deadline {
            return Ok(view);
        }
        if !std::mem::replace(&mut said, true) {
            let names: Vec<_> = view.waiting_for.iter().map(|name| name.as_str()).collect();
            app.console.note(&format!("waiting for what these hold: {}", names.join(", ")));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until edges have given back the blobs; how many are missing still.
async fn refilled(app: &App<'_>) -> Result<u64, Failure> {
    let deadline = Instant::now() + app.settings.timeout.unwrap_or(BLOBS_WAIT);
    let (mut last, mut quiet) = (u64::MAX, 0);
    loop {
        let missing = view(app).await?.blobs_missing;
        // Control looks for what is missing a moment after it took over, and manifests say more.
        quiet = if missing == 0 { quiet + 1 } else { 0 };
        if quiet > 8 || Instant::now() >= deadline {
            return Ok(missing);
        }
        if missing > 0 && missing != last {
            app.console.note(&format!("{} to come", units::count(missing, "blob is", "blobs are")));
            last = missing;
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn drop(app: &App<'_>) -> Result<Exit, Failure> {
    let held = view(app).await?;
    if !held.machines.is_empty() {
        let sites = held.machines.iter().map(|machine| machine.sites_total).max().unwrap_or(0);
        app.settings.confirm(&format!(
            "{} that {} hold will be served no more.",
            units::count(sites, "site", "sites"),
            names(&held.machines)
        ))?;
    }
    let dropped = app.client.drop_held().await;
    let dropped = dropped.or_fail(|| "nothing was dropped".to_owned())?;
    app.console.result(&json!({ "dropped": dropped.machines }), |_| {
        match dropped.machines.is_empty() {
            true => "no machine holds anything that this control does not know".to_owned(),
            false => format!("{} get this control's state now", names(&dropped.machines)),
        }
    });
    Ok(Exit::Ok)
}

fn names(machines: &[HeldMachine]) -> String {
    machines.iter().map(|machine| machine.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn describe_view(view: &TakeoverView) -> String {
    let mut table = Table::new(&["MACHINE", "ROLE", "REVISION", "SITES", "ZONES", "COUNTS"]);
    for machine in &view.machines {
        table.row([
            machine.name.to_string(),
            machine.role.label().to_owned(),
            machine.revision.to_string(),
            machine.sites_total.to_string(),
            machine.zones_total.to_string(),
            match (machine.is_chosen, machine.has_told) {
                (true, _) => "yes",
                (false, true) => "no: another is newer, or the same",
                (false, false) => "no: another is enough, or it has not told yet",
            }
            .to_owned(),
        ]);
    }
    let mut text = table.render("no machine holds anything that this control does not know");
    if let Some(plan) = &view.plan {
        text.push_str(&format!("\n\n{}", describe_plan(plan)));
        if !plan.zones_missing.is_empty() {
            text.push_str(&format!("\n\nzones that control.toml lacks:\n\n{}", zones(plan)));
        }
    }
    text
}

fn describe_plan(plan: &TakeoverPlan) -> String {
    let sites: Vec<_> = plan.sites.iter().map(|site| site.as_str()).collect();
    let mut text = format!(
        "{} ({}), {}, {}, {} of session tickets",
        units::count(plan.sites.len() as u64, "site", "sites"),
        if sites.is_empty() { "none new".to_owned() } else { sites.join(", ") },
        units::count(plan.releases_total, "release", "releases"),
        units::count(plan.certificates_total, "certificate", "certificates"),
        units::count(plan.ticket_keys_total, "key", "keys"),
    );
    for note in &plan.notes {
        text.push_str(&format!("\nnote: {note}"));
    }
    text
}

fn describe(taken: &TakenOver, missing: u64) -> String {
    if taken.from.is_empty() {
        return "no machine holds anything that this control does not know: nothing to take over"
            .to_owned();
    }
    let from = taken.from.iter().map(|one| format!("{} (revision {})", one.name, one.revision));
    let mut text = format!(
        "taken over from {}: {}",
        from.collect::<Vec<_>>().join(" and "),
        describe_plan(&taken.plan)
    );
    for lost in &taken.lost {
        text.push_str(&format!("\nlost: {lost}"));
    }
    text.push_str(&match missing {
        0 => "\nEdges gave back every file.".to_owned(),
        missing => format!(
            "\n{} missing still; edges go on giving them back (nigh status)",
            units::count(missing, "blob is", "blobs are")
        ),
    });
    text
}

/// Zones as `control.toml` has them.
fn zones(plan: &TakeoverPlan) -> String {
    toml::to_string(&json!({ "zones": plan.zones_missing })).unwrap_or_default()
}
