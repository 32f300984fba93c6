//! `nigh token`: who may call the API, and for what.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use nigh_proto::{
    SiteName,
    api::{NewToken, Scope, TokenView},
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
    /// Make a token; its secret is shown once
    Create(Create),
    /// All tokens, without their secrets
    List,
    /// Make a token worthless at once
    Revoke(Revoke),
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// What people call it: "ci of docs"
    name: String,
    /// What it may do
    #[arg(long, value_enum, default_value = "push")]
    scope: ScopeArg,
    /// A site that it is for; may be repeated, all sites otherwise
    #[arg(long = "for-site", value_name = "NAME")]
    sites: Vec<SiteName>,
    /// How long it may be used; for ever otherwise
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration)]
    expires: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// The id that `nigh token list` shows
    id: String,
}

/// [`Scope`], as it is typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ScopeArg {
    /// Read sites, releases and machines
    Read,
    /// Push, activate, roll back; add and remove hosts
    Push,
    /// Everything
    Admin,
}

impl From<ScopeArg> for Scope {
    fn from(scope: ScopeArg) -> Self {
        match scope {
            ScopeArg::Read => Scope::Read,
            ScopeArg::Push => Scope::Push,
            ScopeArg::Admin => Scope::Admin,
        }
    }
}

pub(crate) async fn run(command: Command, app: &App<'_>) -> Result<Exit, Failure> {
    match command {
        Command::Create(args) => create(args, app).await,
        Command::List => list(app).await,
        Command::Revoke(args) => revoke(args, app).await,
    }
}

async fn create(args: Create, app: &App<'_>) -> Result<Exit, Failure> {
    let expires_ms = args.expires.and_then(|expires| u64::try_from(expires.as_millis()).ok());
    let new = NewToken { name: args.name, scope: args.scope.into(), sites: args.sites, expires_ms };
    let created =
        app.client.create_token(&new).await.or_fail(|| "the token was not made".to_owned())?;
    app.console.result(&created, |created| created.secret.clone());
    app.console.note(&format!(
        "this is token {}; keep the secret now, it is not shown again",
        created.token.id
    ));
    Ok(Exit::Ok)
}

async fn list(app: &App<'_>) -> Result<Exit, Failure> {
    let tokens = app.client.tokens().await.or_fail(|| "the tokens cannot be listed".to_owned())?;
    app.console.result(&json!({ "items": tokens }), |_| table(&tokens));
    Ok(Exit::Ok)
}

fn table(tokens: &[TokenView]) -> String {
    let mut table = Table::new(&["ID", "NAME", "SCOPE", "SITES", "EXPIRES", "LAST USED"]);
    for token in tokens {
        let sites = token.sites.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let scope = format!("{:?}", token.scope).to_lowercase();
        let time = |time: Option<nigh_proto::Timestamp>| {
            time.map_or_else(|| "never".to_owned(), |time| time.to_string())
        };
        table.row([
            token.id.to_string(),
            token.name.clone(),
            scope,
            if sites.is_empty() { "all".to_owned() } else { sites },
            time(token.expires_at),
            time(token.last_used_at),
        ]);
    }
    table.render("no tokens")
}

async fn revoke(args: Revoke, app: &App<'_>) -> Result<Exit, Failure> {
    app.client.revoke_token(&args.id).await.or_fail(|| format!("{} was not revoked", args.id))?;
    app.console.result(&json!({ "revoked": args.id }), |_| format!("{} is worthless now", args.id));
    Ok(Exit::Ok)
}
