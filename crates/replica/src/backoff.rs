//! How long to wait before dialling control again?

use std::time::Duration;

/// The first wait, and the unit that doubles.
const FIRST: Duration = Duration::from_millis(100);
/// No wait is longer, so a control that comes back is found within seconds.
const MAX: Duration = Duration::from_secs(5);

/// The wait before attempt `attempt` (from 0): anywhere up to 100 ms doubled each time, at most 5 s
/// (full jitter), so that a fleet does not come back in step. `random` is any number.
pub(crate) fn wait(attempt: u32, random: u64) -> Duration {
    let ceiling = FIRST.saturating_mul(1 << attempt.min(16)).min(MAX);
    let ceiling_ms = u64::try_from(ceiling.as_millis()).unwrap_or(u64::MAX).max(1);
    Duration::from_millis(random % ceiling_ms)
}

/// A number that differs from call to call; it need not be secret.
pub(crate) fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_below_five_seconds() {
        assert!(wait(0, u64::MAX) < FIRST);
        for attempt in [5, 10, 60, u32::MAX] {
            assert!(wait(attempt, u64::MAX) < MAX, "{attempt}");
        }
        assert_eq!(wait(9, 4_999), Duration::from_millis(4_999));
    }
}
