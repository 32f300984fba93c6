//! How long to wait before a call is made again, and when to give up?

use std::{
    hash::{BuildHasher, Hasher},
    time::{Duration, Instant},
};

/// When to stop repeating a call that failed for a passing reason.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    give_up: GiveUp,
}

#[derive(Clone, Copy, Debug)]
enum GiveUp {
    After(Duration),
    At(Instant),
}

/// The longest wait between two attempts.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// The wait before the first repetition, at most.
const WAIT_FIRST: Duration = Duration::from_millis(100);

impl Patience {
    /// Gives up on a call when `duration` has passed since its first attempt.
    pub const fn for_each_call(duration: Duration) -> Self {
        Self { give_up: GiveUp::After(duration) }
    }

    /// Gives up on every call at the same moment.
    pub const fn until(deadline: Instant) -> Self {
        Self { give_up: GiveUp::At(deadline) }
    }

    pub(crate) fn deadline(self, now: Instant) -> Instant {
        match self.give_up {
            GiveUp::After(duration) => now + duration,
            GiveUp::At(deadline) => deadline,
        }
    }
}

impl Default for Patience {
    /// Long enough to outlive a dropped connection, short enough for somebody at a terminal.
    fn default() -> Self {
        Self::for_each_call(Duration::from_secs(2))
    }
}

/// The wait before attempt `attempt` (the first repetition is 1): doubles from 100 ms to 5 s, and
/// half of it is random so that many callers do not come back together.
pub fn wait_before(attempt: u32, random: u64) -> Duration {
    let doubled = WAIT_FIRST.saturating_mul(1 << attempt.saturating_sub(1).min(16));
    let half = doubled.min(WAIT_MAX) / 2;
    let spread = u64::try_from(half.as_millis()).unwrap_or(u64::MAX).max(1);
    half + Duration::from_millis(random % spread)
}

/// A random number that need not be secret: the seed of a new hash map.
pub(crate) fn random() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waits_double_up_to_the_written_bound() {
        for (attempt, least_ms) in [(1, 50), (2, 100), (3, 200), (6, 1600), (7, 2500), (90, 2500)] {
            assert_eq!(wait_before(attempt, 0), Duration::from_millis(least_ms), "{attempt}");
        }
    }

    proptest! {
        #[test]
        fn no_wait_is_longer_than_the_bound(attempt: u32, random: u64) {
            let wait = wait_before(attempt, random);
            prop_assert!(wait >= WAIT_FIRST / 2 && wait <= WAIT_MAX);
        }
    }
}
