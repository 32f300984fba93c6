//! Which fleet is this, and of which others was it said what becomes of their states?

use nigh_proto::{FleetId, Timestamp};

use super::{
    StoreError, Tx,
    row::signed,
    sql::{Row, query},
};

/// What was decided about the states of another fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    TakenOver,
    Dropped,
}

impl Outcome {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Outcome::TakenOver => "taken_over",
            Outcome::Dropped => "dropped",
        }
    }
}

/// Another fleet whose states, up to a revision, may be replaced by this one's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SettledRow {
    /// `None`: the fleet of states that do not say one.
    pub fleet: Option<FleetId>,
    pub revision: u64,
}

impl SettledRow {
    pub(super) fn read(row: &Row) -> Result<Self, StoreError> {
        let text: String = row.get("fleet")?;
        let fleet = match text.parse() {
            Ok(fleet) => Some(fleet),
            Err(_) if text.is_empty() => None,
            Err(_) => return Err(StoreError::Damaged { column: "fleet", text }),
        };
        Ok(Self { fleet, revision: row.number("revision")? })
    }
}

impl Tx {
    /// Gives the database the name of its fleet, unless it has one; whether it had none.
    pub(crate) async fn name_fleet(&mut self, fleet: &FleetId) -> Result<bool, StoreError> {
        // A database that has one may be one that can only be read.
        let known = query("SELECT id FROM fleet WHERE id = 1 AND identity IS NOT NULL");
        if known.fetch_optional(&mut self.on).await?.is_some() {
            return Ok(false);
        }
        let named = query("UPDATE fleet SET identity = $1 WHERE id = 1 AND identity IS NULL")
            .bind(fleet.as_str())
            .execute(&mut self.on)
            .await?;
        Ok(named > 0)
    }

    /// Notes what becomes of the states of another fleet up to the revision of `row`.
    pub(crate) async fn settle_fleet(
        &mut self,
        row: &SettledRow,
        outcome: Outcome,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        query(
            "INSERT INTO settled_fleets (fleet, revision, outcome, settled_at) \
             VALUES ($1, $2, $3, $4) ON CONFLICT (fleet) DO UPDATE SET \
             revision = excluded.revision, outcome = excluded.outcome, \
             settled_at = excluded.settled_at",
        )
        .bind(row.fleet.as_ref().map_or("", FleetId::as_str))
        .bind(signed(row.revision))
        .bind(outcome.label())
        .bind(now.unix_ms())
        .execute(&mut self.on)
        .await?;
        Ok(())
    }
}
