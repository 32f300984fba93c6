//! How often may somebody ask?
//!
//! [`Rate`] and [`Bucket`] decide, as pure functions of the time; [`Buckets`] keeps one bucket per
//! caller in a table that does not grow beyond its bound. When a table is full, newcomers share
//! one bucket: a flood from many addresses cannot push out those that are counted already.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

/// So many at once, and as many again within the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) quota: u32,
    pub(crate) window: Duration,
}

/// What is left, for whoever asks and for the fields of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    pub(crate) policy: &'static str,
    pub(crate) rate: Rate,
    pub(crate) remaining: u32,
    /// Until the next may be asked when nothing remains; until all is there again otherwise.
    pub(crate) reset: Duration,
}

/// Fills steadily; empty when `quota` were taken within the window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    level: f64,
    at: Instant,
}

impl Rate {
    pub(crate) const fn per_minute(quota: u32) -> Self {
        Rate { quota, window: Duration::from_secs(60) }
    }

    fn per_second(self) -> f64 {
        f64::from(self.quota) / self.window.as_secs_f64()
    }
}

impl Bucket {
    pub(crate) fn full(rate: Rate, now: Instant) -> Self {
        Bucket { level: f64::from(rate.quota), at: now }
    }

    fn refill(&mut self, rate: Rate, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.level = (self.level + passed * rate.per_second()).min(f64::from(rate.quota));
        self.at = self.at.max(now);
    }

    /// Whether another may be taken.
    pub(crate) fn has_one(&mut self, rate: Rate, now: Instant) -> bool {
        self.refill(rate, now);
        self.level >= 1.0
    }

    /// Takes one, if there is one.
    pub(crate) fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let has_one = self.has_one(rate, now);
        if has_one {
            self.level -= 1.0;
        }
        has_one
    }

    pub(crate) fn budget(&self, policy: &'static str, rate: Rate) -> Budget {
        let wanted = if self.level >= 1.0 { f64::from(rate.quota) } else { 1.0 };
        let seconds = (wanted - self.level).max(0.0) / rate.per_second().max(f64::MIN_POSITIVE);
        let reset = Duration::try_from_secs_f64(seconds).unwrap_or(rate.window);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to quota")]
        let remaining = self.level.floor() as u32;
        Budget { policy, rate, remaining, reset }
    }
}

/// One bucket per key, for at most so many keys.
#[derive(Debug)]
pub(crate) struct Buckets<K> {
    buckets: HashMap<K, Bucket>,
    keys_max: usize,
    /// For everybody whom the table has no room for.
    shared: Option<Bucket>,
    swept_at: Option<Instant>,
}

/// A full table is looked through for buckets that are full again this often at most.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

impl<K: Hash + Eq> Buckets<K> {
    pub(crate) fn new(keys_max: usize) -> Self {
        Self { buckets: HashMap::new(), keys_max, shared: None, swept_at: None }
    }

    pub(crate) fn of(&mut self, key: K, rate: Rate, now: Instant) -> &mut Bucket {
        let is_known = self.buckets.contains_key(&key);
        if !is_known && self.buckets.len() >= self.keys_max {
            self.sweep(rate, now);
        }
        if is_known || self.buckets.len() < self.keys_max {
            self.buckets.entry(key).or_insert_with(|| Bucket::full(rate, now))
        } else {
            self.shared.get_or_insert_with(|| Bucket::full(rate, now))
        }
    }

    /// Whether the key has nothing left; one that is not in the table has everything.
    pub(crate) fn is_empty(&mut self, key: &K, rate: Rate, now: Instant) -> bool {
        self.buckets.get_mut(key).is_some_and(|bucket| !bucket.has_one(rate, now))
    }

    fn sweep(&mut self, rate: Rate, now: Instant) {
        let is_soon = |at: Instant| now.saturating_duration_since(at) < SWEEP_INTERVAL;
        if self.swept_at.is_some_and(is_soon) {
            return;
        }
        self.swept_at = Some(now);
        self.buckets.retain(|_, bucket| {
            bucket.refill(rate, now);
            bucket.level + 1.0 <= f64::from(rate.quota)
        });
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.buckets.len()
    }
}

/// What counts as one address: a host of IPv4, a customer's /56 of IPv6.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => {
            let bits = u128::from(v6) >> 72 << 72;
            Ipv6Addr::from(bits).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RATE: Rate = Rate::per_minute(6);

    #[test]
    fn a_bucket_gives_its_quota_and_fills_again() {
        let start = Instant::now();
        let mut bucket = Bucket::full(RATE, start);
        assert_eq!((0..10).filter(|_| bucket.take(RATE, start)).count(), 6);
        let budget = bucket.budget("token", RATE);
        assert_eq!((budget.remaining, budget.reset.as_secs()), (0, 10));
        assert!(!bucket.take(RATE, start + Duration::from_secs(9)));
        assert!(bucket.take(RATE, start + Duration::from_secs(11)));
    }

    #[test]
    fn a_full_table_neither_grows_nor_forgets_who_is_at_it() {
        let now = Instant::now();
        let mut buckets = Buckets::new(2);
        for key in [1, 2] {
            while buckets.of(key, RATE, now).take(RATE, now) {}
        }
        for key in 3..100 {
            buckets.of(key, RATE, now).take(RATE, now);
        }
        assert_eq!(buckets.len(), 2);
        assert!(buckets.is_empty(&1, RATE, now) && !buckets.is_empty(&50, RATE, now));
        assert!(!buckets.of(100, RATE, now).take(RATE, now), "newcomers share a bucket");
        let later = now + Duration::from_secs(120);
        assert!(buckets.of(100, RATE, later).take(RATE, later), "the old ones made room");
    }

    #[test]
    fn an_address_of_ipv6_is_its_customer() {
        let network = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(network("2001:db8:1:22ff:3::4"), "2001:db8:1:2200::");
        assert_eq!(network("::ffff:192.0.2.7"), "192.0.2.7");
    }

    proptest! {
        /// Over any span nobody gets more than a quota at once and the rate after it.
        #[test]
        fn nobody_gets_more(steps in proptest::collection::vec(0u64..30_000, 1..200)) {
            let start = Instant::now();
            let mut bucket = Bucket::full(RATE, start);
            let (mut now, mut taken) = (start, 0u32);
            for ms in steps {
                now += Duration::from_millis(ms);
                taken += u32::from(bucket.take(RATE, now));
            }
            let allowed = 6.0 + (now - start).as_secs_f64() / 10.0;
            prop_assert!(f64::from(taken) <= allowed + 1e-6);
        }
    }
}
