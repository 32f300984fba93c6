//! Can the CA see the answers yet?
//!
//! A CA that looks too early counts a failure, so control looks first, as the CA will: it asks every
//! DNS server for the TXT records at its public address, and every address of a host for the file. A
//! DNS server that does not report but answers without the record is waited for; one that answers
//! nothing at all is dead, and no CA will hear of it either.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use hickory_proto::rr::RecordType;
use nigh_proto::{report::MachineRole, zone::DnsName};

use super::{
    limits::SetbackKind,
    lookup::{self, LookupError, Resolver},
    trouble::Fault,
};
use crate::{
    app::App,
    fleet::presence::Presence,
    store::{ChallengeKind, ChallengeRow, MachineRow},
};

/// How soon a machine that was not ready is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(150);
/// Questions at once.
const AT_ONCE: usize = 16;
/// How long one address of a host may take to give the file.
const FILE_PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer to a challenge is far shorter.
const FILE_MAX_BYTES: usize = 4096;

/// Waits until all `rows` of certificate `id`, which machines have from `revision` on, can be seen.
/// What DNS servers lack is not the fault of the names; what a host's addresses give is.
pub(crate) async fn seen(
    app: &App,
    id: &str,
    rows: &[ChallengeRow],
    revision: u64,
) -> Result<(), Fault> {
    let (dns, http): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.kind == ChallengeKind::Dns);
    let deadline = Duration::from_millis(app.effective().config.certificates.challenge_deadline_ms);
    let mut unseen = Fault::of_id(id, "machines took too long".to_owned());
    let waited = tokio::time::timeout(deadline, async {
        while let Err(why) = by_dns(app, &dns, revision).await {
            unseen = Fault::of_id(id, why);
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        loop {
            let missing = by_http(app, &http, revision).await;
            if missing.is_empty() {
                break;
            }
            unseen = Fault::of_names(missing, SetbackKind::Failed);
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    });
    let waited = waited.await;
    waited.map_err(|_| unseen)
}

/// Where TXT records cannot be seen yet.
async fn by_dns(app: &App, rows: &[&ChallengeRow], revision: u64) -> Result<(), String> {
    if rows.is_empty() {
        return Ok(());
    }
    let world = app.world();
    let servers: Vec<&MachineRow> =
        world.machines.iter().filter(|machine| machine.role == MachineRole::Dns).collect();
    let mut confirmed = 0;
    for server in servers {
        match ask_server(app, server, rows, revision).await {
            Seen::All => confirmed += 1,
            Seen::Dead => {}
            Seen::Not(why) => return Err(why),
        }
    }
    match confirmed {
        0 => Err("no DNS server of the fleet answers; start one, or check its address".to_owned()),
        _ => Ok(()),
    }
}

/// What one DNS server shows.
enum Seen {
    All,
    /// It neither reports nor answers.
    Dead,
    Not(String),
}

async fn ask_server(app: &App, server: &MachineRow, rows: &[&ChallengeRow], revision: u64) -> Seen {
    let name = &server.name;
    let presence = app.statuses().presence(name, app.instant());
    let reported = app.statuses().get(name).and_then(|status| status.revision);
    if presence == Presence::Here && reported < Some(revision) {
        return Seen::Not(format!("the DNS server {name} has not taken up the newest state yet"));
    }
    let Some(address) = address_of(server) else {
        // It does not say where it is asked; its word must do.
        return match presence {
            Presence::Here => Seen::All,
            Presence::Expected => Seen::Not(format!("the DNS server {name} is not heard of yet")),
            Presence::Away => Seen::Dead,
        };
    };
    let mut wanted: BTreeMap<DnsName, Vec<String>> = BTreeMap::new();
    for row in rows {
        wanted.entry(row.name.clone()).or_default().push(row.value.clone());
    }
    let looks = stream::iter(wanted).map(|(txt, values)| async move {
        let records = lookup::ask(address, &txt, RecordType::TXT, false).await?;
        let texts = lookup::texts(&records);
        let is_there = values.iter().all(|value| texts.iter().any(|text| text == value));
        Ok::<_, LookupError>((txt, is_there))
    });
    let mut looks = looks.buffer_unordered(AT_ONCE);
    while let Some(look) = looks.next().await {
        match look {
            Ok((_, true)) => {}
            Ok((txt, false)) => {
                return Seen::Not(format!("the DNS server {name} ({address}) has no {txt} yet"));
            }
            Err(LookupError::Silent(_)) if presence == Presence::Away => return Seen::Dead,
            Err(error) => return Seen::Not(format!("the DNS server {name}: {error}")),
        }
    }
    Seen::All
}

/// Where resolvers ask a DNS server.
fn address_of(server: &MachineRow) -> Option<SocketAddr> {
    let about = &server.about;
    let ip = about.ipv4.first().copied().map(IpAddr::V4);
    let ip = ip.or_else(|| about.ipv6.first().copied().map(IpAddr::V6))?;
    (about.ports.dns != 0).then(|| SocketAddr::new(ip, about.ports.dns))
}

/// The hosts that do not give the file, and what they give instead.
async fn by_http(app: &App, rows: &[&ChallengeRow], revision: u64) -> Vec<(DnsName, String)> {
    if rows.is_empty() {
        return Vec::new();
    }
    let world = app.world();
    let late = world.edges().find(|edge| {
        let statuses = app.statuses();
        let reported = statuses.get(&edge.name).and_then(|status| status.revision);
        statuses.presence(&edge.name, app.instant()) == Presence::Here && reported < Some(revision)
    });
    if let Some(edge) = late {
        let why = format!("the edge {} has not taken up the newest state yet", edge.name);
        return rows.iter().map(|row| (row.name.clone(), why.clone())).collect();
    }
    let effective = app.effective();
    let resolver = Resolver::new(&effective.config.certificates.resolvers).await;
    let port = effective.config.public.http_port;
    let rows: Vec<ChallengeRow> = rows.iter().copied().cloned().collect();
    let looks = stream::iter(rows).map(|row| {
        let resolver = resolver.clone();
        async move {
            let failed = file(&resolver, &row, port).await.err()?;
            Some((row.name, failed))
        }
    });
    looks.buffer_unordered(AT_ONCE).filter_map(|found| async { found }).collect().await
}

/// Asks every address of the host for the file, as the CA may.
async fn file(resolver: &Resolver, row: &ChallengeRow, port: u16) -> Result<(), String> {
    let host = &row.name;
    let addresses = resolver.addresses(host).await;
    let addresses =
        addresses.map_err(|error| format!("its address cannot be looked up: {error}"))?;
    if addresses.is_empty() {
        return Err("it has no address in DNS; point it at the fleet".to_owned());
    }
    for ip in addresses {
        let at = SocketAddr::new(ip, port);
        let given = tokio::time::timeout(FILE_PATIENCE, fetch(host, at, &row.token)).await;
        let given = given.map_err(|_| format!("{ip} does not answer on port {port}"))?;
        let given =
            given.map_err(|error| format!("{ip} does not answer on port {port}: {error}"))?;
        if given.as_deref().map(str::trim) != Some(row.value.as_str()) {
            return Err(format!(
                "it points to {ip}, which is no edge of this fleet, or an old one"
            ));
        }
    }
    Ok(())
}

async fn fetch(
    host: &DnsName,
    at: SocketAddr,
    token: &str,
) -> Result<Option<String>, reqwest::Error> {
    let http = reqwest::Client::builder()
        .resolve(host.as_str(), at)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    let url = format!("http://{host}:{}/.well-known/acme-challenge/{token}", at.port());
    let mut answer = http.get(url).send().await?;
    if !answer.status().is_success() {
        return Ok(None);
    }
    let mut text = Vec::new();
    while let Some(piece) = answer.chunk().await? {
        if text.len() + piece.len() > FILE_MAX_BYTES {
            return Ok(None);
        }
        text.extend_from_slice(&piece);
    }
    Ok(String::from_utf8(text).ok())
}

#[cfg(test)]
mod tests;
