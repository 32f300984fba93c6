//! `nigh edge` and `nigh dns`: the machines of the fleet.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use nigh_proto::{
    MachineName,
    api::{JoinTokenCreated, MachineView, NewJoinToken},
    report::MachineRole,
};
use serde_json::json;

use super::App;
use crate::{
    exit::Exit,
    failure::{CallContext, Failure},
    suggest,
    table::Table,
    units,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// All machines of this kind
    List,
    /// One machine
    Show(Named),
    /// Make a join token, which one new machine may use once
    Token(Token),
    /// Take a machine out of the DNS answers; it goes on serving
    Drain(Named),
    /// Put a drained machine back into the DNS answers
    Undrain(Named),
    /// Void a machine's certificates: it is cut off at once and must join again
    Revoke(Named),
    /// Remove a machine from the fleet
    Rm(Named),
}

/// The same for DNS servers. Draining is for edges: the zone names the DNS servers, whatever they do.
#[derive(Debug, Subcommand)]
pub(crate) enum DnsCommand {
    /// All machines of this kind
    List,
    /// One machine
    Show(Named),
    /// Make a join token, which one new machine may use once
    Token(Token),
    /// Void a machine's certificates: it is cut off at once and must join again
    Revoke(Named),
    /// Remove a machine from the fleet
    Rm(Named),
}

impl From<DnsCommand> for Command {
    fn from(command: DnsCommand) -> Self {
        match command {
            DnsCommand::List => Command::List,
            DnsCommand::Show(named) => Command::Show(named),
            DnsCommand::Token(token) => Command::Token(token),
            DnsCommand::Revoke(named) => Command::Revoke(named),
            DnsCommand::Rm(named) => Command::Rm(named),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Named {
    /// The machine
    name: MachineName,
}

#[derive(Debug, Args)]
pub(crate) struct Token {
    /// What the new machine is called
    name: MachineName,
    /// How long the token may be used
    #[arg(long, default_value = "1h", value_parser = units::parse_duration)]
    expires: Duration,
    /// Write the token to a file that only you can read, instead of printing it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(crate) async fn run(
    command: Command,
    role: MachineRole,
    app: &App<'_>,
) -> Result<Exit, Failure> {
    match command {
        Command::List => list(role, app).await,
        Command::Show(Named { name }) => show(role, &name, app).await,
        Command::Token(args) => token(role, args, app).await,
        Command::Drain(Named { name }) => drain(role, &name, true, app).await,
        Command::Undrain(Named { name }) => drain(role, &name, false, app).await,
        Command::Revoke(Named { name }) => revoke(role, &name, app).await,
        Command::Rm(Named { name }) => remove(role, &name, app).await,
    }
}

async fn machines(role: MachineRole, app: &App<'_>) -> Result<Vec<MachineView>, Failure> {
    let machines = app.client.machines(Some(role)).await;
    machines.or_fail(|| format!("the {} machines cannot be listed", role.label()))
}

/// The machine of this role; one of the other role is not meant.
async fn find(
    role: MachineRole,
    name: &MachineName,
    app: &App<'_>,
) -> Result<MachineView, Failure> {
    let machines = machines(role, app).await?;
    if let Some(found) = machines.iter().find(|machine| machine.name == *name) {
        return Ok(found.clone());
    }
    let label = role.label();
    let failure = Failure::new(Exit::NotFound, format!("there is no {label} machine {name}"))
        .code("machine_unknown");
    let known = machines.iter().map(|machine| machine.name.as_str());
    Err(match suggest::did_you_mean(name.as_str(), known) {
        Some(hint) => failure.hint(hint),
        None => failure.hint(format!("see which there are: nigh {label} list")),
    })
}

async fn list(role: MachineRole, app: &App<'_>) -> Result<Exit, Failure> {
    let machines = machines(role, app).await?;
    app.console.result(&json!({ "items": machines }), |_| {
        let none = format!("none yet; make a join token: nigh {} token NAME", role.label());
        table(&machines).render(&none)
    });
    Ok(Exit::Ok)
}

pub(super) fn table(machines: &[MachineView]) -> Table {
    let mut table = Table::new(&["NAME", "ROLE", "REGION", "STATE", "ADDRESSES", "VERSION", "UP"]);
    for machine in machines {
        table.row([
            machine.name.to_string(),
            machine.role.label().to_owned(),
            machine.region.as_ref().map(ToString::to_string).unwrap_or_default(),
            state(machine).to_owned(),
            machine.addresses.join(" "),
            machine.version.clone(),
            // Of a machine that is away nothing newer is known.
            match machine.is_connected {
                true => units::duration(Duration::from_secs(machine.health.uptime_ms / 1000)),
                false => String::new(),
            },
        ]);
    }
    table
}

const fn state(machine: &MachineView) -> &'static str {
    if machine.turned_away.is_some() {
        return "turned away";
    }
    if machine.is_connected && machine.is_held {
        return "held";
    }
    match (machine.is_connected, machine.is_drained, machine.is_current) {
        (false, _, _) => "away",
        (true, true, _) => "drained",
        (true, false, false) => "catching up",
        (true, false, true) => "up",
    }
}

async fn show(role: MachineRole, name: &MachineName, app: &App<'_>) -> Result<Exit, Failure> {
    let machine = find(role, name, app).await?;
    app.console.result(&machine, describe);
    Ok(Exit::Ok)
}

fn describe(machine: &MachineView) -> String {
    let health = &machine.health;
    let percent = |ratio: f64| format!("{:.1} %", ratio * 100.0);
    let mut lines = vec![
        format!("name       {}", machine.name),
        format!("role       {}", machine.role.label()),
        format!("state      {}", state(machine)),
        format!("addresses  {}", machine.addresses.join(" ")),
        format!("version    {}, protocol {}", machine.version, machine.protocol),
        format!(
            "revision   {}",
            machine.revision.map_or_else(|| "none yet".to_owned(), |it| it.to_string())
        ),
        format!("joined     {}", machine.joined_at),
    ];
    if let Some(why) = &machine.turned_away {
        lines.push(format!("turned away, since {why}"));
    }
    if machine.is_held {
        lines.push(
            "held       it has sites that this control does not know, and is told nothing: see nigh \
             restore --from-edges"
                .to_owned(),
        );
    }
    if let Some(region) = &machine.region {
        lines.insert(2, format!("region     {region}"));
    }
    if let Some(end) = machine.certificate_not_after {
        lines.push(format!("certificate until {end}"));
    }
    if let Some(at) = machine.last_seen_at {
        lines.push(format!("last seen  {at}"));
    }
    if machine.is_connected {
        lines.extend([
            format!("up         {}", units::duration(Duration::from_secs(health.uptime_ms / 1000))),
            format!("memory     {}", units::bytes(health.resident_bytes)),
            format!("disk free  {}", units::bytes(health.disk_free_bytes)),
            format!("cpu steal  {}", percent(health.cpu_steal_ratio)),
            format!(
                "pressure   cpu {}, io {}, memory {}",
                percent(health.cpu_pressure_ratio),
                percent(health.io_pressure_ratio),
                percent(health.memory_pressure_ratio)
            ),
        ]);
    }
    lines.join("\n")
}

async fn token(role: MachineRole, args: Token, app: &App<'_>) -> Result<Exit, Failure> {
    let Token { name, expires, out } = args;
    let expires_ms = u64::try_from(expires.as_millis()).ok();
    let created = app
        .client
        .create_join_token(&NewJoinToken { role, name: name.clone(), expires_ms })
        .await
        .or_fail(|| format!("no join token was made for {name}"))?;
    let Some(path) = out else {
        app.console.result(&created, |created| created.token.clone());
        let file = format!("/etc/nigh/{}.join-token", role.label());
        app.console.note(&where_to(role, &name, &file, &created));
        return Ok(Exit::Ok);
    };
    nigh_durable::write_secret(&path, created.token.as_bytes()).map_err(|error| {
        Failure::new(Exit::Failure, format!("the token could not be written to {}", path.display()))
            .caused_by(&error)
            .hint("choose a folder that is there; the token that was made ends by itself")
    })?;
    let report = json!({ "file": path, "expires_at": created.expires_at });
    app.console.result(&report, |_| format!("the join token of {name} is in {}", path.display()));
    app.console.note(&where_to(role, &name, &path.to_string_lossy(), &created));
    Ok(Exit::Ok)
}

/// What to put where on the new machine.
fn where_to(role: MachineRole, name: &MachineName, file: &str, made: &JoinTokenCreated) -> String {
    let (role, expires_at, url) = (role.label(), made.expires_at, &made.control_url);
    format!(
        "{name} may join with it once, until {expires_at}. Put it into {file} there, readable for \
         the user of the role alone (nigh-{role} when the package is installed), and \
         into /etc/nigh/{role}.toml:\n\n  [control]\n  url = \"{url}\"\n  join_token_file = \
         \"{file}\"\n\nThe token names control's CA, so no CA file is needed."
    )
}

async fn drain(
    role: MachineRole,
    name: &MachineName,
    is_drained: bool,
    app: &App<'_>,
) -> Result<Exit, Failure> {
    find(role, name, app).await?;
    let verb = if is_drained { "drained" } else { "undrained" };
    app.client.set_drained(name, is_drained).await.or_fail(|| format!("{name} was not {verb}"))?;
    app.console.result(&json!({ "name": name, "is_drained": is_drained }), |_| {
        let answers = if is_drained { "leaves" } else { "is back in" };
        format!("{name} {answers} the DNS answers; it serves all the while")
    });
    Ok(Exit::Ok)
}

async fn revoke(role: MachineRole, name: &MachineName, app: &App<'_>) -> Result<Exit, Failure> {
    find(role, name, app).await?;
    app.settings.confirm(&format!("{name} will be cut off at once and must join anew."))?;
    app.client.revoke_machine(name).await.or_fail(|| format!("{name} was not revoked"))?;
    app.console.result(&json!({ "revoked": name }), |_| {
        format!(
            "the certificates of {name} are void; join it again: nigh {} token {name}",
            role.label()
        )
    });
    Ok(Exit::Ok)
}

async fn remove(role: MachineRole, name: &MachineName, app: &App<'_>) -> Result<Exit, Failure> {
    find(role, name, app).await?;
    app.settings.confirm(&format!("{name} will be out of the fleet and must join anew."))?;
    app.client.remove_machine(name).await.or_fail(|| format!("{name} was not removed"))?;
    app.console.result(&json!({ "removed": name }), |_| format!("{name} is out of the fleet"));
    Ok(Exit::Ok)
}
