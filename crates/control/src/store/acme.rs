//! How do things stand with public CAs: accounts, orders, challenges, and what went wrong?

use nigh_proto::{Timestamp, zone::DnsName};

use super::{
    Store, StoreError, Tx,
    certificates::names_json,
    row::signed,
    sql::{Row, query},
};
use crate::{
    certificates::limits::{Event, EventKind, History, Setback, SetbackKind},
    seal::Seal,
};

/// An order under way.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct OrderRow {
    /// The certificate that it is for.
    pub id: String,
    pub ca: String,
    pub names: Vec<DnsName>,
    pub url: String,
    /// From when the CA was given the request that it signed.
    pub key_pem: Option<String>,
    pub created_at: Timestamp,
}

impl std::fmt::Debug for OrderRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OrderRow")
            .field("id", &self.id)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// How a CA looks at the answer to a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ChallengeKind {
    /// A TXT record (RFC 8555, section 8.4).
    Dns,
    /// A file on the host (RFC 8555, section 8.3).
    Http,
}

impl ChallengeKind {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            ChallengeKind::Dns => "dns",
            ChallengeKind::Http => "http",
        }
    }
}

/// What machines answer to a CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChallengeRow {
    /// The certificate that it is for.
    pub id: String,
    pub kind: ChallengeKind,
    /// The name of the TXT record, or the host.
    pub name: DnsName,
    /// Nothing for DNS.
    pub token: String,
    pub value: String,
}

fn order_purpose(id: &str) -> String {
    format!("acme order {id}")
}

fn account_purpose(ca: &str) -> String {
    format!("acme account {ca}")
}

fn one_of<T: Copy>(
    all: &[T],
    label: fn(T) -> &'static str,
    row: &Row,
    column: &'static str,
) -> Result<T, StoreError> {
    let text: String = row.get(column)?;
    let found = all.iter().copied().find(|one| label(*one) == text);
    found.ok_or(StoreError::Damaged { column, text })
}

impl OrderRow {
    fn read(row: &Row, seal: &Seal) -> Result<Self, StoreError> {
        let id: String = row.get("id")?;
        let key: Option<String> = row.get("key_pem")?;
        let key_pem = key.map(|key| seal.reveal(&order_purpose(&id), &key)).transpose()?;
        Ok(Self {
            key_pem,
            id,
            ca: row.get("ca")?,
            names: row.json("names")?,
            url: row.get("url")?,
            created_at: row.time("created_at")?,
        })
    }
}

impl ChallengeRow {
    pub(super) fn read(row: &Row) -> Result<Self, StoreError> {
        let kinds = [ChallengeKind::Dns, ChallengeKind::Http];
        Ok(Self {
            id: row.get("id")?,
            kind: one_of(&kinds, ChallengeKind::label, row, "kind")?,
            name: row.parse("name")?,
            token: row.get("token")?,
            value: row.get("value")?,
        })
    }
}

fn read_event(row: &Row) -> Result<Event, StoreError> {
    Ok(Event {
        ca: row.get("ca")?,
        kind: one_of(&EventKind::ALL, EventKind::label, row, "kind")?,
        subject: row.get("subject")?,
        at: row.time("at")?,
    })
}

fn read_setback(row: &Row) -> Result<Setback, StoreError> {
    Ok(Setback {
        ca: row.get("ca")?,
        subject: row.get("subject")?,
        kind: one_of(&SetbackKind::ALL, SetbackKind::label, row, "kind")?,
        failures: u32::try_from(row.number("failures")?).unwrap_or(u32::MAX),
        since: row.time("since")?,
        retry_at: row.time("retry_at")?,
        detail: row.get("detail")?,
    })
}

impl Store {
    /// The account at a CA, as JSON.
    pub(crate) async fn acme_account(&self, ca: &str) -> Result<Option<String>, StoreError> {
        let row = query("SELECT credentials FROM acme_accounts WHERE ca = $1").bind(ca);
        let row = row.fetch_optional(&self.reader).await?;
        row.map(|row| {
            Ok(self.seal.reveal(&account_purpose(ca), &row.get::<String>("credentials")?)?)
        })
        .transpose()
    }

    /// The order under way for the certificate `id`.
    pub(crate) async fn acme_order(&self, id: &str) -> Result<Option<OrderRow>, StoreError> {
        let row = query("SELECT * FROM acme_orders WHERE id = $1").bind(id);
        let row = row.fetch_optional(&self.reader).await?;
        row.map(|row| OrderRow::read(&row, &self.seal)).transpose()
    }

    /// What CAs count, and what went wrong.
    pub(crate) async fn acme_history(&self) -> Result<History, StoreError> {
        let events = query("SELECT * FROM acme_events ORDER BY at").fetch_all(&self.reader).await?;
        let setbacks = query("SELECT * FROM acme_setbacks ORDER BY ca, subject")
            .fetch_all(&self.reader)
            .await?;
        Ok(History {
            events: events.iter().map(read_event).collect::<Result<_, _>>()?,
            setbacks: setbacks.iter().map(read_setback).collect::<Result<_, _>>()?,
        })
    }
}

impl Tx {
    pub(crate) async fn put_acme_account(
        &mut self,
        ca: &str,
        credentials: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        query(
            "INSERT INTO acme_accounts (ca, credentials, created_at) VALUES ($1, $2, $3) \
             ON CONFLICT (ca) DO UPDATE SET credentials = excluded.credentials, \
             created_at = excluded.created_at",
        )
        .bind(ca)
        .bind(self.seal.seal(&account_purpose(ca), credentials))
        .bind(now.unix_ms())
        .execute(&mut self.on)
        .await?;
        Ok(())
    }

    /// Forgets an account that its CA no longer knows.
    pub(crate) async fn delete_acme_account(&mut self, ca: &str) -> Result<(), StoreError> {
        query("DELETE FROM acme_accounts WHERE ca = $1").bind(ca).execute(&mut self.on).await?;
        Ok(())
    }

    pub(crate) async fn put_acme_order(&mut self, row: &OrderRow) -> Result<(), StoreError> {
        let key = row.key_pem.as_ref().map(|key| self.seal.seal(&order_purpose(&row.id), key));
        query(
            "INSERT INTO acme_orders (id, ca, names, url, key_pem, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO UPDATE SET \
             ca = excluded.ca, names = excluded.names, url = excluded.url, \
             key_pem = excluded.key_pem, created_at = excluded.created_at",
        )
        .bind(&row.id)
        .bind(&row.ca)
        .bind(names_json(&row.names))
        .bind(&row.url)
        .bind(key)
        .bind(row.created_at.unix_ms())
        .execute(&mut self.on)
        .await?;
        Ok(())
    }

    /// The order for `id` is over, and so are its challenges. Whether machines held some.
    pub(crate) async fn end_acme_order(&mut self, id: &str) -> Result<bool, StoreError> {
        query("DELETE FROM acme_orders WHERE id = $1").bind(id).execute(&mut self.on).await?;
        self.delete_challenges(id).await
    }

    /// Whether there were any.
    pub(crate) async fn delete_challenges(&mut self, id: &str) -> Result<bool, StoreError> {
        let deleted =
            query("DELETE FROM acme_challenges WHERE id = $1").bind(id).execute(&mut self.on);
        Ok(deleted.await? > 0)
    }

    pub(crate) async fn insert_challenge(&mut self, row: &ChallengeRow) -> Result<(), StoreError> {
        query(
            "INSERT INTO acme_challenges (id, kind, name, token, value) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        )
        .bind(&row.id)
        .bind(row.kind.label())
        .bind(row.name.as_str())
        .bind(&row.token)
        .bind(&row.value)
        .execute(&mut self.on)
        .await?;
        Ok(())
    }

    pub(crate) async fn put_setback(&mut self, row: &Setback) -> Result<(), StoreError> {
        query(
            "INSERT INTO acme_setbacks (ca, subject, kind, failures, since, retry_at, detail) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (ca, subject) DO UPDATE SET \
             kind = excluded.kind, failures = excluded.failures, since = excluded.since, \
             retry_at = excluded.retry_at, detail = excluded.detail",
        )
        .bind(&row.ca)
        .bind(&row.subject)
        .bind(row.kind.label())
        .bind(signed(row.failures.into()))
        .bind(row.since.unix_ms())
        .bind(row.retry_at.unix_ms())
        .bind(&row.detail)
        .execute(&mut self.on)
        .await?;
        Ok(())
    }

    /// Forgets what went wrong with `subject`, at one CA or at all.
    pub(crate) async fn delete_setbacks(
        &mut self,
        ca: Option<&str>,
        subject: &str,
    ) -> Result<(), StoreError> {
        let deletion = match ca {
            Some(ca) => query("DELETE FROM acme_setbacks WHERE subject = $1 AND ca = $2")
                .bind(subject)
                .bind(ca),
            None => query("DELETE FROM acme_setbacks WHERE subject = $1").bind(subject),
        };
        deletion.execute(&mut self.on).await?;
        Ok(())
    }

    pub(crate) async fn insert_event(&mut self, event: &Event) -> Result<(), StoreError> {
        query("INSERT INTO acme_events (ca, kind, subject, at) VALUES ($1, $2, $3, $4)")
            .bind(&event.ca)
            .bind(event.kind.label())
            .bind(&event.subject)
            .bind(event.at.unix_ms())
            .execute(&mut self.on)
            .await?;
        Ok(())
    }

    /// Forgets events before `until`: nothing counts them any more.
    pub(crate) async fn expire_events(&mut self, until: Timestamp) -> Result<(), StoreError> {
        query("DELETE FROM acme_events WHERE at < $1")
            .bind(until.unix_ms())
            .execute(&mut self.on)
            .await?;
        Ok(())
    }
}
