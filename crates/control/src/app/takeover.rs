//! Taking over what machines hold of a fleet whose control is lost.
//!
//! Control asks the machines that it holds back for their states (`fleet::offers`), and when it is told
//! to, makes of the newest one what it would have if it had never been lost (`fleet::takeover`), in one
//! transaction. Blobs come back as after any loss: `reconcile::refill` finds that they are missing.

use std::sync::{MutexGuard, PoisonError};

use nigh_proto::{
    MachineName,
    api::{EventKind, HeldMachine, NewTakeover, TakenOver, TakeoverPlan, TakeoverView},
    report::MachineRole,
    state::{Holding, MachineState},
    zone::DnsName,
};
use serde_json::{Map, Value, json};

use super::{App, AppError, Effective, sites::certificate_id};
use crate::{
    certificates::covers,
    config::{CertificateMode, ZoneConfig},
    fleet::{
        World,
        held::is_held,
        offers::{Choice, Offers},
        presence::Presence,
        takeover::{self, Ground, Plan, SitePlan},
    },
    request::Actor,
    store::{Deed, HostRow, MachineRow, Outcome, SettledRow, Tx},
};

/// What no machine holds.
const LOST: [&str; 6] = [
    "API tokens and webhooks: make new ones",
    "the audit log and the events",
    "quotas of sites",
    "releases that edges do not hold: all but the active ones, previews and those in grace",
    "messages, sources and pushers of releases",
    "accounts at public CAs, and what they have counted",
];

impl App {
    fn offers(&self) -> MutexGuard<'_, Offers> {
        self.0.offers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a machine that dials holds, and says so when it is to be told nothing.
    pub(crate) async fn note_held(
        &self,
        machine: &MachineRow,
        holding: &Holding,
    ) -> Result<(), AppError> {
        self.statuses().holds(&machine.name, holding.clone());
        let world = self.world();
        if !is_held(&world, holding) {
            return Ok(());
        }
        let is_news = {
            let mut told = self.0.held_told.lock().unwrap_or_else(PoisonError::into_inner);
            told.retain(|id| world.machines.iter().any(|row| row.id == *id));
            told.insert(machine.id.clone())
        };
        if !is_news {
            return Ok(());
        }
        let Holding { sites, revision, .. } = *holding;
        tracing::warn!(
            machine.name = %machine.name, sites, revision = revision.0,
            "{} holds {sites} sites that this control does not know; it is told nothing and goes on \
             serving them. Take them over (nigh restore --from-edges), or say that they are to be \
             dropped (nigh restore --from-edges --drop)",
            machine.name
        );
        let data = json!({ "sites_total": sites, "revision": revision.0, "fleet": holding.fleet });
        let mut tx = self.store().begin_unrecorded().await?;
        self.record(&mut tx, EventKind::MachineHeld, None, machine.name.as_str(), data).await?;
        tx.commit().await?;
        Ok(self.ring_events().await?)
    }

    /// What a machine holds that this control must not take away.
    pub(crate) fn held(&self, world: &World, machine: &MachineRow) -> Option<Holding> {
        let statuses = self.statuses();
        let holding = statuses.get(&machine.name)?.holding.clone()?;
        is_held(world, &holding).then_some(holding)
    }

    /// Whether a machine is to be asked for its state now.
    pub(crate) fn wants_state(&self, machine: &MachineRow) -> bool {
        let Some(holding) = self.held(&self.world(), machine) else { return false };
        self.offers().ask(&machine.name, machine.role, &holding, self.instant())
    }

    /// Whether this machine was asked for its state.
    pub(crate) fn is_asked_for_state(&self, machine: &MachineRow) -> bool {
        self.offers().asked(&machine.name).is_some()
    }

    /// Takes in the state of a machine that was asked for it.
    pub(crate) fn take_state(
        &self,
        machine: &MachineRow,
        state: MachineState,
    ) -> Result<(), AppError> {
        let (role, name) = match &state {
            MachineState::Edge(state) => (MachineRole::Edge, &state.machine),
            MachineState::Dns(state) => (MachineRole::Dns, &state.machine),
        };
        if role != machine.role || *name != machine.name {
            return Err(AppError::StateBad("it is the state of another machine"));
        }
        if self.offers().asked(&machine.name) != Some(state.holding()) {
            return Err(AppError::StateBad("it is not the one that the machine said it has"));
        }
        // Control's own went past that of every machine that dialled.
        if state.revision().0 >= self.world().revision {
            return Err(AppError::StateBad("its revision is not one that a control has given"));
        }
        takeover::check(&state).map_err(AppError::StateBad)?;
        self.offers().take(&machine.name, state);
        tracing::info!(machine.name = %machine.name, "{} has told its state", machine.name);
        Ok(())
    }

    /// Which machines are held, and what could be taken over from them.
    pub(crate) fn takeover_view(&self) -> TakeoverView {
        let world = self.world();
        let effective = self.effective();
        let choice = self.offers().choose(&[]);
        let machines = self.held_machines(&world, choice.as_ref());
        let is_late = |machine: &&HeldMachine| {
            let row = world.machine(&machine.name);
            let holding = row.and_then(|row| self.held(&world, row));
            let is_here = self.statuses().presence(&machine.name, self.instant()) != Presence::Away;
            is_here
                && holding.is_some_and(|holding| {
                    let now = self.instant();
                    self.offers().is_waiting(&machine.name, machine.role, &holding, now)
                })
        };
        TakeoverView {
            waiting_for: machines.iter().filter(is_late).map(|one| one.name.clone()).collect(),
            machines,
            plan: choice.map(|choice| shown(&self.plan(&world, &effective, &choice))),
            blobs_missing: self.wanted().len() as u64,
        }
    }

    fn held_machines(&self, world: &World, choice: Option<&Choice>) -> Vec<HeldMachine> {
        let is_chosen = |name: &MachineName| {
            choice.is_some_and(|choice| {
                choice.edge.0 == *name || choice.dns.as_ref().is_some_and(|dns| dns.0 == *name)
            })
        };
        let machine = |row: &MachineRow| {
            let Holding { fleet, revision, sites, zones } = self.held(world, row)?;
            Some(HeldMachine {
                name: row.name.clone(),
                role: row.role,
                fleet,
                revision: revision.0,
                sites_total: sites,
                zones_total: zones,
                has_told: self.offers().has(&row.name),
                is_chosen: is_chosen(&row.name),
            })
        };
        world.machines.iter().filter_map(machine).collect()
    }

    fn plan(&self, world: &World, effective: &Effective, choice: &Choice) -> Plan {
        let config = &effective.config;
        let ground = Ground {
            world,
            settings: &effective.settings,
            domain: &config.sites.domain,
            own_names: &config.certificate_names(),
            grace_ms: i64::try_from(config.sites.grace_ms).unwrap_or(i64::MAX),
            ticket_period_ms: i64::try_from(config.certificates.ticket_period_ms)
                .unwrap_or(i64::MAX),
            now: self.now(),
        };
        let Some(edge) = choice.edge_state() else { return Plan::default() };
        takeover::plan(ground, edge, choice.dns_state())
    }

    /// Takes over what the newest states of held machines say. With nothing to take over it is done.
    pub(crate) async fn take_over(&self, new: &NewTakeover) -> Result<TakenOver, AppError> {
        let mut tx = self.store().begin().await?;
        // As of this transaction: nobody else writes.
        let world = self.store().world().await?;
        let effective = self.effective();
        let choice = self.offers().choose(&new.from);
        let machines = self.held_machines(&world, choice.as_ref());
        let Some(choice) = choice else {
            if machines.is_empty() {
                return Ok(TakenOver {
                    from: Vec::new(),
                    plan: TakeoverPlan::default(),
                    lost: Vec::new(),
                    revision: world.revision,
                });
            }
            return Err(AppError::TakeoverEarly);
        };
        let plan = self.plan(&world, &effective, &choice);
        if !plan.zones_missing.is_empty() && !new.without_zones {
            let names: Vec<_> =
                plan.zones_missing.iter().map(|zone| zone.name.to_string()).collect();
            return Err(AppError::ZonesMissing(names.join(", ")));
        }
        let revision = tx.raise_revision_to(choice.revision.saturating_add(1)).await?;
        for site in &plan.sites {
            self.take_site(&mut tx, site, revision).await?;
        }
        for certificate in &plan.certificates {
            tx.put_certificate(certificate).await?;
        }
        for key in &plan.ticket_keys {
            tx.insert_ticket_key(key).await?;
        }
        self.certify_taken(&mut tx, &plan).await?;
        let settled = SettledRow { fleet: choice.fleet.clone(), revision: choice.revision };
        tx.settle_fleet(&settled, Outcome::TakenOver, self.now()).await?;
        let from: Vec<HeldMachine> = machines.into_iter().filter(|one| one.is_chosen).collect();
        let names: Vec<_> = from.iter().map(|one| one.name.to_string()).collect();
        let subject = choice.fleet.as_ref().map_or_else(String::new, ToString::to_string);
        let data = json!({ "sites_total": plan.sites.len(), "from": names });
        self.record(&mut tx, EventKind::FleetTakenOver, None, &subject, data).await?;
        let deed = Deed::new("fleet.take_over", &subject)
            .detail("from", names.join(", "))
            .detail("revision", choice.revision)
            .detail("sites_total", plan.sites.len())
            .detail("certificates_total", plan.certificates.len());
        tx.audit(self.now(), deed).await?;
        tx.commit().await?;
        self.settled().await?;
        let shown = shown(&plan);
        tracing::warn!(
            from = names.join(", "),
            sites_total = shown.sites.len(),
            "{} sites and {} releases were taken over from {}",
            shown.sites.len(),
            shown.releases_total,
            names.join(", ")
        );
        let lost = LOST.map(str::to_owned).to_vec();
        Ok(TakenOver { from, plan: shown, lost, revision })
    }

    /// Machines are told, and asked for what is missing.
    async fn settled(&self) -> Result<(), AppError> {
        self.publish().await?;
        let world = self.world();
        self.offers().retain(|_, holding| is_held(&world, holding));
        self.refilled().notify_one();
        Ok(())
    }

    async fn take_site(&self, tx: &mut Tx, site: &SitePlan, revision: u64) -> Result<(), AppError> {
        if site.is_new {
            tx.insert_site(&site.name, site.created_at).await?;
            let name = site.name.as_str();
            self.record(tx, EventKind::SiteCreated, Some(&site.name), name, json!({})).await?;
        }
        for host in &site.hosts {
            tx.insert_host(host, self.now()).await?;
        }
        let mut active = None;
        for release in &site.releases {
            // One that is over here already, or another site's, stays what it is.
            if tx.release(&release.id).await?.is_some() {
                continue;
            }
            let mut row = release.clone();
            if row.activated_at.is_some() && site.active.as_ref() == Some(&row.id) {
                row.live_revision = Some(revision);
                active = Some(row.id.clone());
            }
            tx.insert_release(&row).await?;
            tx.update_release(&row).await?;
            self.record_release(tx, &row).await?;
        }
        if let Some(active) = active {
            tx.set_active(&site.name, &active).await?;
        }
        Ok(())
    }

    /// Every site has the certificates that fit its hosts.
    async fn certify_taken(&self, tx: &mut Tx, plan: &Plan) -> Result<(), AppError> {
        let is_internal = self.effective().config.certificates.mode == CertificateMode::Internal;
        for site in &plan.sites {
            let hosts = tx.hosts(&site.name).await?;
            let own = tx.certificate(&certificate_id(&site.name)).await?;
            let has_own = own.is_some_and(|own| {
                let is_covered = |row: &HostRow| {
                    let host = DnsName::from(row.host.clone());
                    own.names.iter().any(|name| covers(name, &host))
                };
                hosts.iter().all(is_covered)
            });
            if is_internal && !has_own {
                self.certify(tx, &site.name).await?;
            } else {
                self.fit_import(tx, &site.name, &hosts).await?;
            }
        }
        Ok(())
    }

    /// Says that what machines hold of other fleets is to be dropped. Returns which machines those are.
    pub(crate) async fn drop_held(&self) -> Result<Vec<HeldMachine>, AppError> {
        let mut tx = self.store().begin().await?;
        let world = self.store().world().await?;
        let machines = self.held_machines(&world, None);
        if machines.is_empty() {
            return Ok(machines);
        }
        let mut fleets: Vec<_> = machines.iter().map(|machine| machine.fleet.clone()).collect();
        fleets.sort_unstable();
        fleets.dedup();
        for fleet in fleets {
            let subject = fleet.as_ref().map_or_else(String::new, ToString::to_string);
            let settled = SettledRow { fleet, revision: u64::MAX };
            tx.settle_fleet(&settled, Outcome::Dropped, self.now()).await?;
            self.record(&mut tx, EventKind::FleetDropped, None, &subject, json!({})).await?;
        }
        tx.raise_revision().await?;
        let names: Vec<_> = machines.iter().map(|machine| machine.name.to_string()).collect();
        tx.audit(self.now(), Deed::new("fleet.drop", names.join(", "))).await?;
        tx.commit().await?;
        self.settled().await?;
        tracing::warn!("what {} held of another fleet is dropped", names.join(", "));
        Ok(machines)
    }

    /// What an operator should know about machines that are told nothing.
    pub(super) fn held_warning(&self) -> Option<String> {
        let held = self.held_machines(&self.world(), None);
        let sites = held.iter().map(|machine| machine.sites_total).max()?;
        let names: Vec<_> = held.iter().map(|machine| machine.name.as_str()).collect();
        Some(format!(
            "{} hold {sites} sites that this control does not know, and are told nothing so that they \
             go on serving them: take them over (nigh restore --from-edges), or say that they are to be \
             dropped (nigh restore --from-edges --drop)",
            names.join(", ")
        ))
    }

    /// Counts the files of releases that were taken over, once their manifests are here.
    pub(crate) async fn count_files(&self, counted: &[Counted]) -> Result<(), AppError> {
        if counted.is_empty() {
            return Ok(());
        }
        let mut tx = self.begin_leading().await?;
        for Counted { release, files_total, bytes_total } in counted {
            tx.set_totals(release, *files_total, *bytes_total).await?;
        }
        tx.raise_revision().await?;
        let deed = Deed::new("release.count", "releases").detail("releases_total", counted.len());
        tx.audit_by(Actor::control(), self.now(), deed).await?;
        tx.commit().await?;
        Ok(self.publish().await?)
    }
}

/// How much a release holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    pub release: nigh_proto::ReleaseId,
    pub files_total: u64,
    pub bytes_total: u64,
}

fn shown(plan: &Plan) -> TakeoverPlan {
    TakeoverPlan {
        sites: plan.sites.iter().map(|site| site.name.clone()).collect(),
        releases_total: plan.sites.iter().map(|site| site.releases.len() as u64).sum(),
        certificates_total: plan.certificates.len() as u64,
        ticket_keys_total: plan.ticket_keys.len() as u64,
        zones_missing: plan
            .zones_missing
            .iter()
            .map(|zone| fields(&ZoneConfig::from(zone)))
            .collect(),
        notes: plan.notes.clone(),
    }
}

fn fields(zone: &ZoneConfig) -> Map<String, Value> {
    match serde_json::to_value(zone) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}
