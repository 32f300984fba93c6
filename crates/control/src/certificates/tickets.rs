//! Which keys do edges seal TLS session tickets with?
//!
//! All edges have the same, so that a visitor who comes back to another one resumes. A new key comes
//! once a period and each lives three: what is stolen today opens nothing of next week.

use nigh_proto::{Timestamp, state::TicketKey};

use crate::{random::random, store::TicketKeyRow};

/// How many periods a key lives.
const PERIODS: i64 = 3;

/// Whether it is time for a new key, and how long until the next change otherwise.
pub(crate) fn until_due(newest: Option<Timestamp>, period_ms: i64, now: Timestamp) -> i64 {
    match newest {
        // A clock that was set back must not keep an old key in use for long.
        Some(made) if made <= now => (period_ms - now.ms_since(made)).max(0),
        _ => 0,
    }
}

/// A new key.
pub(crate) fn make(period_ms: i64, now: Timestamp) -> TicketKeyRow {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let key = TicketKey {
        name: hex(&random::<16>()),
        key: hex(&random::<32>()),
        not_after: now.plus_ms(period_ms.saturating_mul(PERIODS)),
    };
    TicketKeyRow { key, created_at: now }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_new_once_a_period_and_lives_three() {
        let at = Timestamp::from_unix_ms;
        assert_eq!(until_due(None, 10, at(5)), 0);
        assert_eq!(until_due(Some(at(5)), 10, at(6)), 9);
        assert_eq!(until_due(Some(at(5)), 10, at(15)), 0);
        assert_eq!(until_due(Some(at(9)), 10, at(5)), 0, "the clock was set back");
        let made = make(10, at(5)).key;
        assert_eq!((made.name.len(), made.key.len(), made.not_after), (32, 64, at(35)));
        assert_ne!(make(10, at(5)).key.key, made.key);
    }
}
