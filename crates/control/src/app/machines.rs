//! Joining, draining and removing machines, and what they report.

use std::time::Duration;

use nigh_proto::{
    Digest, FleetId, MachineId, MachineName, Timestamp,
    api::{EventKind, JoinTokenCreated, NewJoinToken},
    refill::ReportAnswer,
    report::{JoinRequest, JoinResponse, MachineRole, RenewRequest, Report},
};
use serde_json::json;

use super::{App, AppError, Expected, Secret, begin::checked_duration, error::JoinRefusal};
use crate::{
    ca::{self, Presented},
    fleet::{
        copies::Standing,
        sense::{check_about, sensible, statements},
    },
    random::random,
    request::{Actor, ActorKind},
    store::{Deed, JoinTokenRow, MachineRow},
};

const HOUR_MS: u64 = 60 * 60 * 1000;
const JOIN_TOKENS_MAX: u64 = 10_000;
/// A clock that is wrong by more makes expiries and certificates wrong.
pub(super) const CLOCK_AHEAD_MAX_MS: i64 = 5_000;
/// A machine whose clock is wrong by more could not use its certificate.
const JOIN_CLOCK_MAX_MS: i64 = 10 * 60 * 1000;
/// How often an open connection is looked at that nothing has happened to.
const VOID_LOOK: Duration = Duration::from_secs(30);

/// How many sites more than twice those of the fleet may be remembered of one machine's reports.
const SITES_SPARE: usize = 16;

/// What an operator does to a machine.
enum Edit {
    Drained(bool),
    /// Only what has joined since is the machine.
    Identity(MachineId),
    Gone,
}

impl Edit {
    /// The event that tells of it, and the verb of the audit log.
    const fn names(&self) -> (EventKind, &'static str) {
        match self {
            Edit::Drained(true) => (EventKind::MachineDrained, "machine.drain"),
            Edit::Drained(false) => (EventKind::MachineUndrained, "machine.undrain"),
            Edit::Identity(_) => (EventKind::MachineRevoked, "machine.revoke"),
            Edit::Gone => (EventKind::MachineRemoved, "machine.remove"),
        }
    }
}

impl App {
    pub(crate) async fn create_join_token(
        &self,
        new: NewJoinToken,
    ) -> Result<JoinTokenCreated, AppError> {
        let total = self.store().join_tokens_total().await?;
        if total >= JOIN_TOKENS_MAX {
            return Err(AppError::TooMany {
                what: "join tokens",
                field: None,
                total,
                max: JOIN_TOKENS_MAX,
            });
        }
        let now = self.now();
        let expires_ms = checked_duration("expires_ms", new.expires_ms.unwrap_or(HOUR_MS))?;
        let secret = Secret::join();
        let row = JoinTokenRow {
            hash: secret.hash(),
            role: new.role,
            machine: new.name,
            created_at: now,
            expires_at: now.plus_ms(expires_ms),
            used_by: None,
        };
        let mut tx = self.store().begin().await?;
        tx.insert_join_token(&row).await?;
        let deed = Deed::new("join_token.create", &row.machine)
            .detail("role", row.role.label())
            .detail("expires_at", row.expires_at);
        tx.audit(now, deed).await?;
        tx.commit().await?;
        tracing::info!(machine.name = %row.machine, "a join token for {} was made", row.machine);
        let token = format!("{}.{}", secret.reveal(), self.authority().fingerprint());
        let control_url = self.effective().config.machines.url();
        Ok(JoinTokenCreated { token, expires_at: row.expires_at, control_url })
    }

    /// Takes a machine into the fleet. The token is used up only when everything else is right;
    /// the machine that used it may ask again with the same key, since its answer may be lost.
    pub(crate) async fn join(&self, request: &JoinRequest) -> Result<JoinResponse, AppError> {
        let unknown = || AppError::JoinRefused(JoinRefusal::Unknown);
        let secret: Secret = request.token.parse().map_err(|_| unknown())?;
        let now = self.now();
        let key = ca::request_key(&request.csr_pem)?;
        check_about(&request.about).map_err(AppError::Nonsense)?;
        let mut tx = self.store().begin().await?;
        let token = tx.join_token(&secret.hash()).await?.filter(|_| secret.is_join());
        let token = token.ok_or_else(unknown)?;
        judge(&token, request, &key, now)?;
        let id = MachineId::new(self.unix_ms(), random());
        let identity = ca::identity(token.machine, token.role, id);
        let authority = self.authority();
        let certificate = authority.sign_machine(
            &request.csr_pem,
            &identity,
            self.effective().config.machines.certificate_ms,
            now,
        )?;
        let row = MachineRow {
            name: identity.name,
            id: identity.id,
            role: identity.role,
            about: request.about.clone(),
            is_drained: false,
            joined_at: now,
            signer: certificate.signer,
            certificate_not_after: certificate.not_after,
        };
        tx.use_join_token(&secret.hash(), &key).await?;
        tx.put_machine(&row).await?;
        if row.role == MachineRole::Edge {
            tx.lag_everywhere(&row.name).await?;
        }
        let data = json!({ "role": row.role });
        self.record(&mut tx, EventKind::MachineJoined, None, row.name.as_str(), data).await?;
        tx.raise_revision().await?;
        let (id, name) = (Some(row.id.to_string()), row.name.to_string());
        let actor = Actor { kind: ActorKind::Machine, id, name };
        let deed = Deed::new("machine.join", &row.name).detail("role", row.role.label());
        tx.audit_by(actor, now, deed).await?;
        tx.commit().await?;
        // What is known of the name was said by another machine, or with another disk. Once more
        // after everyone can see that, for a report that came in between.
        self.statuses().forget(&row.name);
        self.publish().await?;
        self.statuses().forget(&row.name);
        let (name, role) = (row.name, row.role.label());
        tracing::info!(machine.name = %name, role, "{role} {name} joined the fleet");
        let ca_pem = self.authority().bundle_pem();
        Ok(JoinResponse { name, certificate_pem: certificate.pem, ca_pem })
    }

    /// Gives a machine of the fleet its next certificate. The one before stays good until it ends:
    /// the machine goes over to the new one when it has seen it work.
    pub(crate) async fn renew(
        &self,
        machine: &MachineRow,
        request: &RenewRequest,
    ) -> Result<JoinResponse, AppError> {
        let now = self.now();
        let ahead_ms = request.sent_at.ms_since(now);
        if ahead_ms.abs() > CLOCK_AHEAD_MAX_MS {
            tracing::warn!(
                machine.name = %machine.name, ahead_ms,
                "the clock of {} says {}, control's says {now}; set it by NTP",
                machine.name, request.sent_at
            );
        }
        let identity = ca::identity(machine.name.clone(), machine.role, machine.id.clone());
        let lifetime_ms = self.effective().config.machines.certificate_ms;
        let mut tx = self.store().begin().await?;
        let certificate =
            self.authority().sign_machine(&request.csr_pem, &identity, lifetime_ms, now)?;
        let (signer, not_after) = (certificate.signer, certificate.not_after);
        if !tx.set_certificate(&machine.id, signer, not_after).await? {
            return Err(AppError::MachineRemoved(machine.name.clone()));
        }
        // No machine is told of it, so the revision stays: a thousand that renew after a rotation
        // must not send a thousand states to each other.
        tx.commit().await?;
        tracing::info!(machine.name = %machine.name, %not_after, "{} renewed its certificate", machine.name);
        let name = machine.name.clone();
        let ca_pem = self.authority().bundle_pem();
        Ok(JoinResponse { name, certificate_pem: certificate.pem, ca_pem })
    }

    /// Ends when what a connection has shown is void: its machine was removed or has joined again,
    /// its certificate has ended, or the CA that signed it is no longer trusted.
    pub(crate) async fn void(&self, presented: &Presented) {
        let mut worlds = self.follow();
        let mut looks = tokio::time::interval(VOID_LOOK);
        // What is void from the start is told so in words, request by request.
        let mut was_good = false;
        loop {
            match (was_good, self.is_good(presented)) {
                (true, false) => return,
                (_, is_good) => was_good = is_good,
            }
            tokio::select! {
                changed = worlds.changed() => if changed.is_err() { return },
                _ = looks.tick() => {}
            }
        }
    }

    fn is_good(&self, presented: &Presented) -> bool {
        let Presented { identity, issuer, not_after } = presented;
        let world = self.world();
        world.machine(&identity.name).is_some_and(|row| row.id == identity.id)
            && *not_after > self.now()
            && self.authority().is_trusted(issuer)
    }

    pub(crate) async fn set_drained(
        &self,
        name: &MachineName,
        is_drained: bool,
        expected: &Expected,
    ) -> Result<(), AppError> {
        self.edit_machine(name, expected, &Edit::Drained(is_drained)).await?;
        let what = if is_drained { "drained" } else { "taken back into the answers" };
        tracing::info!(machine.name = %name, "{name} is {what}");
        Ok(())
    }

    /// Makes every certificate of a machine void: its connections end, and it has to join again.
    /// It stays in the fleet with everything else that is known of it.
    pub(crate) async fn revoke_machine(
        &self,
        name: &MachineName,
        expected: &Expected,
    ) -> Result<(), AppError> {
        let id = MachineId::new(self.unix_ms(), random());
        self.edit_machine(name, expected, &Edit::Identity(id)).await?;
        self.statuses().forget(name);
        tracing::warn!(machine.name = %name, "the certificates of {name} were revoked");
        Ok(())
    }

    /// Removes a machine: its certificate is void from now on, and its stream ends.
    pub(crate) async fn delete_machine(
        &self,
        name: &MachineName,
        expected: &Expected,
    ) -> Result<(), AppError> {
        self.edit_machine(name, expected, &Edit::Gone).await?;
        self.statuses().forget(name);
        tracing::info!(machine.name = %name, "{name} was removed from the fleet");
        Ok(())
    }

    /// Changes a machine that is as expected, and tells everyone.
    async fn edit_machine(
        &self,
        name: &MachineName,
        expected: &Expected,
        edit: &Edit,
    ) -> Result<(), AppError> {
        let mut tx = self.store().begin().await?;
        if let Some(machine) = tx.machine(name).await? {
            expected.allow(&machine.edits())?;
        }
        let is_there = match edit {
            Edit::Drained(is_drained) => tx.set_drained(name, *is_drained).await?,
            Edit::Identity(id) => tx.set_machine_id(name, id).await?,
            Edit::Gone => tx.delete_machine(name).await?,
        };
        if !is_there {
            return Err(AppError::MachineUnknown(name.clone()));
        }
        let (kind, verb) = edit.names();
        self.record(&mut tx, kind, None, name.as_str(), json!({})).await?;
        tx.raise_revision().await?;
        tx.audit(self.now(), Deed::new(verb, name)).await?;
        tx.commit().await?;
        Ok(self.publish().await?)
    }

    /// Takes in what a machine says, as far as it can be true. Only what it says of itself is
    /// durable, when it is new. The number of the report when the next one may go on from it; `None`
    /// when the machine is to tell everything.
    pub(crate) async fn take_report(
        &self,
        machine: &MachineRow,
        report: Report,
    ) -> Result<Option<u64>, AppError> {
        // Its report may have taken long to arrive.
        let world = self.world();
        if world.machine(&machine.name).is_none_or(|row| row.id != machine.id) {
            return Err(AppError::MachineRemoved(machine.name.clone()));
        }
        let said = statements(&report);
        let mut report = sensible(&world, report).map_err(AppError::Nonsense)?;
        if statements(&report) < said {
            // What is not known here may be in a moment: the machine is to say it again.
            report.sequel.number = 0;
        }
        let number = report.sequel.number;
        let about = report.about.clone();
        self.require_newest(machine, report.credentials.instance).await?;
        let (now, instant) = (self.now(), self.instant());
        let is_shared = self.desk().is_shared();
        let (is_clock_news, whole) = {
            let mut statuses = self.statuses();
            if !statuses.can_complete(&report, 2 * world.sites.len() + SITES_SPARE) {
                return Ok(None);
            }
            let told = is_shared.then(|| Report {
                sites: Vec::new(),
                certificates: Vec::new(),
                ..report.clone()
            });
            let is_clock_news = statuses.reported(report, instant, now);
            (is_clock_news, told.map(|told| statuses.completed(told)))
        };
        if let Some(whole) = whole {
            self.desk().reported(&machine.id, &whole);
        }
        if is_clock_news {
            tracing::warn!(
                machine.name = %machine.name,
                "the clock of {} is far from control's ({now}); set it by NTP", machine.name
            );
        }
        if about != machine.about {
            let mut tx = self.store().begin().await?;
            tx.set_about(&machine.id, &about).await?;
            tx.raise_revision().await?;
            tx.commit().await?;
            self.publish().await?;
        }
        self.reported().notify_one();
        self.proving().notify_one();
        Ok((number > 0).then_some(number))
    }

    /// Refuses a start of a machine after which another one came that is there: of two machines with one
    /// identity the one that started last counts, whichever control each of them talks to.
    pub(crate) async fn require_newest(
        &self,
        machine: &MachineRow,
        instance: u64,
    ) -> Result<(), AppError> {
        let standing = self.statuses().standing(&machine.name, instance, self.instant());
        match standing {
            Standing::Newest => Ok(()),
            Standing::New => {
                let control = self.desk().name();
                let claimed = self.store().claim_start(control, machine, instance).await?;
                let mut statuses = self.statuses();
                let alone = || statuses.starts(&machine.name).with(instance);
                let starts = claimed.unwrap_or_else(alone);
                statuses.started(&machine.name, starts);
                Ok(())
            }
            Standing::Superseded { is_news } => {
                if is_news {
                    self.store().tell_of_copy(machine).await?;
                }
                let error = AppError::MachineDuplicate(machine.name.clone());
                self.turn_away(&machine.name, &error);
                Err(error)
            }
        }
    }

    /// What a machine is asked for after its report.
    pub(crate) fn answer(&self, machine: &MachineRow) -> ReportAnswer {
        let wants_state = self.wants_state(machine);
        let wanted = match machine.role {
            MachineRole::Edge => self.wanted().ask(&machine.name, self.instant()),
            MachineRole::Dns => Vec::new(),
        };
        ReportAnswer { wanted, wants_state }
    }

    /// A machine that is ahead of control has heard of states that a backup of the database does
    /// not know: the revision goes past it, or the machine would refuse every state from now on. The
    /// same revision of another `fleet` is another state.
    pub(crate) async fn catch_up(
        &self,
        machine: &MachineName,
        since: u64,
        fleet: Option<&FleetId>,
        ahead_max: u64,
    ) -> Result<(), AppError> {
        let world = self.world();
        let revision = world.revision;
        let is_other = fleet.is_some() && fleet != world.fleet.as_ref();
        let is_behind = since < revision || since == revision && !is_other;
        if is_behind || since - revision > ahead_max {
            return Ok(());
        }
        tracing::warn!(
            machine.name = %machine, since, revision,
            "{machine} is at revision {since}, ahead of control; was the database restored?"
        );
        let mut tx = self.store().begin().await?;
        tx.raise_revision_to(since + 1).await?;
        tx.commit().await?;
        Ok(self.publish().await?)
    }
}

/// Whether a token lets this machine in.
fn judge(
    token: &JoinTokenRow,
    request: &JoinRequest,
    key: &Digest,
    now: Timestamp,
) -> Result<(), AppError> {
    let refused = |why| Err(AppError::JoinRefused(why));
    match &token.used_by {
        Some(used_by) if used_by != key => return refused(JoinRefusal::Used),
        _ if token.expires_at <= now => return refused(JoinRefusal::Expired(token.expires_at)),
        _ if token.role != request.about.role => return refused(JoinRefusal::Role),
        _ => {}
    }
    if token.machine != request.about.name {
        let (name, expected) = (request.about.name.clone(), token.machine.clone());
        return Err(AppError::JoinName { name, expected });
    }
    match request.sent_at {
        Some(machine) if machine.ms_since(now).abs() > JOIN_CLOCK_MAX_MS => {
            Err(AppError::ClockWrong { machine, control: now })
        }
        _ => Ok(()),
    }
}
