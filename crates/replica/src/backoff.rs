//! How long to wait before control is dialled again?
//!
//! Full jitter: a fleet whose control has restarted comes back spread out, and the first machines
//! within a tenth of a second.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

/// The first wait is at most this long.
const FIRST_MAX: Duration = Duration::from_millis(100);
/// No wait is longer.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(5);

/// The wait before retry number `attempt`, the first being 0: anything up to 100 ms, doubled with
/// every attempt up to 5 s.
pub(crate) fn wait(attempt: u32, random: u64) -> Duration {
    let ceiling = FIRST_MAX.saturating_mul(1 << attempt.min(16)).min(WAIT_MAX);
    let ceiling_us = u64::try_from(ceiling.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(random % (ceiling_us + 1))
}

/// The wait after a refusal that only a person can lift: 2.5 s to 5 s, so that a fleet does not ask
/// in step.
pub(crate) fn refused_wait(random: u64) -> Duration {
    let half = WAIT_MAX / 2;
    half + half.mul_f64((random % 1001) as f64 / 1000.0)
}

/// A number that nobody needs to keep secret.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_first_retry_is_quick_and_none_waits_longer_than_the_cap(
            attempt: u32,
            random: u64,
        ) {
            prop_assert!(wait(0, random) <= FIRST_MAX);
            prop_assert!(wait(attempt, random) <= WAIT_MAX);
            prop_assert!((WAIT_MAX / 2..=WAIT_MAX).contains(&refused_wait(random)));
        }
    }

    #[test]
    fn the_ceiling_doubles() {
        for (attempt, ceiling_ms) in [(0, 100), (1, 200), (4, 1600), (6, 5000), (40, 5000)] {
            assert_eq!(wait(attempt, ceiling_ms * 1000), Duration::from_millis(ceiling_ms));
            assert_eq!(wait(attempt, ceiling_ms * 1000 + 1), Duration::ZERO);
        }
    }
}
