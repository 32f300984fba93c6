//! Joining, draining and removing machines, and what they report.

use nigh_proto::{
    MachineId, MachineName,
    api::{EventKind, JoinTokenCreated, NewJoinToken},
    refill::ReportAnswer,
    report::{JoinRequest, JoinResponse, MachineRole, Report},
};
use serde_json::json;

use super::{App, AppError, Expected, Secret, begin::checked_duration, random};
use crate::{
    ca,
    request::{Actor, ActorKind},
    store::{Deed, JoinTokenRow, MachineRow},
};

const HOUR_MS: u64 = 60 * 60 * 1000;
const JOIN_TOKENS_MAX: u64 = 10_000;
/// A clock that is wrong by more makes expiries and certificates wrong.
pub(super) const CLOCK_AHEAD_MAX_MS: i64 = 5_000;

impl App {
    pub(crate) async fn create_join_token(
        &self,
        new: NewJoinToken,
    ) -> Result<JoinTokenCreated, AppError> {
        let total = self.store().join_tokens_total().await?;
        if total >= JOIN_TOKENS_MAX {
            return Err(AppError::TooMany { what: "join tokens", total, max: JOIN_TOKENS_MAX });
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
        };
        let mut tx = self.store().begin().await?;
        tx.insert_join_token(&row).await?;
        let deed = Deed::new("join_token.create", &row.machine)
            .detail("role", row.role.label())
            .detail("expires_at", row.expires_at);
        tx.audit(now, deed).await?;
        tx.commit().await?;
        tracing::info!(machine.name = %row.machine, "a join token for {} was made", row.machine);
        Ok(JoinTokenCreated { token: secret.reveal(), expires_at: row.expires_at })
    }

    /// Takes a machine into the fleet. The token is used up only when everything else is right.
    pub(crate) async fn join(&self, request: &JoinRequest) -> Result<JoinResponse, AppError> {
        let secret: Secret = request.token.parse().map_err(|_| AppError::JoinRefused)?;
        let now = self.now();
        let mut tx = self.store().begin().await?;
        let token = tx.take_join_token(&secret.hash()).await?.ok_or(AppError::JoinRefused)?;
        if !secret.is_join() || token.expires_at <= now || token.role != request.about.role {
            return Err(AppError::JoinRefused);
        }
        if token.machine != request.about.name {
            let (name, expected) = (request.about.name.clone(), token.machine);
            return Err(AppError::JoinName { name, expected });
        }
        let row = MachineRow {
            name: token.machine,
            id: MachineId::new(self.unix_ms(), random()),
            role: token.role,
            about: request.about.clone(),
            is_drained: false,
            joined_at: now,
        };
        let identity = ca::identity(row.name.clone(), row.role, row.id.clone());
        let certificate_pem = self.authority().sign_machine(&request.csr_pem, &identity, now)?;
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
        let ca_pem = self.authority().certificate_pem().to_owned();
        Ok(JoinResponse { name, certificate_pem, ca_pem })
    }

    pub(crate) async fn set_drained(
        &self,
        name: &MachineName,
        is_drained: bool,
        expected: &Expected,
    ) -> Result<(), AppError> {
        let mut tx = self.store().begin().await?;
        if let Some(machine) = tx.machine(name).await? {
            expected.allow(&machine.edits())?;
        }
        if !tx.set_drained(name, is_drained).await? {
            return Err(AppError::MachineUnknown(name.clone()));
        }
        let kind = if is_drained { EventKind::MachineDrained } else { EventKind::MachineUndrained };
        self.record(&mut tx, kind, None, name.as_str(), json!({})).await?;
        tx.raise_revision().await?;
        let verb = if is_drained { "machine.drain" } else { "machine.undrain" };
        tx.audit(self.now(), Deed::new(verb, name)).await?;
        tx.commit().await?;
        self.publish().await?;
        let what = if is_drained { "drained" } else { "taken back into the answers" };
        tracing::info!(machine.name = %name, "{name} is {what}");
        Ok(())
    }

    /// Removes a machine: its certificate is void from now on, and its stream ends.
    pub(crate) async fn delete_machine(
        &self,
        name: &MachineName,
        expected: &Expected,
    ) -> Result<(), AppError> {
        let mut tx = self.store().begin().await?;
        if let Some(machine) = tx.machine(name).await? {
            expected.allow(&machine.edits())?;
        }
        if !tx.delete_machine(name).await? {
            return Err(AppError::MachineUnknown(name.clone()));
        }
        self.record(&mut tx, EventKind::MachineRemoved, None, name.as_str(), json!({})).await?;
        tx.raise_revision().await?;
        tx.audit(self.now(), Deed::new("machine.remove", name)).await?;
        tx.commit().await?;
        self.publish().await?;
        self.statuses().forget(name);
        tracing::info!(machine.name = %name, "{name} was removed from the fleet");
        Ok(())
    }

    /// Takes in what a machine says. Only what it says of itself is durable, when it is new.
    pub(crate) async fn take_report(
        &self,
        machine: &MachineRow,
        report: Report,
    ) -> Result<(), AppError> {
        // Its report may have taken long to arrive.
        if self.world().machine(&machine.name).is_none_or(|row| row.id != machine.id) {
            return Err(AppError::MachineUnknown(machine.name.clone()));
        }
        let about = report.about.clone();
        let (now, instant) = (self.now(), self.instant());
        let ahead_ms = report.sent_at.ms_since(now);
        if ahead_ms.abs() > CLOCK_AHEAD_MAX_MS {
            tracing::debug!(machine.name = %machine.name, ahead_ms, "a machine's clock is wrong");
        }
        self.desk().reported(&machine.id, &report);
        self.statuses().reported(report, instant, now);
        if about != machine.about {
            let mut tx = self.store().begin().await?;
            tx.set_about(&machine.name, &about).await?;
            tx.raise_revision().await?;
            tx.commit().await?;
            self.publish().await?;
        }
        self.reported().notify_one();
        self.proving().notify_one();
        Ok(())
    }

    /// What a machine is asked for after its report.
    pub(crate) fn answer(&self, machine: &MachineRow) -> ReportAnswer {
        if machine.role != MachineRole::Edge {
            return ReportAnswer::default();
        }
        let wanted = self.wanted().ask(&machine.name, self.instant());
        ReportAnswer { wanted, wants_state: false }
    }

    /// A machine that is ahead of control has heard of states that a backup of the database does
    /// not know: the revision goes past it, or the machine would refuse every state from now on.
    pub(crate) async fn catch_up(
        &self,
        machine: &MachineName,
        since: u64,
        ahead_max: u64,
    ) -> Result<(), AppError> {
        let revision = self.world().revision;
        if since <= revision || since - revision > ahead_max {
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
