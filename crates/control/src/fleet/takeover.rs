//! What becomes of a machine's state when its fleet's control is lost?
//!
//! A machine's state says which sites there are, what they serve, and with which certificates. Control
//! takes it over as it takes in anything: [`check`] refuses what no control would have told, and [`plan`]
//! decides what is new here. What is here already stays as it is, so that doing it twice does no harm.
//! Manifests and files are not in a state; they come back by their digests.

use std::collections::{BTreeMap, BTreeSet};

use nigh_proto::{
    Host, ReleaseId, SiteName, Timestamp,
    api::ReleaseState,
    state::{
        Certificate, DnsState, EdgeState, MachineState, ReleasePurpose, ReleaseRef, SiteState,
        TicketKey,
    },
    zone::{DnsName, Zone},
};

use super::{Site, World, state::Settings};
use crate::{
    ca,
    certificates::inspect,
    store::{CertificateRow, HostRow, LOST_CONTROL, ReleaseRow, Source, TicketKeyRow},
};

/// As many sites as a fleet may have, and hosts and releases of each.
const SITES_MAX: usize = 10_000;
const HOSTS_MAX: usize = 100;
const RELEASES_MAX: usize = 1_000;
const CERTIFICATES_MAX: usize = 3 * SITES_MAX;
const CERTIFICATE_ID_MAX_BYTES: usize = 300;
const CERTIFICATE_MAX_BYTES: usize = 256 << 10;
const TICKET_KEYS_MAX: usize = 16;
const ZONES_MAX: usize = 10_000;
/// Sentences about what is left out.
const NOTES_MAX: usize = 100;

/// What a plan is made on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ground<'a> {
    pub world: &'a World,
    pub settings: &'a Settings,
    /// Every site has a host below it.
    pub domain: &'a Host,
    /// Names of control itself, which no site may have.
    pub own_names: &'a [String],
    pub grace_ms: i64,
    pub ticket_period_ms: i64,
    pub now: Timestamp,
}

/// What is to be written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub sites: Vec<SitePlan>,
    pub certificates: Vec<CertificateRow>,
    pub ticket_keys: Vec<TicketKeyRow>,
    /// Zones that the configuration does not name.
    pub zones_missing: Vec<Zone>,
    pub notes: Vec<String>,
}

/// A site, as far as it is not here.
#[derive(Clone, Debug)]
pub(crate) struct SitePlan {
    pub name: SiteName,
    pub is_new: bool,
    pub created_at: Timestamp,
    pub hosts: Vec<HostRow>,
    /// In no order that matters; their files are counted when their manifests have come.
    pub releases: Vec<ReleaseRow>,
    /// What the site is to serve, unless it serves something here.
    pub active: Option<ReleaseId>,
}

/// Refuses a state that no control of nigh would have told.
pub(crate) fn check(state: &MachineState) -> Result<(), &'static str> {
    match state {
        MachineState::Edge(state) => check_edge(state),
        MachineState::Dns(state) => {
            if state.sites.len() > SITES_MAX || state.zones.len() > ZONES_MAX {
                return Err("it has more sites or zones than a fleet may have");
            }
            let names: BTreeSet<_> = state.zones.iter().map(|zone| &zone.name).collect();
            if names.len() < state.zones.len() {
                return Err("it has a zone twice");
            }
            let is_outside =
                |zone: &Zone| zone.records.iter().any(|record| !record.name.is_within(&zone.name));
            if state.zones.iter().any(is_outside) {
                return Err("it has a record that is not within its zone");
            }
            Ok(())
        }
    }
}

fn check_edge(state: &EdgeState) -> Result<(), &'static str> {
    if state.sites.len() > SITES_MAX || state.certificates.len() > CERTIFICATES_MAX {
        return Err("it has more sites or certificates than a fleet may have");
    }
    if state.ticket_keys.len() > TICKET_KEYS_MAX {
        return Err("it has more keys of session tickets than there can be");
    }
    let (mut names, mut hosts, mut ids) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for site in &state.sites {
        if !names.insert(&site.name) {
            return Err("it has a site twice");
        }
        if site.hosts.len() > HOSTS_MAX || site.releases.len() > RELEASES_MAX {
            return Err("a site has more hosts or releases than it may have");
        }
        if !site.hosts.iter().all(|host| hosts.insert(host)) {
            return Err("it has a host twice");
        }
        if !site.releases.iter().all(|release| ids.insert(&release.id)) {
            return Err("it has a release twice");
        }
        let is_there = |id: &ReleaseId| site.releases.iter().any(|release| release.id == *id);
        let is_whole = site.active.iter().all(is_there)
            && site.previews.iter().all(|preview| is_there(&preview.release));
        if !is_whole {
            return Err("a site serves a release that it does not have");
        }
        let mut served = BTreeSet::new();
        if !site.previews.iter().all(|preview| served.insert(&preview.release)) {
            return Err("a release has two hosts of its own");
        }
    }
    Ok(())
}

/// What of the states is new on this ground.
pub(crate) fn plan(ground: Ground<'_>, edge: &EdgeState, dns: Option<&DnsState>) -> Plan {
    let mut plan = Plan::default();
    let mut taken: BTreeMap<Host, SiteName> = BTreeMap::new();
    for site in &ground.world.sites {
        taken.extend(site.hosts.iter().map(|host| (host.clone(), site.name.clone())));
    }
    // Whatever another site calls its own: the default host of a site is nobody else's.
    for site in &edge.sites {
        if let Some(host) = new_default_host(ground, &site.name) {
            taken.entry(host).or_insert_with(|| site.name.clone());
        }
    }
    for site in &edge.sites {
        plan_site(ground, site, &mut taken, &mut plan);
    }
    let mut known: BTreeSet<&SiteName> = ground.world.sites.iter().map(|site| &site.name).collect();
    known.extend(edge.sites.iter().map(|site| &site.name));
    for certificate in &edge.certificates {
        match plan_certificate(ground, certificate, &known) {
            Ok(row) => plan.certificates.extend(row),
            Err(why) => {
                plan.note(format!("certificate {} is left out: {why}", short(&certificate.id)))
            }
        }
    }
    let keys = edge.ticket_keys.iter().filter_map(|key| plan_ticket_key(ground, key));
    plan.ticket_keys = keys.collect();
    if let Some(dns) = dns {
        plan_zones(ground, dns, &mut plan);
    }
    plan
}

fn short(text: &str) -> String {
    text.chars().take(100).filter(|char| !char.is_control()).collect()
}

impl Plan {
    fn note(&mut self, text: String) {
        match self.notes.len() {
            count if count < NOTES_MAX => self.notes.push(text),
            NOTES_MAX => self.notes.push("and more of the kind".to_owned()),
            _ => {}
        }
    }
}

/// The default host of a site that is not here yet.
fn new_default_host(ground: Ground<'_>, site: &SiteName) -> Option<Host> {
    let is_new = ground.world.site(site).is_none();
    is_new.then(|| format!("{site}.{}", ground.domain).parse().ok()).flatten()
}

fn plan_site(
    ground: Ground<'_>,
    site: &SiteState,
    taken: &mut BTreeMap<Host, SiteName>,
    plan: &mut Plan,
) {
    let here = ground.world.site(&site.name);
    let default_host = new_default_host(ground, &site.name);
    let wanted = default_host
        .iter()
        .chain(site.hosts.iter().filter(|host| Some(*host) != default_host.as_ref()));
    let mut hosts = Vec::new();
    for host in wanted {
        match taken.get(host) {
            Some(owner) if *owner == site.name && Some(host) == default_host.as_ref() => {}
            Some(owner) if *owner == site.name => continue,
            Some(owner) => {
                plan.note(format!(
                    "{host} stays with the site {owner} and does not come to {}",
                    site.name
                ));
                continue;
            }
            None => {}
        }
        let is_reserved = host
            .as_str()
            .split('.')
            .any(|label| label.contains("--") && !label.starts_with("xn--"))
            || ground.own_names.iter().any(|own| own == host.as_str());
        if is_reserved {
            plan.note(format!("{host} may not be a host of {} and is left out", site.name));
            continue;
        }
        if here.map_or(0, |here| here.hosts.len()) + hosts.len() >= HOSTS_MAX {
            plan.note(format!("{} has as many hosts as it may have, without {host}", site.name));
            continue;
        }
        taken.insert(host.clone(), site.name.clone());
        let is_default = Some(host) == default_host.as_ref();
        hosts.push(HostRow { host: host.clone(), site: site.name.clone(), is_default });
    }
    if let Some(host) = &default_host
        && !site.hosts.contains(host)
    {
        plan.note(format!(
            "{} has the new default host {host}: sites.domain of the configuration was another",
            site.name
        ));
    }
    let serves = here.and_then(|site| site.active.as_ref());
    let releases: Vec<ReleaseRow> = site
        .releases
        .iter()
        .filter(|release| here.and_then(|here| here.release(&release.id)).is_none())
        .map(|release| release_row(ground, site, here, release))
        .collect();
    let active = site.active.clone().filter(|_| serves.is_none());
    if let (Some(here), Some(theirs)) =
        (serves, site.active.as_ref().filter(|id| Some(*id) != serves))
    {
        plan.note(format!(
            "{} goes on with {here}, which is active here; {theirs} can be activated",
            site.name
        ));
    }
    let is_new = here.is_none();
    if is_new || !hosts.is_empty() || !releases.is_empty() || active.is_some() {
        let made = site.releases.iter().map(|release| release.created_at).min();
        let created_at = made.unwrap_or(ground.now).min(ground.now);
        let name = site.name.clone();
        plan.sites.push(SitePlan { name, is_new, created_at, hosts, releases, active });
    }
}

/// A release as this control would have it. Who pushed it and why is lost.
fn release_row(
    ground: Ground<'_>,
    site: &SiteState,
    here: Option<&Site>,
    release: &ReleaseRef,
) -> ReleaseRow {
    let now = ground.now;
    let is_active = site.active.as_ref() == Some(&release.id);
    let has_other = here.is_some_and(|here| here.active.is_some());
    let preview = site.previews.iter().find(|preview| preview.release == release.id);
    let made_at = release.created_at.min(now);
    let mut row = ReleaseRow {
        id: release.id.clone(),
        site: site.name.clone(),
        state: ReleaseState::Staging,
        manifest: release.manifest,
        rules: release.rules,
        variants: release.variants,
        // Counted when the manifest has come.
        files_total: 0,
        bytes_total: 0,
        message: None,
        source: None,
        pushed_by: None,
        created_at: made_at,
        finalized_at: Some(made_at),
        staging_at: Some(now),
        goes_live: false,
        activated_at: None,
        live_revision: None,
        grace_until: None,
        preview_host: preview.map(|preview| preview.host.clone()),
        preview_expires_at: preview.and_then(|preview| preview.expires_at),
        failure: None,
    };
    match (release.purpose, is_active, preview) {
        (_, true, _) if !has_other => {
            row.state = ReleaseState::Active;
            row.goes_live = true;
            row.activated_at = Some(now);
        }
        (_, true, _) => {
            row.state = ReleaseState::Superseded;
            row.preview_host = None;
            row.activated_at = Some(made_at);
        }
        (ReleasePurpose::Grace { until }, false, _) => {
            row.state = ReleaseState::Superseded;
            row.preview_host = None;
            // It was superseded in the order in which its grace ends.
            row.activated_at = Some(until.plus_ms(-ground.grace_ms).min(now));
            row.grace_until = Some(until).filter(|until| *until > now);
        }
        (ReleasePurpose::Serve, false, Some(_)) => {
            row.state = ReleaseState::Preview;
            row.activated_at = Some(now);
        }
        // It was on its way: whoever has all of it says so, and it is ready then.
        (ReleasePurpose::Serve, false, None) => {}
    }
    row
}

/// `None`: there is a better one here.
fn plan_certificate(
    ground: Ground<'_>,
    certificate: &Certificate,
    known: &BTreeSet<&SiteName>,
) -> Result<Option<CertificateRow>, String> {
    let Certificate { id, names, chain_pem, key_pem, .. } = certificate;
    if id.len() > CERTIFICATE_ID_MAX_BYTES
        || chain_pem.len() + key_pem.len() > CERTIFICATE_MAX_BYTES
    {
        return Err("it is too long".to_owned());
    }
    let is_known = match id.split_once(':') {
        Some(("site" | "import", site)) => {
            site.parse::<SiteName>().is_ok_and(|site| known.contains(&site))
        }
        Some(("wildcard", name)) => name.parse::<DnsName>().is_ok(),
        Some(("host", name)) => name.parse::<Host>().is_ok(),
        _ => id == "previews",
    };
    if !is_known {
        return Err("it is for nothing that is known".to_owned());
    }
    let leaf = inspect::inspect(chain_pem, key_pem).map_err(|error| error.to_string())?;
    leaf.serves(&[], ground.now).map_err(|error| error.to_string())?;
    let source = match id.starts_with("import:") {
        true => Source::Import,
        false if ca::is_internal(chain_pem) => Source::Internal,
        false => Source::Acme,
    };
    let here = ground.world.certificates.iter().find(|row| row.id == *id);
    // Of a control that has just been made nobody has seen a certificate.
    let gives_way = |row: &CertificateRow| {
        row.source == Source::Internal
            && (source != Source::Internal || ground.world.sites.is_empty())
    };
    if here.is_some_and(|row| !gives_way(row)) {
        return Ok(None);
    }
    Ok(Some(CertificateRow {
        id: id.clone(),
        names: if source == Source::Import { names.clone() } else { leaf.names },
        chain_pem: chain_pem.clone(),
        key_pem: key_pem.clone(),
        not_before: leaf.not_before,
        not_after: leaf.not_after,
        source,
        ca: (source == Source::Internal).then(|| LOST_CONTROL.to_owned()),
        renew_at: None,
        ask_at: None,
    }))
}

fn plan_ticket_key(ground: Ground<'_>, key: &TicketKey) -> Option<TicketKeyRow> {
    let is_hex = |text: &str, bytes: usize| {
        text.len() == 2 * bytes
            && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_good = is_hex(&key.name, 16) && is_hex(&key.key, 32) && key.not_after > ground.now;
    let is_here = ground.world.ticket_keys.iter().any(|known| known.name == key.name);
    let lifetime_ms = ground.ticket_period_ms.saturating_mul(3);
    let created_at = key.not_after.plus_ms(lifetime_ms.saturating_neg()).min(ground.now);
    (is_good && !is_here).then(|| TicketKeyRow { key: key.clone(), created_at })
}

fn plan_zones(ground: Ground<'_>, dns: &DnsState, plan: &mut Plan) {
    for zone in &dns.zones {
        let Some(named) = ground.settings.zones.iter().find(|named| named.name == zone.name) else {
            plan.zones_missing.push(zone.clone());
            continue;
        };
        let gone = zone.records.iter().filter(|record| !named.records.contains(record)).count();
        let is_same = gone == 0 && zone.name_servers == named.name_servers;
        if !is_same {
            plan.note(format!(
                "the zone {} is as control's configuration has it now; {} had {gone} records and perhaps \
                 name servers that are not there",
                zone.name, dns.machine
            ));
        }
    }
    let networks =
        dns.networks.iter().filter(|known| !ground.settings.networks.contains(known)).count();
    if networks > 0 {
        plan.note(format!(
            "{} knew of {networks} networks that control's configuration does not name ([[networks]])",
            dns.machine
        ));
    }
}

#[cfg(test)]
mod tests;
