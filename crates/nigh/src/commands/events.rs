//! `nigh events`: what happened in the fleet, and what happens now.

use nigh_proto::{
    SiteName,
    api::{EventKind, EventView},
};
use serde_json::json;

use super::App;
use crate::{
    exit::Exit,
    failure::{CallContext, Failure},
};

/// How long control may hold one question.
const POLL_MS: u64 = 25_000;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Go on with what happens from now on, until interrupted; with --json one document a line
    #[arg(long, short)]
    follow: bool,
    /// A kind of event, such as `release_active`; may be repeated, all otherwise
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<EventKind>,
    /// A site; may be repeated, all and the fleet otherwise
    #[arg(long = "for-site", value_name = "NAME")]
    sites: Vec<SiteName>,
    /// Those behind the event of this id, instead of the newest
    #[arg(long, value_name = "ID")]
    after: Option<u64>,
    /// How many of the newest
    #[arg(long, value_name = "COUNT", default_value_t = 20, conflicts_with = "after")]
    newest: u32,
}

pub(crate) async fn run(args: Args, app: &App<'_>) -> Result<Exit, Failure> {
    let mut filters = Vec::new();
    let joined = |names: Vec<String>| names.join(",");
    if !args.kinds.is_empty() {
        let kinds = args.kinds.iter().map(ToString::to_string).collect();
        filters.push(("kind", joined(kinds)));
    }
    if !args.sites.is_empty() {
        let sites = args.sites.iter().map(ToString::to_string).collect();
        filters.push(("site", joined(sites)));
    }
    // Where to go on is known before anything is shown, so that nothing falls between.
    let now = match (args.after, args.follow) {
        (None, true) => newest_id(app).await?,
        _ => 0,
    };
    let mut query = filters.clone();
    match args.after {
        Some(after) => query.push(("after", after.to_string())),
        None => query.push(("newest", args.newest.max(1).to_string())),
    }
    let events = pages(app, &query).await?;
    if !args.follow {
        app.console.result(&json!({ "items": events }), |_| {
            events.iter().map(line).collect::<Vec<_>>().join("\n")
        });
        return Ok(Exit::Ok);
    }
    let last = events.last().map_or(args.after.unwrap_or(now), |event| event.id.max(now));
    show(&events, app);
    follow(app, &filters, last).await
}

async fn newest_id(app: &App<'_>) -> Result<u64, Failure> {
    let newest = pages(app, &[("newest", "1".to_owned())]).await?;
    Ok(newest.last().map_or(0, |event| event.id))
}

/// Every page of an answer.
async fn pages(app: &App<'_>, query: &[(&str, String)]) -> Result<Vec<EventView>, Failure> {
    let mut events = Vec::new();
    let mut query = query.to_vec();
    loop {
        let page = app.client.events(&query).await.or_fail(|| "no events can be had".to_owned())?;
        events.extend(page.items);
        let Some(cursor) = page.next_cursor else { return Ok(events) };
        query.retain(|(name, _)| *name != "cursor");
        query.push(("cursor", cursor));
    }
}

async fn follow(app: &App<'_>, filters: &[(&str, String)], mut last: u64) -> Result<Exit, Failure> {
    loop {
        let mut query = filters.to_vec();
        query.push(("after", last.to_string()));
        query.push(("wait_ms", POLL_MS.to_string()));
        let events = pages(app, &query).await?;
        show(&events, app);
        last = events.last().map_or(last, |event| event.id);
    }
}

fn show(events: &[EventView], app: &App<'_>) {
    for event in events {
        app.console.result(event, line);
    }
}

fn line(event: &EventView) -> String {
    let site = event.site.as_ref().map(|site| format!("  site {site}")).unwrap_or_default();
    let reason = event.data.get("reason").and_then(|reason| reason.as_str());
    let reason = reason.map(|reason| format!("  {reason}")).unwrap_or_default();
    let is_named = event.site.as_ref().is_some_and(|site| site.as_str() == event.subject);
    let subject = if is_named { String::new() } else { format!("  {}", event.subject) };
    format!("{:>8}  {}  {}{subject}{site}{reason}", event.id, event.at, event.kind)
}
