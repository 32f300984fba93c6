//! What do controls on one database tell each other?
//!
//! Only PostgreSQL can have several. What machines report is written in batches, and a
//! notification travels with the transaction that changed something. Ages are told by the
//! server's clock, so that the clocks of controls do not matter.

use std::time::Duration;

use nigh_proto::MachineName;
use serde::Serialize;
use sqlx::{
    Connection as _,
    postgres::{PgConnection, PgListener},
};

use super::{
    MachineRow, Store, StoreError,
    sql::{Connection, Pool, Row, query},
};
use crate::fleet::starts::Starts;

/// Payload: the revision that was committed.
const REVISIONS: &str = "nigh_revisions";
/// Payload: the control that heard something new.
const REPORTS: &str = "nigh_reports";
/// Locks of a session: who leads, and who works here at all.
const LEADER_LOCK: i64 = 0x6e69_6768_0001;
const SHARE_LOCK: i64 = 0x6e69_6768_0002;
/// The lock of a transaction that writes reports, so that `changed` rises in commit order.
const REPORTS_LOCK: i64 = 0x6e69_6768_0003;
/// A connection that does not answer for so long is lost, and the lead with it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// What one machine said to this control, or whether its stream is open here.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct HeardRow {
    pub machine: MachineName,
    pub machine_id: String,
    /// The report as JSON, when it is another than the last one.
    pub report: Option<String>,
    /// Whether it has reported since.
    pub reported: bool,
    pub watching: bool,
    /// Whether its stream has ended here since.
    pub left: bool,
}

/// What a machine said to another control.
#[derive(Clone, Debug)]
pub(crate) struct ToldRow {
    pub machine: MachineName,
    pub machine_id: String,
    /// The report as JSON, when it is newer than what was asked for.
    pub report: Option<String>,
    /// How long ago it reported to another control.
    pub reported_ms_ago: Option<i64>,
    /// How long ago another control said that it has the machine's stream.
    pub watched_ms_ago: Option<i64>,
    /// The machine's starts that controls have heard of.
    pub starts: Option<Starts>,
    /// How long ago a control heard of two machines of this identity.
    pub copy_heard_ms_ago: Option<i64>,
    pub changed: i64,
}

impl ToldRow {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            starts: read_starts(row)?,
            copy_heard_ms_ago: row.get("copy_heard_ms_ago")?,
            machine: row.parse("machine")?,
            machine_id: row.get("machine_id")?,
            report: row.get("report")?,
            reported_ms_ago: row.get("reported_ms_ago")?,
            watched_ms_ago: row.get("watched_ms_ago")?,
            changed: row.get("changed")?,
        })
    }
}

fn read_starts(row: &Row) -> Result<Option<Starts>, StoreError> {
    let text: Option<String> = row.get("starts")?;
    // What a newer version wrote otherwise is as good as none.
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

/// What another control has just done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    Revision,
    Reports,
}

/// Hears what other controls do, as long as its connection lasts.
#[derive(Debug)]
pub(crate) struct Listener {
    on: PgListener,
    control: String,
}

impl Listener {
    /// The next news; an error when some may have been missed.
    pub(crate) async fn next(&mut self) -> Result<News, StoreError> {
        loop {
            let heard = self.on.try_recv().await?;
            let heard = heard.ok_or_else(|| StoreError::from(sqlx::Error::WorkerCrashed))?;
            match heard.channel() {
                REVISIONS => return Ok(News::Revision),
                REPORTS if heard.payload() != self.control => return Ok(News::Reports),
                _ => {}
            }
        }
    }
}

/// A connection whose session holds what only living controls hold. Lost with the connection.
#[derive(Debug)]
pub(crate) struct Session(PgConnection);

impl Session {
    /// Takes part beside other controls that do as well, or `alone`; `false` when that cannot be.
    pub(crate) async fn take_part(&mut self, alone: bool) -> Result<bool, StoreError> {
        let sql = if alone {
            "SELECT pg_try_advisory_lock($1)"
        } else {
            "SELECT pg_try_advisory_lock_shared($1)"
        };
        self.ask(sql, SHARE_LOCK).await
    }

    /// Takes the lead if nobody has it: the number of the new term.
    pub(crate) async fn lead(&mut self) -> Result<Option<i64>, StoreError> {
        if !self.ask("SELECT pg_try_advisory_lock($1)", LEADER_LOCK).await? {
            return Ok(None);
        }
        let sql = "UPDATE fleet SET term = term + 1 WHERE id = 1 RETURNING term";
        // A transaction of an earlier leader may be under way: then this waits for its end.
        Ok(Some(sqlx::query_scalar(sql).fetch_one(&mut self.0).await?))
    }

    /// Whether the session, and with it all it holds, is still there, and `term` the last one.
    pub(crate) async fn check(&mut self, term: i64) -> Result<(), StoreError> {
        let asked = sqlx::query_scalar("SELECT term FROM fleet WHERE id = 1");
        let asked = tokio::time::timeout(ANSWER_TIMEOUT, asked.fetch_one(&mut self.0)).await;
        let now: i64 = asked.map_err(|_| StoreError::from(sqlx::Error::PoolTimedOut))??;
        // Another one without the lock having changed hands: a backup was restored.
        if now == term { Ok(()) } else { Err(StoreError::LeadLost) }
    }

    async fn ask(&mut self, sql: &'static str, lock: i64) -> Result<bool, StoreError> {
        let asked = sqlx::query_scalar(sql).bind(lock).fetch_one(&mut self.0);
        let asked = tokio::time::timeout(ANSWER_TIMEOUT, asked).await;
        Ok(asked.map_err(|_| StoreError::from(sqlx::Error::PoolTimedOut))??)
    }
}

impl Store {
    /// Whether other controls may work on this database.
    pub(crate) const fn is_shared(&self) -> bool {
        matches!(self.writer, Pool::Postgres(_))
    }

    /// Listens to other controls than `control`; `None` when there cannot be any.
    pub(crate) async fn listen(&self, control: &str) -> Result<Option<Listener>, StoreError> {
        let Pool::Postgres(pool) = &self.reader else { return Ok(None) };
        let mut on = PgListener::connect_with(pool).await?;
        on.eager_reconnect(false);
        on.listen_all([REVISIONS, REPORTS]).await?;
        Ok(Some(Listener { on, control: control.to_owned() }))
    }

    /// A session of its own; `None` when there cannot be another control.
    pub(crate) async fn session(&self) -> Result<Option<Session>, StoreError> {
        let Pool::Postgres(pool) = &self.writer else { return Ok(None) };
        let options = pool.connect_options();
        let connected = tokio::time::timeout(ANSWER_TIMEOUT, PgConnection::connect_with(&options));
        let connected = connected.await.map_err(|_| StoreError::from(sqlx::Error::PoolTimedOut))?;
        Ok(Some(Session(connected?)))
    }

    /// Writes down what `control` has heard, so that the others know.
    pub(crate) async fn share_reports(
        &self,
        control: &str,
        heard: &[HeardRow],
    ) -> Result<(), StoreError> {
        let mut tx = self.writer.begin().await?;
        query("SELECT pg_advisory_xact_lock($1)").bind(REPORTS_LOCK).execute(&mut tx).await?;
        let rows = serde_json::to_string(heard).expect("names and texts always have a JSON form");
        query(
            "INSERT INTO machine_reports AS r \
             (machine, machine_id, report, reported_to, reported_at, watched_by, watched_at, changed) \
             SELECT h.machine, h.machine_id, h.report, \
                 CASE WHEN h.reported THEN $2 END, CASE WHEN h.reported THEN clock_timestamp() END, \
                 CASE WHEN h.watching THEN $2 END, CASE WHEN h.watching THEN clock_timestamp() END, \
                 nextval('machine_reports_changes') \
             FROM json_to_recordset($1::json) AS h (machine TEXT, machine_id TEXT, report TEXT, \
                 reported BOOLEAN, watching BOOLEAN, \"left\" BOOLEAN) \
             JOIN machines AS m ON m.name = h.machine AND m.id = h.machine_id \
             ON CONFLICT (machine) DO UPDATE SET \
                 machine_id = excluded.machine_id, \
                 report = CASE WHEN r.machine_id = excluded.machine_id \
                     THEN COALESCE(excluded.report, r.report) ELSE excluded.report END, \
                 starts = CASE WHEN r.machine_id = excluded.machine_id THEN r.starts END, \
                 copy_heard_at = \
                     CASE WHEN r.machine_id = excluded.machine_id THEN r.copy_heard_at END, \
                 reported_to = COALESCE(excluded.reported_to, r.reported_to), \
                 reported_at = COALESCE(excluded.reported_at, r.reported_at), \
                 watched_by = CASE WHEN excluded.watched_by IS NULL AND r.watched_by = $2 \
                     THEN NULL ELSE COALESCE(excluded.watched_by, r.watched_by) END, \
                 watched_at = COALESCE(excluded.watched_at, r.watched_at), \
                 changed = CASE WHEN excluded.report IS NULL \
                         AND excluded.watched_by IS NOT DISTINCT FROM r.watched_by \
                     THEN r.changed ELSE excluded.changed END",
        )
        .bind(rows)
        .bind(control)
        .execute(&mut tx)
        .await?;
        if heard.iter().any(|row| row.report.is_some() || row.left || row.watching) {
            query("SELECT pg_notify($1, $2)").bind(REPORTS).bind(control).execute(&mut tx).await?;
        }
        tx.commit().await
    }

    /// A start of `machine` takes the place of the one before: its starts from now on, on which all
    /// controls agree. `None` when there cannot be another control.
    pub(crate) async fn claim_start(
        &self,
        control: &str,
        machine: &MachineRow,
        instance: u64,
    ) -> Result<Option<Starts>, StoreError> {
        if !self.is_shared() {
            return Ok(None);
        }
        let mut tx = self.writer.begin().await?;
        // Also so that nobody else numbers a start in between.
        query("SELECT pg_advisory_xact_lock($1)").bind(REPORTS_LOCK).execute(&mut tx).await?;
        let known =
            query("SELECT starts FROM machine_reports WHERE machine = $1 AND machine_id = $2")
                .bind(machine.name.as_str())
                .bind(machine.id.as_str())
                .fetch_optional(&mut tx)
                .await?;
        let known = known.map(|row| read_starts(&row)).transpose()?.flatten();
        let starts = known.unwrap_or_default().with(instance);
        query(
            "INSERT INTO machine_reports AS r (machine, machine_id, starts, changed) \
             SELECT name, id, $3, nextval('machine_reports_changes') \
             FROM machines WHERE name = $1 AND id = $2 \
             ON CONFLICT (machine) DO UPDATE SET \
                 report = CASE WHEN r.machine_id = excluded.machine_id THEN r.report END, \
                 copy_heard_at = \
                     CASE WHEN r.machine_id = excluded.machine_id THEN r.copy_heard_at END, \
                 machine_id = excluded.machine_id, starts = excluded.starts, \
                 changed = excluded.changed",
        )
        .bind(machine.name.as_str())
        .bind(machine.id.as_str())
        .bind(serde_json::to_string(&starts).expect("numbers always have a JSON form"))
        .execute(&mut tx)
        .await?;
        query("SELECT pg_notify($1, $2)").bind(REPORTS).bind(control).execute(&mut tx).await?;
        tx.commit().await?;
        Ok(Some(starts))
    }

    /// Two machines of this identity were heard of: every control is to say so.
    pub(crate) async fn tell_of_copy(&self, machine: &MachineRow) -> Result<(), StoreError> {
        if !self.is_shared() {
            return Ok(());
        }
        let mut tx = self.writer.begin().await?;
        query(
            "UPDATE machine_reports SET copy_heard_at = clock_timestamp() \
             WHERE machine = $1 AND machine_id = $2",
        )
        .bind(machine.name.as_str())
        .bind(machine.id.as_str())
        .execute(&mut tx)
        .await?;
        tx.commit().await
    }

    /// What machines said to other controls than `control`: all that is there, or only what
    /// changed after `changed`. Reports come only with what changed.
    pub(crate) async fn shared_reports(
        &self,
        control: &str,
        changed: i64,
        all: bool,
    ) -> Result<Vec<ToldRow>, StoreError> {
        let rows = query(
            "SELECT machine, machine_id, changed, starts, \
             (extract(epoch FROM clock_timestamp() - copy_heard_at) * 1000)::BIGINT \
                 AS copy_heard_ms_ago, \
             CASE WHEN changed > $2 AND reported_to <> $1 THEN report END AS report, \
             CASE WHEN reported_to <> $1 THEN \
                 (extract(epoch FROM clock_timestamp() - reported_at) * 1000)::BIGINT \
             END AS reported_ms_ago, \
             CASE WHEN watched_by <> $1 THEN \
                 (extract(epoch FROM clock_timestamp() - watched_at) * 1000)::BIGINT \
             END AS watched_ms_ago \
             FROM machine_reports WHERE $3 OR changed > $2 ORDER BY changed",
        )
        .bind(control)
        .bind(changed)
        .bind(all)
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(ToldRow::read).collect()
    }
}

/// Tells other controls of a revision, when this transaction is committed.
pub(super) async fn announce(on: &mut Connection, revision: i64) -> Result<(), StoreError> {
    if let Connection::Postgres(_) = on {
        let payload = revision.to_string();
        query("SELECT pg_notify($1, $2)").bind(REVISIONS).bind(payload).execute(on).await?;
    }
    Ok(())
}
