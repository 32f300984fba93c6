//! `nigh webhook`: servers that control tells what happens.

use clap::{Args, Subcommand};
use nigh_proto::{
    SiteName,
    api::{DeliveryOutcome, DeliveryView, EventKind, NewWebhook, WebhookView},
};
use serde_json::json;

use super::App;
use crate::{
    exit::Exit,
    failure::{CallContext, Failure},
    table::Table,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a webhook; its secret is shown once
    Add(Add),
    /// All webhooks, without their secrets
    List,
    /// Remove a webhook
    Rm(Named),
    /// Send it a test event now
    Test(Named),
    /// Turn it on again
    Enable(Named),
    /// The last attempts to deliver
    Deliveries(Named),
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// Where events are sent: <https://HOST/PATH>
    url: String,
    /// A kind of event that is sent; may be repeated, all otherwise
    #[arg(long = "event", value_name = "KIND")]
    events: Vec<EventKind>,
    /// A site whose events are sent; may be repeated, all and the fleet otherwise
    #[arg(long = "for-site", value_name = "NAME")]
    sites: Vec<SiteName>,
}

#[derive(Debug, Args)]
pub(crate) struct Named {
    /// The id that `nigh webhook list` shows
    id: String,
}

pub(crate) async fn run(command: Command, app: &App<'_>) -> Result<Exit, Failure> {
    match command {
        Command::Add(args) => add(args, app).await,
        Command::List => list(app).await,
        Command::Rm(Named { id }) => {
            let removed = app.client.delete_webhook(&id).await;
            removed.or_fail(|| format!("webhook {id} was not removed"))?;
            app.console.result(&json!({ "removed": id }), |_| format!("{id} is removed"));
            Ok(Exit::Ok)
        }
        Command::Test(Named { id }) => {
            let tested = app.client.test_webhook(&id).await;
            let delivery = tested.or_fail(|| format!("webhook {id} was not tested"))?;
            app.console.result(&delivery, outcome);
            let is_delivered = delivery.outcome == DeliveryOutcome::Delivered;
            Ok(if is_delivered { Exit::Ok } else { Exit::Failure })
        }
        Command::Enable(Named { id }) => {
            let enabled = app.client.enable_webhook(&id).await;
            let view = enabled.or_fail(|| format!("webhook {id} was not turned on"))?;
            app.console.result(&view, |_| format!("{id} is told what it missed"));
            Ok(Exit::Ok)
        }
        Command::Deliveries(Named { id }) => deliveries(&id, app).await,
    }
}

async fn add(args: Add, app: &App<'_>) -> Result<Exit, Failure> {
    let new = NewWebhook { url: args.url, events: args.events, sites: args.sites };
    let created =
        app.client.create_webhook(&new).await.or_fail(|| "the webhook was not made".to_owned())?;
    app.console.result(&created, |created| created.secret.clone());
    app.console.note(&format!(
        "this is webhook {}; keep the secret now, it is not shown again",
        created.webhook.id
    ));
    Ok(Exit::Ok)
}

async fn list(app: &App<'_>) -> Result<Exit, Failure> {
    let hooks = app.client.webhooks().await;
    let hooks = hooks.or_fail(|| "the webhooks cannot be listed".to_owned())?;
    app.console.result(&json!({ "items": hooks }), |_| {
        let mut table = Table::new(&["ID", "STATE", "EVENTS", "SITES", "URL"]);
        for hook in &hooks {
            table.row([
                hook.id.to_string(),
                state(hook),
                all_or(hook.events.iter().map(ToString::to_string).collect()),
                all_or(hook.sites.iter().map(ToString::to_string).collect()),
                hook.url.clone(),
            ]);
        }
        table.render("no webhooks")
    });
    Ok(Exit::Ok)
}

fn state(hook: &WebhookView) -> String {
    match (&hook.disabled_reason, hook.failing_since) {
        (Some(reason), _) if !hook.is_enabled => format!("off: {reason}"),
        (_, Some(since)) => format!("failing since {since}"),
        _ => "ok".to_owned(),
    }
}

fn all_or(names: Vec<String>) -> String {
    if names.is_empty() { "all".to_owned() } else { names.join(" ") }
}

async fn deliveries(id: &str, app: &App<'_>) -> Result<Exit, Failure> {
    let deliveries = app.client.deliveries(id).await;
    let deliveries = deliveries.or_fail(|| format!("what webhook {id} was told is not known"))?;
    app.console.result(&json!({ "items": deliveries }), |_| {
        let mut table = Table::new(&["AT", "EVENT", "KIND", "ATTEMPT", "OUTCOME"]);
        for delivery in &deliveries {
            table.row([
                delivery.at.to_string(),
                delivery.event.to_string(),
                delivery.kind.to_string(),
                delivery.attempt.to_string(),
                outcome(delivery),
            ]);
        }
        table.render("nothing was sent yet")
    });
    Ok(Exit::Ok)
}

fn outcome(delivery: &DeliveryView) -> String {
    let why = delivery.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
    format!("{} after {} ms{why}", delivery.outcome.label(), delivery.duration_ms)
}
