//! `nigh token`: who may call the API, and for what.

use std::{
    str::FromStr,
    time::{Duration, SystemTime},
};

use clap::{Args, Subcommand, ValueEnum};
use nigh_control::{ControlConfig, recovery};
use nigh_proto::{
    SiteName,
    access::{Scope, Verb, Verbs},
    api::{Change, NewToken, TokenChange, TokenView},
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
    /// Rename a token, move its end, or take away what it may do
    Set(Set),
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
pub(crate) struct Set {
    /// The id that `nigh token list` shows
    id: String,
    /// What people call it
    #[arg(long)]
    name: Option<String>,
    /// What it may do from now on, in short; never more than before
    #[arg(long, value_enum)]
    scope: Option<ScopeArg>,
    /// One thing that it may do from now on; may be repeated
    #[arg(long = "verb", value_name = "VERB")]
    verbs: Vec<Verb>,
    /// A site that it is for from now on; may be repeated
    #[arg(long = "for-site", value_name = "NAME")]
    sites: Vec<SiteName>,
    /// How long it may be used from now on, or `never` for one that does not expire
    #[arg(long, value_name = "DURATION|never")]
    expires: Option<Expiry>,
}

/// When a token ends, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expiry {
    Never,
    After(Duration),
}

impl FromStr for Expiry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "never" => Ok(Expiry::Never),
            text => units::parse_duration(text).map(Expiry::After),
        }
    }
}

impl Set {
    /// Scope and verbs are one thing to say: what is not named of them is gone.
    fn change(self) -> TokenChange {
        let is_less = self.scope.is_some() || !self.verbs.is_empty();
        TokenChange {
            name: self.name,
            scope: match self.scope {
                Some(scope) => Change::Set(scope.into()),
                None if is_less => Change::Unset,
                None => Change::None,
            },
            verbs: is_less.then(|| self.verbs.into_iter().collect()),
            sites: Some(self.sites).filter(|sites| !sites.is_empty()),
            expires_ms: match self.expires {
                None => Change::None,
                Some(Expiry::Never) => Change::Unset,
                Some(Expiry::After(after)) => {
                    Change::Set(u64::try_from(after.as_millis()).unwrap_or(u64::MAX))
                }
            },
        }
    }
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
        Command::Set(args) => set(args, app).await,
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

async fn set(args: Set, app: &App<'_>) -> Result<Exit, Failure> {
    let id = args.id.clone();
    let change = args.change();
    if change == TokenChange::default() {
        return Err(Failure::new(Exit::Usage, "nothing is to be changed")
            .hint("name something: nigh token set ID --expires 30d"));
    }
    let token = app.client.change_token(&id, &change).await;
    let token = token.or_fail(|| format!("{id} was not changed"))?;
    app.console.result(&token, |token| table(std::slice::from_ref(token)));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_token_may_do_is_said_as_a_whole() {
        let set = |scope, verbs| Set {
            id: "tok_1".to_owned(),
            name: None,
            scope,
            verbs,
            sites: Vec::new(),
            expires: None,
        };
        let of_verbs = set(None, vec![Verb::SitesRead]).change();
        assert_eq!((of_verbs.scope, of_verbs.verbs), (Change::Unset, Some(Verb::SitesRead.into())));
        let of_scope = set(Some(ScopeArg::Read), Vec::new()).change();
        assert_eq!((of_scope.scope, of_scope.verbs), (Change::Set(Scope::Read), Some(Verbs::NONE)));
        assert_eq!(set(None, Vec::new()).change(), TokenChange::default());
    }

    #[test]
    fn an_end_is_a_duration_or_never() {
        assert_eq!("never".parse(), Ok(Expiry::Never));
        assert_eq!("1h".parse(), Ok(Expiry::After(Duration::from_secs(3600))));
        assert!("soon".parse::<Expiry>().is_err());
    }
}
