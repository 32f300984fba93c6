//! `nigh cert`: the certificates that edges serve with.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use nigh_proto::{
    api::{CertificateSource, CertificateState, CertificateView, NewCertificate, RevocationReason},
    zone::DnsName,
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
    /// All certificates: those served, those that come, those that cannot be had
    List,
    /// One certificate
    Show(Named),
    /// Have a certificate of a public CA renewed now
    Renew(Named),
    /// Have the CA revoke a certificate; the next one is asked for at once
    Revoke(Revoke),
    /// Bring a certificate for the site; it is preferred to others
    Import(Import),
    /// Remove the certificate that was brought for the site
    Rm,
}

#[derive(Debug, Args)]
pub(crate) struct Named {
    /// The id that `nigh cert list` shows
    id: String,
}

#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// The id that `nigh cert list` shows
    id: String,
    /// Why
    #[arg(long, value_enum, default_value = "unspecified")]
    reason: ReasonArg,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// PEM: the site's certificate first, then those that it is signed with
    #[arg(value_hint = ValueHint::FilePath)]
    chain: PathBuf,
    /// PEM: its private key
    #[arg(value_hint = ValueHint::FilePath)]
    key: PathBuf,
}

/// [`RevocationReason`], as it is typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ReasonArg {
    Unspecified,
    /// Somebody else has the key
    KeyCompromise,
    Superseded,
    CessationOfOperation,
}

impl From<ReasonArg> for RevocationReason {
    fn from(reason: ReasonArg) -> Self {
        match reason {
            ReasonArg::Unspecified => RevocationReason::Unspecified,
            ReasonArg::KeyCompromise => RevocationReason::KeyCompromise,
            ReasonArg::Superseded => RevocationReason::Superseded,
            ReasonArg::CessationOfOperation => RevocationReason::CessationOfOperation,
        }
    }
}

pub(crate) async fn run(command: Command, app: &App<'_>) -> Result<Exit, Failure> {
    match command {
        Command::List => list(app).await,
        Command::Show(Named { id }) => {
            let shown = app.client.certificate(&id).await;
            let shown = shown.or_fail(|| format!("the certificate {id} cannot be shown"))?;
            app.console.result(&shown, text);
            Ok(Exit::Ok)
        }
        Command::Renew(Named { id }) => {
            let renewed = app.client.renew_certificate(&id).await;
            let renewed = renewed.or_fail(|| format!("{id} is not renewed"))?;
            app.console.result(&renewed, |_| {
                format!("{id} is renewed now; follow it with: nigh cert show {id}")
            });
            Ok(Exit::Ok)
        }
        Command::Revoke(args) => revoke(args, app).await,
        Command::Import(args) => import(&args, app).await,
        Command::Rm => remove(app).await,
    }
}

async fn list(app: &App<'_>) -> Result<Exit, Failure> {
    let all = app.client.certificates().await;
    let all = all.or_fail(|| "the certificates could not be listed".to_owned())?;
    app.console.result(&json!({ "items": all }), |_| table(&all));
    Ok(Exit::Ok)
}

async fn revoke(args: Revoke, app: &App<'_>) -> Result<Exit, Failure> {
    let Revoke { id, reason } = args;
    app.settings.confirm(&format!("Browsers may refuse {id} until the next one is there."))?;
    let revoked = app.client.revoke_certificate(&id, reason.into()).await;
    let revoked = revoked.or_fail(|| format!("{id} was not revoked"))?;
    app.console.result(&revoked, |_| format!("{id} is revoked; the next one is asked for"));
    Ok(Exit::Ok)
}

async fn import(args: &Import, app: &App<'_>) -> Result<Exit, Failure> {
    let site = app.settings.site()?;
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path).map_err(|error| {
            Failure::new(Exit::Usage, format!("{} cannot be read", path.display()))
                .caused_by(&error)
        })
    };
    let new = NewCertificate { chain_pem: read(&args.chain)?, key_pem: read(&args.key)? };
    match app.client.import_certificate(&site, &new).await {
        Ok(view) => {
            app.console.result(&view, |view| {
                let id = &view.id;
                format!("{site} gets its own certificate once an edge has proven it; follow it with: nigh cert show {id}")
            });
            Ok(Exit::Ok)
        }
        Err(error) => Err(app
            .site_failure(&site, format!("the certificate was not taken for {site}"), &error)
            .await),
    }
}

async fn remove(app: &App<'_>) -> Result<Exit, Failure> {
    let site = app.settings.site()?;
    app.settings.confirm(&format!("{site} is served with another certificate, or none."))?;
    match app.client.remove_certificate(&site).await {
        Ok(()) => {
            let text = format!("the certificate that was brought for {site} is removed");
            app.console.result(&json!({ "removed": format!("import:{site}") }), |_| text);
            Ok(Exit::Ok)
        }
        Err(error) => {
            Err(app.site_failure(&site, format!("{site} keeps its certificate"), &error).await)
        }
    }
}

fn state(view: &CertificateView) -> &'static str {
    match view.state {
        CertificateState::Served => "served",
        CertificateState::Proving => "proving",
        CertificateState::Refused => "refused",
        CertificateState::Ordering => "ordering",
        CertificateState::Waiting => "waiting",
    }
}

fn source(view: &CertificateView) -> String {
    match (view.source, &view.ca) {
        (CertificateSource::Internal, _) => "control".to_owned(),
        (CertificateSource::Import, _) => "own".to_owned(),
        (CertificateSource::Acme, Some(ca)) => {
            ca.trim_start_matches("https://").split('/').next().unwrap_or_default().to_owned()
        }
        (CertificateSource::Acme, None) => "public".to_owned(),
    }
}

fn names(names: &[DnsName]) -> String {
    match names {
        [] => "-".to_owned(),
        [one] => one.to_string(),
        [one, rest @ ..] => format!("{one} and {} more", rest.len()),
    }
}

fn table(views: &[CertificateView]) -> String {
    let mut table = Table::new(&["CERTIFICATE", "STATE", "FROM", "ENDS", "NAMES"]);
    for view in views {
        let ends = view.not_after.map_or("-".to_owned(), |end| end.to_string());
        table.row([
            view.id.clone(),
            state(view).to_owned(),
            source(view),
            ends,
            names(&view.names),
        ]);
    }
    let mut text = table.render("no certificates");
    let reasons: Vec<String> = views.iter().filter_map(reason).collect();
    if !reasons.is_empty() {
        text.push_str(&format!("\n\n{}", reasons.join("\n")));
    }
    text
}

/// Why one waits, or is kept out, and until when.
fn reason(view: &CertificateView) -> Option<String> {
    let (id, detail) = (&view.id, view.detail.as_ref()?);
    let next = view.retry_at.map(|at| format!("; next try at {at}")).unwrap_or_default();
    Some(format!("{id}: {detail}{next}"))
}

fn text(view: &CertificateView) -> String {
    let all = view.names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let edges = view.edges.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut lines = vec![
        ("certificate", view.id.clone()),
        ("state", state(view).to_owned()),
        ("names", all),
        ("from", source(view)),
    ];
    let mut put = |name, value: Option<String>| lines.extend(value.map(|value| (name, value)));
    put("issuer", view.issuer.clone());
    put("serial", view.serial.clone());
    put("begins", view.not_before.map(|time| time.to_string()));
    put("ends", view.not_after.map(|time| time.to_string()));
    put("renewed", view.renew_at.map(|time| time.to_string()));
    put("edges", Some(edges).filter(|edges| !edges.is_empty()));
    put("because", view.detail.clone());
    put("next try", view.retry_at.map(|time| time.to_string()));
    let line = |(name, value): &(&str, String)| format!("{name:<12}{value}");
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}
