//! Whose token is this, and how often may they ask?
//!
//! Tokens that were good lately are remembered, so that a request costs no look into the database
//! and no write. Another control's revocation counts here after [`FRESH`], this one's at once.
//! Wrong tokens are counted per address and in total. An address that has used up its failures is
//! let in with a token that is remembered, and with any other good one as long as there are not
//! more attempts in the fleet than [`LATE_LOOKUPS`]: a stranger behind the same address translation
//! locks nobody out.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nigh_proto::{Timestamp, TokenId};

use super::{App, AppError, Secret};
use crate::{
    limits::{Bucket, Buckets, Budget, Rate, network},
    store::{Deed, StoreError, TokenRow},
};

/// How long a token is believed without looking again.
const FRESH: Duration = Duration::from_secs(5);
/// Tokens that are remembered.
const KNOWN_MAX: usize = 10_000;
/// Addresses whose failures are counted.
const ADDRESSES_MAX: usize = 16_384;
/// Looks into the database on behalf of addresses that have used up their failures.
const LATE_LOOKUPS: Rate = Rate { quota: 50, window: Duration::from_secs(1) };

/// Why nobody was let in.
#[derive(Debug)]
pub(crate) enum NoEntry {
    Invalid,
    Expired,
    /// Too many wrong tokens came from there.
    Failures(Budget),
    /// The caller has asked too often.
    Requests(Budget),
    Store(StoreError),
}

/// Who was let in lately, and who was not.
#[derive(Debug)]
pub(crate) struct Access(Mutex<Books>);

#[derive(Debug)]
struct Books {
    known: HashMap<[u8; 32], Known>,
    callers: Buckets<TokenId>,
    failures: Buckets<IpAddr>,
    all_failures: Option<Bucket>,
    late_lookups: Option<Bucket>,
    refusals: Option<Bucket>,
    /// When tokens were used last, as far as the database does not know.
    uses: BTreeMap<TokenId, Timestamp>,
    refused: Refused,
}

#[derive(Debug)]
struct Known {
    row: Arc<TokenRow>,
    read_at: Instant,
}

/// Wrong tokens since they were last written down.
#[derive(Clone, Debug, Default)]
struct Refused {
    total: u64,
    by_rate: u64,
}

impl Default for Access {
    fn default() -> Self {
        Access(Mutex::new(Books {
            known: HashMap::new(),
            callers: Buckets::new(KNOWN_MAX),
            failures: Buckets::new(ADDRESSES_MAX),
            all_failures: None,
            late_lookups: None,
            refusals: None,
            uses: BTreeMap::new(),
            refused: Refused::default(),
        }))
    }
}

impl Access {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another refused change may have a row in the audit log.
    pub(super) fn takes_refusal(&self, rate: Rate, now: Instant) -> bool {
        self.books().refusals.get_or_insert_with(|| Bucket::full(rate, now)).take(rate, now)
    }

    /// Forgets every token: one was revoked.
    fn forget(&self) {
        self.books().known.clear();
    }
}

/// The rates as they are configured.
#[derive(Clone, Copy, Debug)]
struct Rates {
    requests: Rate,
    failures: Rate,
    all_failures: Rate,
}

impl App {
    fn rates(&self) -> Rates {
        let limits = self.effective().config.limits;
        Rates {
            requests: Rate::per_minute(limits.requests_per_minute),
            failures: Rate::per_minute(limits.failures_per_minute),
            all_failures: Rate::per_minute(limits.failures_per_minute_total),
        }
    }

    /// Whose token `secret` is, and what they may still ask for.
    pub(crate) async fn let_in(
        &self,
        secret: &str,
        address: Option<IpAddr>,
    ) -> Result<(Arc<TokenRow>, Budget), NoEntry> {
        let (rates, now) = (self.rates(), self.instant());
        let Ok(secret) = secret.parse::<Secret>() else {
            return Err(self.refuse(address, NoEntry::Invalid));
        };
        let hash = secret.hash();
        let row = match self.remembered(&hash, now) {
            Remembered::Fresh(row) => row,
            Remembered::Stale => self.look_up(&hash, now, address).await?,
            Remembered::Never => {
                if let Some(budget) = self.may_not_look(address, rates, now) {
                    self.count_by_rate();
                    return Err(NoEntry::Failures(budget));
                }
                self.look_up(&hash, now, address).await?
            }
        };
        let time = self.now();
        if row.expires_at.is_some_and(|expires_at| expires_at <= time) {
            return Err(self.refuse(address, NoEntry::Expired));
        }
        let mut books = self.access().books();
        let caller = books.callers.of(row.id.clone(), rates.requests, now);
        let may = caller.take(rates.requests, now);
        let budget = caller.budget("token", rates.requests);
        if !may {
            return Err(NoEntry::Requests(budget));
        }
        books.uses.insert(row.id.clone(), time);
        Ok((row, budget))
    }

    fn remembered(&self, hash: &[u8; 32], now: Instant) -> Remembered {
        match self.access().books().known.get(hash) {
            Some(known) if now.saturating_duration_since(known.read_at) < FRESH => {
                Remembered::Fresh(Arc::clone(&known.row))
            }
            Some(_) => Remembered::Stale,
            None => Remembered::Never,
        }
    }

    async fn look_up(
        &self,
        hash: &[u8; 32],
        now: Instant,
        address: Option<IpAddr>,
    ) -> Result<Arc<TokenRow>, NoEntry> {
        let row = self.store().token_by_hash(hash).await.map_err(NoEntry::Store)?;
        let mut books = self.access().books();
        let Some(row) = row else {
            books.known.remove(hash);
            drop(books);
            return Err(self.refuse(address, NoEntry::Invalid));
        };
        let row = Arc::new(row);
        if books.known.len() >= KNOWN_MAX {
            let is_fresh = |known: &Known| now.saturating_duration_since(known.read_at) < FRESH;
            books.known.retain(|_, known| is_fresh(known));
        }
        if books.known.len() < KNOWN_MAX {
            books.known.insert(*hash, Known { row: Arc::clone(&row), read_at: now });
        }
        Ok(row)
    }

    /// Whether an unknown token from there is not even looked for.
    fn may_not_look(&self, address: Option<IpAddr>, rates: Rates, now: Instant) -> Option<Budget> {
        let mut books = self.access().books();
        let all = rates.all_failures;
        let is_spent = address
            .is_some_and(|address| books.failures.is_empty(&network(address), rates.failures, now));
        let is_all_spent =
            books.all_failures.as_mut().is_some_and(|bucket| !bucket.has_one(all, now));
        if !is_spent && !is_all_spent {
            return None;
        }
        let late = books.late_lookups.get_or_insert_with(|| Bucket::full(LATE_LOOKUPS, now));
        if late.take(LATE_LOOKUPS, now) {
            return None;
        }
        match address.filter(|_| is_spent) {
            Some(address) => {
                let bucket = books.failures.of(network(address), rates.failures, now);
                Some(bucket.budget("failures", rates.failures))
            }
            None => books.all_failures.map(|bucket| bucket.budget("failures", all)),
        }
    }

    /// Counts a wrong token. When there were too many, that is what is said.
    fn refuse(&self, address: Option<IpAddr>, why: NoEntry) -> NoEntry {
        let (rates, now) = (self.rates(), self.instant());
        self.metrics().login_refused("token");
        let mut books = self.access().books();
        books.refused.total += 1;
        let all = books.all_failures.get_or_insert_with(|| Bucket::full(rates.all_failures, now));
        let mut over = None;
        if !all.take(rates.all_failures, now) {
            over = Some(all.budget("failures", rates.all_failures));
        }
        if let Some(address) = address {
            let bucket = books.failures.of(network(address), rates.failures, now);
            if !bucket.take(rates.failures, now) {
                over = Some(bucket.budget("failures", rates.failures));
            }
        }
        over.map_or(why, NoEntry::Failures)
    }

    fn count_by_rate(&self) {
        self.metrics().login_refused("rate");
        self.access().books().refused.by_rate += 1;
    }

    /// When the token was used last, whether that is written down yet or not.
    pub(crate) fn last_use(&self, row: &TokenRow) -> Option<Timestamp> {
        row.last_used_at.max(self.access().books().uses.get(&row.id).copied())
    }

    pub(crate) fn forget_tokens(&self) {
        self.access().forget();
    }

    /// Writes down which tokens were used, and how many wrong ones came.
    pub(crate) async fn write_down_access(&self) -> Result<(), AppError> {
        let (uses, refused) = {
            let mut books = self.access().books();
            (std::mem::take(&mut books.uses), std::mem::take(&mut books.refused))
        };
        if uses.is_empty() && refused.total + refused.by_rate == 0 {
            return Ok(());
        }
        let written = self.write_down(&uses, &refused).await;
        if written.is_err() {
            let mut books = self.access().books();
            for (id, at) in uses {
                books.uses.entry(id).or_insert(at);
            }
            books.refused.total += refused.total;
            books.refused.by_rate += refused.by_rate;
        }
        Ok(written?)
    }

    async fn write_down(
        &self,
        uses: &BTreeMap<TokenId, Timestamp>,
        refused: &Refused,
    ) -> Result<(), StoreError> {
        let mut tx = self.store().begin_unrecorded().await?;
        for (id, at) in uses {
            tx.touch_token(id, *at).await?;
        }
        if refused.total + refused.by_rate > 0 {
            let deed = Deed::new("login.refused", "tokens")
                .detail("wrong_total", refused.total)
                .detail("not_looked_at_total", refused.by_rate)
                .refused("token_invalid");
            tx.audit(self.now(), deed).await?;
        }
        tx.commit().await
    }
}

enum Remembered {
    Fresh(Arc<TokenRow>),
    Stale,
    Never,
}
