//! `nigh token`: who may call the API, and for what.

use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand, ValueEnum};
use nigh_control::{ControlConfig, recovery};
use nigh_proto::{
    SiteName,
    access::{Scope, Verb, Verbs},
    api::{NewToken, TokenView},
};
use serde_json::json;

use super::App;
use crate::{
    cli::GlobalArgs,
    console::Console,
    environment::Environment,
    exit::Exit,
    failure::{CallContext, Failure},
    role_config,
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
    /// On control's own host: make an administrator's token when the last one is lost
    Recover(Recover),
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// What people call it: "ci of docs"
    name: String,
    /// What it may do, in short; push unless verbs are given
    #[arg(long, value_enum)]
    scope: Option<ScopeArg>,
    /// One thing that it may do, such as releases:push; may be repeated
    #[arg(long = "verb", value_name = "VERB")]
    verbs: Vec<Verb>,
    /// A site that it is for; may be repeated, all sites otherwise
    #[arg(long = "for-site", value_name = "NAME")]
    sites: Vec<SiteName>,
    /// How long it may be used; for ever otherwise
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration)]
    expires: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct Recover {
    /// What people call it
    #[arg(default_value = "recovered")]
    name: String,
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
        Command::Recover(_) => unreachable!("handled by the caller"),
    }
}

async fn create(args: Create, app: &App<'_>) -> Result<Exit, Failure> {
    let expires_ms = args.expires.and_then(|expires| u64::try_from(expires.as_millis()).ok());
    let usual = args.verbs.is_empty().then_some(ScopeArg::Push);
    let new = NewToken {
        name: args.name,
        scope: args.scope.or(usual).map(Scope::from),
        verbs: args.verbs.into_iter().collect(),
        sites: args.sites,
        expires_ms,
    };
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
    let mut table = Table::new(&["ID", "NAME", "MAY", "SITES", "EXPIRES", "LAST USED"]);
    for token in tokens {
        let sites = token.sites.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let scope = token.scope.filter(|scope| Verbs::from(*scope) == token.verbs);
        let may = scope
            .map_or_else(|| token.verbs.to_string(), |scope| format!("{scope:?}").to_lowercase());
        let time = |time: Option<nigh_proto::Timestamp>| {
            time.map_or_else(|| "never".to_owned(), |time| time.to_string())
        };
        table.row([
            token.id.to_string(),
            token.name.clone(),
            may,
            if sites.is_empty() { "all".to_owned() } else { sites },
            time(token.expires_at),
            time(token.last_used_at),
        ]);
    }
    table.render("no tokens")
}

/// Makes a token in the database that control's configuration names.
pub(crate) async fn recover(
    args: Recover,
    global: &GlobalArgs,
    environment: &Environment,
    console: &Console,
) -> Result<Exit, Failure> {
    let named = global.config.clone().or_else(|| environment.config.clone());
    let path = named.unwrap_or_else(|| "/etc/nigh/control.toml".into());
    let config: ControlConfig = role_config::load(&path, "control")?;
    let now = SystemTime::from(nigh_proto::Timestamp::from_unix_ms(units::now_ms()));
    let secret = recovery::create_admin_token(&config, &args.name, now).await.map_err(|error| {
        Failure::new(Exit::Failure, "the token was not made")
            .caused_by(&error)
            .hint("run this on control's own host, as the user that control runs as")
    })?;
    console.result(&json!({ "secret": secret }), |_| secret.clone());
    console.note("it may administer everything; the audit log says that it was made here");
    Ok(Exit::Ok)
}

async fn revoke(args: Revoke, app: &App<'_>) -> Result<Exit, Failure> {
    app.client.revoke_token(&args.id).await.or_fail(|| format!("{} was not revoked", args.id))?;
    app.console.result(&json!({ "revoked": args.id }), |_| format!("{} is worthless now", args.id));
    Ok(Exit::Ok)
}
