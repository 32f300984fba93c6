//! `nigh operation`: work that goes on after a command has ended.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use nigh_proto::api::{OperationState, OperationView};
use serde_json::json;

use super::App;
use crate::{
    exit::Exit,
    failure::{CallContext, Failure},
    table::Table,
};

/// How long control may hold one question.
const POLL: Duration = Duration::from_secs(25);
/// How long is followed, unless `--timeout` says otherwise.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10 * 60);

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The newest operations
    List,
    /// How far one is
    Show(Show),
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The id that a command or `nigh operation list` printed
    id: String,
    /// Wait for its end
    #[arg(long, short)]
    follow: bool,
}

pub(crate) async fn run(command: Command, app: &App<'_>) -> Result<Exit, Failure> {
    match command {
        Command::List => list(app).await,
        Command::Show(args) => show(args, app).await,
    }
}

async fn list(app: &App<'_>) -> Result<Exit, Failure> {
    let operations = app.client.operations(20).await;
    let operations = operations.or_fail(|| "the operations cannot be listed".to_owned())?;
    app.console.result(&json!({ "items": operations }), |_| {
        let mut table = Table::new(&["OPERATION", "STATE", "SITE", "RELEASE", "EDGES", "BEGUN"]);
        for operation in &operations {
            table.row([
                operation.id.to_string(),
                operation.state.label().to_owned(),
                operation.site.to_string(),
                format!("{} {}", operation.release.short(), operation.release_state.label()),
                format!("{}/{}", operation.edges_done, operation.edges_total),
                operation.created_at.to_string(),
            ]);
        }
        table.render("nothing was ever begun")
    });
    Ok(Exit::Ok)
}

async fn show(args: Show, app: &App<'_>) -> Result<Exit, Failure> {
    let failed = || format!("operation {} cannot be shown", args.id);
    let deadline = Instant::now() + app.settings.timeout.unwrap_or(TIMEOUT_DEFAULT);
    let mut view = app.client.operation(&args.id, None).await.or_fail(failed)?;
    while args.follow && !view.state.is_over() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        app.console.note(&text(&view));
        let wait = (view.progress, POLL.min(left));
        view = app.client.operation(&args.id, Some(wait)).await.or_fail(failed)?;
    }
    app.console.result(&view, text);
    Ok(match view.state {
        OperationState::Failed => Exit::Conflict,
        OperationState::Succeeded => Exit::Ok,
        OperationState::Pending | OperationState::Running if args.follow => Exit::Timeout,
        OperationState::Pending | OperationState::Running => Exit::Ok,
    })
}

fn text(view: &OperationView) -> String {
    let why = view.problem.as_ref().map(|problem| format!(": {}", problem.detail));
    format!(
        "{} {}: release {} of {} is {}, {} of {} edges have it{}",
        view.id,
        view.state.label(),
        view.release.short(),
        view.site,
        view.release_state.label(),
        view.edges_done,
        view.edges_total,
        why.unwrap_or_default()
    )
}
