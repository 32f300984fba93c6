//! What happened, and since when is it known?
//!
//! The number of an event comes from the one row of `event_log`, which a transaction holds until
//! it ends: events become visible in the order of their numbers, whichever control wrote them, so
//! whoever has seen event N has seen all before it.

use nigh_proto::{
    MachineName, SiteName, Timestamp,
    api::{EventKind, EventView},
};
use serde_json::Value;

use super::{
    Store, StoreError, Tx,
    row::signed,
    sql::{Row, query},
};

/// Which events there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EventLog {
    /// The newest one.
    pub last: u64,
    /// The newest one that was removed.
    pub pruned: u64,
}

/// Which way events are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// From the one after this, oldest first.
    After(u64),
    /// From the one before this, newest first.
    Before(u64),
}

fn read(row: &Row) -> Result<EventView, StoreError> {
    Ok(EventView {
        id: row.number("seq")?,
        at: row.time("at")?,
        kind: row.parse("kind")?,
        site: row.parse_optional("site")?,
        subject: row.get("subject")?,
        data: row.json("data")?,
    })
}

impl Store {
    pub(crate) async fn event_log(&self) -> Result<EventLog, StoreError> {
        let row = query("SELECT last, pruned FROM event_log WHERE id = 1")
            .fetch_one(&self.reader)
            .await?;
        Ok(EventLog { last: row.number("last")?, pruned: row.number("pruned")? })
    }

    /// At most `limit` events, of one site or of all and the fleet.
    pub(crate) async fn events(
        &self,
        reading: Reading,
        site: Option<&SiteName>,
        limit: u32,
    ) -> Result<Vec<EventView>, StoreError> {
        let (sql, seq) = match (reading, site) {
            (Reading::After(seq), None) => {
                ("SELECT * FROM events WHERE seq > $1 ORDER BY seq LIMIT $2", seq)
            }
            (Reading::After(seq), Some(_)) => {
                ("SELECT * FROM events WHERE seq > $1 AND site = $3 ORDER BY seq LIMIT $2", seq)
            }
            (Reading::Before(seq), None) => {
                ("SELECT * FROM events WHERE seq < $1 ORDER BY seq DESC LIMIT $2", seq)
            }
            (Reading::Before(seq), Some(_)) => (
                "SELECT * FROM events WHERE seq < $1 AND site = $3 ORDER BY seq DESC LIMIT $2",
                seq,
            ),
        };
        let mut query = query(sql).bind(signed(seq)).bind(i64::from(limit));
        if let Some(site) = site {
            query = query.bind(site.as_str());
        }
        query.fetch_all(&self.reader).await?.iter().map(read).collect()
    }
}

impl Tx {
    /// Writes down that something happens when this transaction is committed. `data` is an object.
    pub(crate) async fn record(
        &mut self,
        at: Timestamp,
        kind: EventKind,
        site: Option<&SiteName>,
        subject: &str,
        data: Value,
    ) -> Result<(), StoreError> {
        let seq: i64 = query("UPDATE event_log SET last = last + 1 WHERE id = 1 RETURNING last")
            .scalar(&mut self.on)
            .await?;
        query(
            "INSERT INTO events (seq, at, kind, site, subject, data) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(seq)
        .bind(at.unix_ms())
        .bind(kind.label())
        .bind(site.map(SiteName::as_str))
        .bind(subject)
        .bind(data.to_string())
        .execute(&mut self.on)
        .await?;
        Ok(())
    }

    /// Removes the events up to `seq`.
    pub(crate) async fn prune_events(&mut self, seq: u64) -> Result<(), StoreError> {
        query("UPDATE event_log SET pruned = $1 WHERE id = 1 AND pruned < $1")
            .bind(signed(seq))
            .execute(&mut self.on)
            .await?;
        query("DELETE FROM events WHERE seq <= $1").bind(signed(seq)).execute(&mut self.on).await?;
        Ok(())
    }

    /// Notes that a machine's absence, or its return, is told; whether that is news.
    pub(crate) async fn set_away(
        &mut self,
        machine: &MachineName,
        since: Option<Timestamp>,
    ) -> Result<bool, StoreError> {
        let done = match since {
            Some(since) => {
                query(
                    "INSERT INTO away (machine, since) SELECT name, $2 FROM machines \
                     WHERE name = $1 ON CONFLICT DO NOTHING",
                )
                .bind(machine.as_str())
                .bind(since.unix_ms())
                .execute(&mut self.on)
                .await?
            }
            None => {
                query("DELETE FROM away WHERE machine = $1")
                    .bind(machine.as_str())
                    .execute(&mut self.on)
                    .await?
            }
        };
        Ok(done > 0)
    }
}

impl Store {
    /// Machines whose absence was told.
    pub(crate) async fn away(&self) -> Result<Vec<MachineName>, StoreError> {
        let rows = query("SELECT machine FROM away").fetch_all(&self.reader).await?;
        rows.iter().map(|row| row.parse("machine")).collect()
    }
}

#[cfg(test)]
impl Tx {
    /// As if `total` events had been written and lost.
    pub(crate) async fn skip_events(&mut self, total: u64) -> Result<(), StoreError> {
        query("UPDATE event_log SET last = last + $1 WHERE id = 1")
            .bind(signed(total))
            .execute(&mut self.on)
            .await?;
        Ok(())
    }
}
