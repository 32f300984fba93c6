//! When may a CA be asked for a certificate, and which of several?
//!
//! What happened is remembered: a host that fails waits longer every time, so that it never burns a
//! limit; a CA that is down, or that said "too many", is left alone until then; and what CAs count is
//! counted here as well, against ceilings below those that Let's Encrypt has published. One that
//! cannot be asked makes way for the next one.

use std::collections::BTreeSet;

use nigh_proto::{Timestamp, zone::DnsName};

const MINUTE_MS: i64 = 60 * 1000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// How long what happened counts, at most.
pub(crate) const MEMORY_MS: i64 = 8 * DAY_MS;

/// What CAs count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventKind {
    /// A new order.
    Order,
    /// A host that was not validated.
    Failure,
    /// A certificate for exactly these names.
    Names,
    /// A certificate with names in this registered domain.
    Domain,
}

impl EventKind {
    pub(crate) const ALL: [Self; 4] = [Self::Order, Self::Failure, Self::Names, Self::Domain];

    pub(crate) const fn label(self) -> &'static str {
        match self {
            EventKind::Order => "order",
            EventKind::Failure => "failure",
            EventKind::Names => "names",
            EventKind::Domain => "domain",
        }
    }

    /// How many there may be within how long. Let's Encrypt has 300 in 3 h, 5 in 1 h, 5 and 50 in 7 d.
    const fn ceiling(self) -> (usize, i64) {
        match self {
            EventKind::Order => (250, 3 * HOUR_MS),
            EventKind::Failure => (3, HOUR_MS),
            EventKind::Names => (4, 7 * DAY_MS),
            EventKind::Domain => (40, 7 * DAY_MS),
        }
    }

    const fn reason(self) -> &'static str {
        match self {
            EventKind::Order => "as many orders as its rate limit leaves room for",
            EventKind::Failure => "this host failed too often within the hour",
            EventKind::Names => "as many certificates for the same names as a week has room for",
            EventKind::Domain => "as many certificates for this domain as a week has room for",
        }
    }
}

/// One thing that a CA counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub ca: String,
    pub kind: EventKind,
    pub subject: String,
    pub at: Timestamp,
}

/// Why something is not tried again at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetbackKind {
    /// The CA does not answer, or with errors of its own.
    Down,
    /// It said "too many".
    Limited,
    /// It does not issue for this name, and will not soon.
    Refused,
    /// It could not see the answer to its challenge.
    Failed,
}

impl SetbackKind {
    pub(crate) const ALL: [Self; 4] = [Self::Down, Self::Limited, Self::Refused, Self::Failed];

    pub(crate) const fn label(self) -> &'static str {
        match self {
            SetbackKind::Down => "down",
            SetbackKind::Limited => "limited",
            SetbackKind::Refused => "refused",
            SetbackKind::Failed => "failed",
        }
    }

    /// The first wait, and the longest.
    const fn waits(self) -> (i64, i64) {
        match self {
            SetbackKind::Down => (MINUTE_MS, HOUR_MS),
            SetbackKind::Limited => (HOUR_MS, DAY_MS),
            SetbackKind::Refused => (6 * HOUR_MS, DAY_MS),
            SetbackKind::Failed => (5 * MINUTE_MS, DAY_MS),
        }
    }
}

/// What went wrong between one CA and one name, or the CA as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setback {
    pub ca: String,
    /// A name; or the id of a certificate for which this fleet was not ready; nothing: the CA as a
    /// whole.
    pub subject: String,
    pub kind: SetbackKind,
    /// How often in a row.
    pub failures: u32,
    pub since: Timestamp,
    pub retry_at: Timestamp,
    pub detail: String,
}

/// What went wrong just now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub subject: String,
    pub kind: SetbackKind,
    /// When the CA said to come back.
    pub retry_after_ms: Option<i64>,
    pub detail: String,
}

impl Trouble {
    /// Ids have a colon, which no name has.
    pub(crate) fn is_about_name(&self) -> bool {
        !self.subject.is_empty() && !self.subject.contains(':')
    }
}

impl Setback {
    /// The setback after `trouble`, which came after `before`. `chance` (0 to 1) spreads the waits of
    /// many, by a fifth either way.
    pub(crate) fn after(
        before: Option<&Setback>,
        ca: &str,
        trouble: Trouble,
        now: Timestamp,
        chance: f64,
    ) -> Self {
        let before = before.filter(|before| before.kind == trouble.kind);
        let failures = before.map_or(0, |before| before.failures).saturating_add(1);
        let (first, longest) = trouble.kind.waits();
        let doubled = first.saturating_mul(1 << (failures - 1).min(20)).min(longest);
        #[expect(clippy::cast_possible_truncation, reason = "a day and a fifth, in milliseconds")]
        let spread = (doubled as f64 * (0.8 + 0.4 * chance.clamp(0.0, 1.0))) as i64;
        // A CA may ask for more patience, within reason, and never for less.
        let told = trouble.retry_after_ms.unwrap_or(0).clamp(0, 7 * DAY_MS);
        Setback {
            ca: ca.to_owned(),
            subject: trouble.subject,
            kind: trouble.kind,
            failures,
            since: before.map_or(now, |before| before.since),
            retry_at: now.plus_ms(spread.max(told)),
            detail: trouble.detail.chars().take(500).collect(),
        }
    }
}

/// Everything remembered of all CAs.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub events: Vec<Event>,
    pub setbacks: Vec<Setback>,
}

/// Not now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    pub until: Timestamp,
    pub why: String,
}

impl History {
    pub(crate) fn setback(&self, ca: &str, subject: &str) -> Option<&Setback> {
        self.setbacks.iter().find(|setback| setback.ca == ca && setback.subject == subject)
    }

    /// Names that have failed somewhere and have had no certificate since.
    pub(crate) fn troubled(&self) -> BTreeSet<DnsName> {
        let names = self.setbacks.iter().filter(|setback| !setback.subject.is_empty());
        names.filter_map(|setback| setback.subject.parse().ok()).collect()
    }

    /// The first of `cas` that may be asked for certificate `id` with `names` now, by its place in the
    /// list.
    pub(crate) fn choose(
        &self,
        cas: &[&str],
        id: &str,
        names: &[DnsName],
        fallback_after_ms: i64,
        now: Timestamp,
    ) -> Result<usize, Hold> {
        let mut soonest: Option<Hold> = None;
        for (index, ca) in cas.iter().enumerate() {
            let hold = match self.verdict(ca, id, names, now) {
                Ok(()) => return Ok(index),
                Err(hold) => hold,
            };
            let is_last_word = !self.makes_way(ca, id, names, fallback_after_ms, now);
            if soonest.as_ref().is_none_or(|soonest| hold.until < soonest.until) {
                soonest = Some(hold);
            }
            if is_last_word {
                break;
            }
        }
        let none = || Hold { until: now.plus_ms(HOUR_MS), why: "no CA is configured".to_owned() };
        Err(soonest.unwrap_or_else(none))
    }

    /// Whether `ca` may be asked for certificate `id` with `names` now.
    fn verdict(&self, ca: &str, id: &str, names: &[DnsName], now: Timestamp) -> Result<(), Hold> {
        let subjects = ["", id].into_iter().chain(names.iter().map(DnsName::as_str));
        let waiting = subjects
            .filter_map(|subject| self.setback(ca, subject))
            .filter(|setback| setback.retry_at > now)
            .max_by_key(|setback| setback.retry_at);
        if let Some(setback) = waiting {
            return Err(Hold { until: setback.retry_at, why: setback.detail.clone() });
        }
        let mut counted = vec![(EventKind::Order, String::new()), (EventKind::Names, key(names))];
        counted.extend(names.iter().map(|name| (EventKind::Failure, name.to_string())));
        counted.extend(domains(names).into_iter().map(|domain| (EventKind::Domain, domain)));
        let full = counted.iter().filter_map(|(kind, subject)| {
            let until = self.full_until(ca, *kind, subject, now)?;
            Some(Hold { until, why: kind.reason().to_owned() })
        });
        full.max_by_key(|hold| hold.until).map_or(Ok(()), Err)
    }

    /// Until when there are as many of a kind as there may be.
    fn full_until(
        &self,
        ca: &str,
        kind: EventKind,
        subject: &str,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let (most, within_ms) = kind.ceiling();
        let is_counted = |event: &&Event| {
            event.kind == kind
                && event.ca == ca
                && event.subject == subject
                && now.ms_since(event.at) < within_ms
        };
        let mut times: Vec<Timestamp> =
            self.events.iter().filter(is_counted).map(|event| event.at).collect();
        times.sort_unstable();
        let oldest_that_fills = times.len().checked_sub(most)?;
        Some(times[oldest_that_fills].plus_ms(within_ms))
    }

    /// Whether the next CA may be asked instead of this one, which may not: not for a short outage,
    /// and not for a host that another CA would not see either.
    fn makes_way(
        &self,
        ca: &str,
        id: &str,
        names: &[DnsName],
        patience_ms: i64,
        now: Timestamp,
    ) -> bool {
        if self.setback(ca, id).is_some_and(|setback| setback.retry_at > now) {
            return false;
        }
        if let Some(whole) = self.setback(ca, "").filter(|setback| setback.retry_at > now) {
            return whole.kind != SetbackKind::Down || now.ms_since(whole.since) >= patience_ms;
        }
        let of_names = names.iter().filter_map(|name| self.setback(ca, name.as_str()));
        let mut waiting = of_names.filter(|setback| setback.retry_at > now).peekable();
        if waiting.peek().is_none() {
            return true;
        }
        waiting.all(|setback| setback.kind != SetbackKind::Failed || setback.failures >= 3)
    }
}

/// What a new certificate for `names` adds to what is counted.
pub(crate) fn issued(ca: &str, names: &[DnsName], now: Timestamp) -> Vec<Event> {
    let event = |kind, subject| Event { ca: ca.to_owned(), kind, subject, at: now };
    let domains = domains(names).into_iter().map(|domain| event(EventKind::Domain, domain));
    std::iter::once(event(EventKind::Names, key(names))).chain(domains).collect()
}

/// A set of names as one short text.
fn key(names: &[DnsName]) -> String {
    let sorted: BTreeSet<&str> = names.iter().map(DnsName::as_str).collect();
    let mut hasher = blake3::Hasher::new();
    for name in sorted {
        hasher.update(name.as_bytes()).update(b"\n");
    }
    hasher.finalize().to_hex().to_string()
}

/// The registered domains of `names`, as CAs count them: one label below the public suffix, which may
/// be one of a host of many customers (`github.io`). A name that is a suffix itself counts alone.
fn domains(names: &[DnsName]) -> BTreeSet<String> {
    let domain = |name: &DnsName| {
        let bare = name.as_str().trim_start_matches("*.");
        psl::domain_str(bare).unwrap_or(bare).to_owned()
    };
    names.iter().map(domain).collect()
}

#[cfg(test)]
mod tests;
