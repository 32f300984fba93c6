//! When is a delivery that failed tried again, and when is it given up?

use nigh_proto::Timestamp;

/// The wait after the first failure; it doubles with every further one.
const FIRST_WAIT_MS: i64 = 5_000;
const WAIT_MAX_MS: i64 = 60 * 60 * 1000;
/// So long after its first failure an event is given up, and the next one is tried.
pub(crate) const EVENT_GIVEN_UP_MS: i64 = 24 * 60 * 60 * 1000;
/// A webhook to which nothing could be delivered for so long is turned off.
pub(crate) const DISABLED_AFTER_MS: i64 = 3 * 24 * 60 * 60 * 1000;

/// How long things have not worked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failing {
    /// Failures of this event, this one among them.
    pub attempts: u32,
    /// When this event failed first.
    pub event_since: Timestamp,
    /// When anything failed first since the last success.
    pub since: Timestamp,
    /// The receiver said that it wants no more (410).
    pub is_unwanted: bool,
}

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    Retry {
        at: Timestamp,
    },
    /// This event is not tried again; the next one is, after a wait.
    GiveUp {
        next_at: Timestamp,
    },
    Disable,
}

/// Decides after a failure at `now`; `random` spreads those that failed together.
pub(crate) fn after_failure(failing: Failing, now: Timestamp, random: u64) -> After {
    if failing.is_unwanted || now.ms_since(failing.since) >= DISABLED_AFTER_MS {
        return After::Disable;
    }
    let at = now.plus_ms(wait_ms(failing.attempts, random));
    if now.ms_since(failing.event_since) >= EVENT_GIVEN_UP_MS {
        return After::GiveUp { next_at: at };
    }
    After::Retry { at }
}

/// Half of the wait is random.
fn wait_ms(attempts: u32, random: u64) -> i64 {
    let doubled = FIRST_WAIT_MS << attempts.saturating_sub(1).min(20);
    let half = doubled.min(WAIT_MAX_MS) / 2;
    half + i64::try_from(random % half.unsigned_abs()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_unix_ms(ms)
    }

    #[test]
    fn an_event_is_tried_for_a_day_and_a_webhook_for_three() {
        let failing = Failing { attempts: 1, event_since: at(0), since: at(0), is_unwanted: false };
        assert_eq!(after_failure(failing, at(0), 0), After::Retry { at: at(2_500) });
        let day = EVENT_GIVEN_UP_MS;
        assert!(matches!(after_failure(failing, at(day - 1), 0), After::Retry { .. }));
        assert!(matches!(after_failure(failing, at(day), 0), After::GiveUp { .. }));
        assert_eq!(after_failure(failing, at(DISABLED_AFTER_MS), 0), After::Disable);
        let unwanted = Failing { is_unwanted: true, ..failing };
        assert_eq!(after_failure(unwanted, at(0), 0), After::Disable);
    }

    #[test]
    fn a_day_of_failures_is_a_bounded_number_of_requests() {
        let (mut now, mut attempts) = (at(0), 0);
        loop {
            attempts += 1;
            let failing =
                Failing { attempts, event_since: at(0), since: at(0), is_unwanted: false };
            match after_failure(failing, now, 0) {
                After::Retry { at } => now = at,
                After::GiveUp { .. } | After::Disable => break,
            }
        }
        assert!((30..80).contains(&attempts), "{attempts}");
    }

    proptest! {
        #[test]
        fn waits_are_bounded(attempts: u32, random: u64) {
            let wait = wait_ms(attempts, random);
            prop_assert!((FIRST_WAIT_MS / 2..=WAIT_MAX_MS).contains(&wait));
        }
    }
}
