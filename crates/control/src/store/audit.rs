//! Who changed what?
//!
//! Rows are only ever added, each in the transaction of the change that it tells of, and each with
//! a hash of itself and the row before. Rows that are too old are pruned from the front; where the
//! rest begins is kept under control's seal.

use std::collections::BTreeMap;

use nigh_proto::{
    SiteName, Timestamp,
    audit::{AuditChain, AuditEntry, Mark},
};

use super::{
    Store, StoreError, Tx,
    row::signed,
    sql::{Row, query},
};
use crate::request::{Actor, Request, masked};

/// What a person's words in a row may take, in bytes.
const TEXT_MAX_BYTES: usize = 512;

/// Something that was done, in words for the audit log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deed {
    verb: String,
    site: Option<SiteName>,
    subject: String,
    refused: Option<String>,
    details: BTreeMap<String, String>,
}

impl Deed {
    pub(crate) fn new(verb: impl Into<String>, subject: impl ToString) -> Self {
        Deed { verb: verb.into(), subject: subject.to_string(), ..Deed::default() }
    }

    pub(crate) fn site(mut self, site: &SiteName) -> Self {
        self.site = Some(site.clone());
        self
    }

    pub(crate) fn detail(mut self, name: &str, value: impl ToString) -> Self {
        self.details.insert(name.to_owned(), shortened(value.to_string()));
        self
    }

    /// It was not done, for the reason that `code` names.
    pub(crate) fn refused(mut self, code: &str) -> Self {
        self.refused = Some(code.to_owned());
        self
    }

    /// What a request asks for, as far as its route tells.
    pub(crate) fn of_request(request: &Request) -> Self {
        let path = request.uri.path();
        let route = request.route.as_deref().unwrap_or(path);
        let verb = format!("{} {route}", request.method);
        let site = path.strip_prefix("/v1/sites/").and_then(|rest| rest.split('/').next());
        let site = site.and_then(|name| name.parse().ok());
        Deed { verb, site, subject: shortened(path.to_owned()), ..Deed::default() }
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > TEXT_MAX_BYTES {
        let end = (0..=TEXT_MAX_BYTES).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Which entries are asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuditFilter {
    /// None: every site, and what is about none.
    pub(crate) sites: Option<Vec<SiteName>>,
    pub(crate) actor: Option<String>,
    pub(crate) verb: Option<String>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
    /// Behind this entry, in the order that is asked for.
    pub(crate) after: Option<u64>,
    pub(crate) is_oldest_first: bool,
}

fn read(row: &Row) -> Result<AuditEntry, StoreError> {
    let details: String = row.get("details")?;
    // What somebody has damaged is shown as it is: its hash tells.
    let details = serde_json::from_str(&details)
        .unwrap_or_else(|_| BTreeMap::from([("unreadable".to_owned(), details)]));
    Ok(AuditEntry {
        seq: row.number("seq")?,
        at: row.time("at")?,
        actor_kind: row.get("actor_kind")?,
        actor_id: row.get("actor_id")?,
        actor_name: row.get("actor_name")?,
        verb: row.get("verb")?,
        site: row.get("site")?,
        subject: row.get("subject")?,
        outcome: row.get("outcome")?,
        request_id: row.get("request_id")?,
        address: row.get("address")?,
        details,
        hash: row.digest("hash")?,
    })
}

fn mark(row: &Row) -> Result<Mark, StoreError> {
    Ok(Mark { seq: row.number("seq")?, hash: row.digest("hash")? })
}

/// What the seal of a start is for; it says the same thing that it seals.
const START_PURPOSE: &str = "audit start";

impl Store {
    /// Where the chain begins and ends.
    pub(crate) async fn audit_chain(&self) -> Result<AuditChain, StoreError> {
        let mut tx = self.reader.snapshot().await?;
        let row = query("SELECT seq, hash, pruned_at, seal FROM audit_start WHERE id = 1")
            .fetch_one(&mut tx)
            .await?;
        let start = mark(&row)?;
        let seal: Option<String> = row.get("seal")?;
        let is_sealed = |seal: String| {
            self.seal.reveal(START_PURPOSE, &seal).is_ok_and(|text| text == start.to_string())
        };
        let end = query("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")
            .fetch_optional(&mut tx)
            .await?;
        Ok(AuditChain {
            start,
            pruned_at: row.time_optional("pruned_at")?,
            is_start_sealed: seal.map_or(start == Mark::START, is_sealed),
            end: end.map_or(Ok(start), |row| mark(&row))?,
        })
    }

    /// At most `limit` entries.
    pub(crate) async fn audit(
        &self,
        filter: &AuditFilter,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        let after = filter.after.map_or(-1, signed);
        let sites = filter.sites.as_ref().map(|sites| {
            let names: Vec<&str> = sites.iter().map(SiteName::as_str).collect();
            format!(",{},", names.join(","))
        });
        // A site's name has no comma, so that a list of names is one text.
        let sql = if filter.is_oldest_first {
            "SELECT * FROM audit WHERE seq > $1 \
             AND ($2 = '' OR (site IS NOT NULL AND $2 LIKE '%,' || site || ',%')) AND ($3 = '' OR actor_id = $3) \
             AND ($4 = '' OR verb = $4) AND at >= $5 AND at <= $6 ORDER BY seq LIMIT $7"
        } else {
            "SELECT * FROM audit WHERE ($1 < 0 OR seq < $1) \
             AND ($2 = '' OR (site IS NOT NULL AND $2 LIKE '%,' || site || ',%')) AND ($3 = '' OR actor_id = $3) \
             AND ($4 = '' OR verb = $4) AND at >= $5 AND at <= $6 ORDER BY seq DESC LIMIT $7"
        };
        let rows = query(sql)
            .bind(after)
            .bind(sites.unwrap_or_default())
            .bind(filter.actor.as_deref().unwrap_or_default())
            .bind(filter.verb.as_deref().unwrap_or_default())
            .bind(filter.since.map_or(i64::MIN, Timestamp::unix_ms))
            .bind(filter.until.map_or(i64::MAX, Timestamp::unix_ms))
            .bind(i64::from(limit))
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(read).collect()
    }
}

impl Tx {
    /// Writes down what this transaction does, on behalf of whoever asked for it.
    pub(crate) async fn audit(&mut self, now: Timestamp, deed: Deed) -> Result<(), StoreError> {
        let request = Request::current();
        let actor = request.as_ref().and_then(|request| request.actor().cloned());
        self.audit_by(actor.unwrap_or_else(Actor::control), now, deed).await
    }

    /// Writes down what `actor` does in this transaction.
    pub(crate) async fn audit_by(
        &mut self,
        actor: Actor,
        now: Timestamp,
        deed: Deed,
    ) -> Result<(), StoreError> {
        let request = Request::current();
        let Mark { seq, hash: before } = self.audit_end().await?;
        let mut details = deed.details;
        let outcome = match deed.refused {
            Some(code) => {
                details.insert("code".to_owned(), code);
                "refused"
            }
            None => "done",
        };
        let mut entry = AuditEntry {
            seq: seq + 1,
            at: now,
            actor_kind: actor.kind.label().to_owned(),
            actor_id: actor.id,
            actor_name: actor.name,
            verb: deed.verb,
            site: deed.site.map(|site| site.to_string()),
            subject: deed.subject,
            outcome: outcome.to_owned(),
            request_id: request.as_ref().map(|request| request.id.clone()),
            address: request
                .as_ref()
                .and_then(|request| request.address)
                .map(|address| masked(address).to_string()),
            details,
            hash: before,
        };
        entry.hash = entry.chained(&before);
        self.insert_audit(&entry).await?;
        self.is_recorded = true;
        if let Some(request) = request {
            request.was_recorded();
        }
        Ok(())
    }

    /// A change that nobody found words for is recorded as its request.
    pub(super) async fn record_request(&mut self) -> Result<(), StoreError> {
        let Some(request) = Request::current() else { return Ok(()) };
        if self.is_recorded || !request.wants_record() {
            return Ok(());
        }
        self.audit(request.at, Deed::of_request(&request)).await
    }

    async fn audit_end(&mut self) -> Result<Mark, StoreError> {
        let newest = query("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")
            .fetch_optional(&mut self.on)
            .await?;
        match newest {
            Some(row) => mark(&row),
            None => {
                let row = query("SELECT seq, hash FROM audit_start WHERE id = 1");
                mark(&row.fetch_one(&mut self.on).await?)
            }
        }
    }

    async fn insert_audit(&mut self, entry: &AuditEntry) -> Result<(), StoreError> {
        let details = serde_json::to_string(&entry.details).expect("texts always have a JSON form");
        query(
            "INSERT INTO audit (seq, at, actor_kind, actor_id, actor_name, verb, site, subject, \
             outcome, request_id, address, details, hash) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        )
        .bind(signed(entry.seq))
        .bind(entry.at.unix_ms())
        .bind(&entry.actor_kind)
        .bind(entry.actor_id.as_deref())
        .bind(&entry.actor_name)
        .bind(&entry.verb)
        .bind(entry.site.as_deref())
        .bind(&entry.subject)
        .bind(&entry.outcome)
        .bind(entry.request_id.as_deref())
        .bind(entry.address.as_deref())
        .bind(details)
        .bind(&entry.hash.as_bytes()[..])
        .execute(&mut self.on)
        .await?;
        Ok(())
    }

    /// Prunes entries from before `before`, and the oldest beyond the newest `keep`. How many.
    pub(crate) async fn prune_audit(
        &mut self,
        before: Timestamp,
        keep: u64,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let end = self.audit_end().await?;
        // The newest of those that go. Times need not rise with the numbers when a clock was set.
        let row = query(
            "SELECT seq, hash FROM audit WHERE seq < \
             (SELECT coalesce(min(seq), 9223372036854775807) FROM audit WHERE at >= $1) OR seq <= $2 \
             ORDER BY seq DESC LIMIT 1",
        )
        .bind(before.unix_ms())
        .bind(signed(end.seq.saturating_sub(keep)))
        .fetch_optional(&mut self.on)
        .await?;
        let Some(row) = row else { return Ok(0) };
        let start = mark(&row)?;
        let seal = self.seal.seal(START_PURPOSE, &start.to_string());
        query("UPDATE audit_start SET seq = $1, hash = $2, pruned_at = $3, seal = $4 WHERE id = 1")
            .bind(signed(start.seq))
            .bind(&start.hash.as_bytes()[..])
            .bind(now.unix_ms())
            .bind(seal)
            .execute(&mut self.on)
            .await?;
        query("DELETE FROM audit WHERE seq <= $1")
            .bind(signed(start.seq))
            .execute(&mut self.on)
            .await
    }
}
