//! `nigh ready`: can the roles on this machine do their work?
//!
//! Asks their operations pages, whose addresses are in their files. For containers and scripts, which
//! have no other client at hand.

use std::{path::Path, time::Duration};

use clap::ValueEnum as _;
use nigh_control::ControlConfig;
use nigh_dns::DnsConfig;
use nigh_edge::EdgeConfig;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{
    cli::GlobalArgs,
    console::Console,
    environment::Environment,
    exit::Exit,
    failure::Failure,
    role_config::{self, RoleConfig},
    serve::RoleName,
};

/// How long a page may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// No page of reasons is longer.
const PAGE_MAX_BYTES: u64 = 64 << 10;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The roles; those with a file in /etc/nigh otherwise
    #[arg(value_enum, value_name = "ROLE")]
    roles: Vec<RoleName>,
}

/// Succeeds when every role that was asked is ready.
pub(crate) async fn run(
    args: &Args,
    global: &GlobalArgs,
    environment: &Environment,
    console: &Console,
) -> Result<Exit, Failure> {
    let named = global.config.as_deref().or(environment.config.as_deref());
    let roles = match (&args.roles[..], named) {
        ([], Some(path)) => {
            let what = format!("{} may be the file of any role", path.display());
            return Err(Failure::new(Exit::Usage, what).hint("name the role: nigh ready edge"));
        }
        ([], None) => RoleName::value_variants()
            .iter()
            .filter(|role| file(**role).exists())
            .copied()
            .collect(),
        (roles, _) => roles.to_vec(),
    };
    if roles.is_empty() {
        let failure = Failure::new(Exit::Usage, "there is no role's file in /etc/nigh");
        return Err(failure.hint("name the role and its file: nigh ready edge --config FILE"));
    }
    let within = global.timeout.unwrap_or(PATIENCE);
    for role in &roles {
        let usual = file(*role);
        let path = named.unwrap_or(&usual);
        let address = address(*role, path)?;
        let asked = timeout(within, ask(&address)).await;
        let late = || std::io::Error::from(std::io::ErrorKind::TimedOut);
        let (is_ready, page) = asked.unwrap_or_else(|_| Err(late())).map_err(|error| {
            Failure::new(Exit::Failure, format!("{} does not answer at {address}", role.label()))
                .caused_by(&error)
        })?;
        if !is_ready {
            let what = format!("{} is not ready", role.label());
            let failure = Failure::new(Exit::Failure, what).code("not_ready");
            return Err(reasons(&page).into_iter().fold(failure, Failure::why));
        }
    }
    let labels: Vec<&str> = roles.iter().map(|role| role.label()).collect();
    console.result(&json!({ "ready": labels }), |_| format!("ready: {}", labels.join(", ")));
    Ok(Exit::Ok)
}

fn file(role: RoleName) -> std::path::PathBuf {
    Path::new("/etc/nigh").join(format!("{}.toml", role.label()))
}

/// Where the operations pages of a role are.
fn address(role: RoleName, path: &Path) -> Result<std::net::SocketAddr, Failure> {
    fn of<C: RoleConfig>(role: RoleName, path: &Path) -> Result<std::net::SocketAddr, Failure> {
        Ok(role_config::load::<C>(path, role.label())?.ops().address)
    }
    let mut address = match role {
        RoleName::Control => of::<ControlConfig>(role, path),
        RoleName::Edge => of::<EdgeConfig>(role, path),
        RoleName::Dns => of::<DnsConfig>(role, path),
    }?;
    // Every address is this machine's own too.
    if address.ip().is_unspecified() {
        address.set_ip(match address.is_ipv4() {
            true => std::net::Ipv4Addr::LOCALHOST.into(),
            false => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(address)
}

/// Whether the role there is ready, and its page.
async fn ask(address: &std::net::SocketAddr) -> std::io::Result<(bool, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(PAGE_MAX_BYTES).read_to_string(&mut answer).await?;
    let (head, page) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    Ok((head.starts_with("HTTP/1.1 200 "), page.to_owned()))
}

/// What the role waits for, as its page says.
fn reasons(page: &str) -> Vec<String> {
    let page: Value = serde_json::from_str(page).unwrap_or_default();
    let reasons = page["reasons"].as_array().cloned().unwrap_or_default();
    let reason =
        |one: &Value| Some(format!("{}: {}", one["name"].as_str()?, one["reason"].as_str()?));
    reasons.iter().filter_map(reason).collect()
}
