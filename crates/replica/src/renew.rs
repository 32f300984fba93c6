//! When does a machine need its next certificate, and how does it get it?
//!
//! At two thirds of the life of the one it has, a little later on each machine so that a fleet that
//! joined together does not renew together; and when control asks for it. The old pair stays until
//! a stream was opened with the new one.

use std::time::Duration;

use nigh_proto::{
    Timestamp,
    report::{JoinResponse, RenewRequest},
};

use crate::{
    identity::{Identity, IdentityError, Membership},
    link::{self, CallError, Link, LinkError},
    replica::Shared,
};

/// The answer holds a certificate, a name and a few CAs.
const RESPONSE_MAX_BYTES: usize = 1 << 20;
/// An answer to a renewal begins within this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// When control asks for it, machines come within this time, each at a moment of its own.
const ASKED_SPREAD: Duration = Duration::from_secs(5);
/// No retry waits longer.
const RETRY_MAX: Duration = Duration::from_secs(60 * 60);
/// No wait is longer: clocks are set while machines run.
const LOOK_MAX: Duration = Duration::from_secs(60 * 60);

/// Why there is no next certificate yet.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenewError {
    #[error("the certificate that control answered with cannot be used")]
    Unusable(#[source] LinkError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("control did not renew this machine's certificate")]
    Call(#[from] CallError),
}

/// How long until the certificate of `validity` should be renewed, by this machine's clock.
/// `spread` is 0 to 1, another one on each machine.
pub(crate) fn due_in(validity: (Timestamp, Timestamp), now: Timestamp, spread: f64) -> Duration {
    let (not_before, not_after) = validity;
    let life_ms = not_after.ms_since(not_before).max(0);
    let share = 2.0 / 3.0 + spread.clamp(0.0, 1.0) / 20.0;
    let due_at = not_before.plus_ms((life_ms as f64 * share) as i64);
    let left_ms = due_at.ms_since(now).max(0).unsigned_abs();
    Duration::from_millis(left_ms)
}

/// How long to wait until a renewal is due or worth another look.
pub(crate) fn look_in(due_in: Duration) -> Duration {
    due_in.min(LOOK_MAX)
}

/// How long to wait after so many failures in a row.
pub(crate) fn retry_in(failures: u32, random: u64) -> Duration {
    let ceiling = Duration::from_secs(1).saturating_mul(1 << failures.min(12)).min(RETRY_MAX);
    ceiling / 2 + (ceiling / 2).mul_f64((random % 1001) as f64 / 1000.0)
}

/// How long to wait when control has asked for a renewal.
pub(crate) fn asked_in(random: u64) -> Duration {
    ASKED_SPREAD.mul_f64((random % 1001) as f64 / 1000.0)
}

/// Asks control for the next certificate, for a new key, and keeps both beside what is in use.
pub(crate) async fn renew(
    shared: &Shared,
    identity: &mut Identity,
    link: &Link,
) -> Result<(), RenewError> {
    let (key_pem, csr_pem) = Identity::next_request(&shared.about.name)?;
    let request = RenewRequest { csr_pem, sent_at: (shared.now)() };
    let request = link.talk().post(link.url("machine/v1/renew")).json(&request);
    let response = link::call(request, ANSWER_TIMEOUT).await?;
    let body = link::bounded(response, RESPONSE_MAX_BYTES).await?;
    let renewed: JoinResponse =
        serde_json::from_slice(&body).map_err(|error| CallError::Garbled(error.into()))?;
    let next = Membership::new(&key_pem, &renewed.certificate_pem, renewed.ca_pem);
    let (turn, next_identity) = (shared.turns.current(), identity.with(next.clone()));
    let checked = Link::new(turn, &shared.control, &next_identity, &shared.about.version);
    checked.map_err(RenewError::Unusable)?;
    identity.keep_candidate(next)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY_MS: i64 = 86_400_000;

    fn at(days: i64) -> Timestamp {
        Timestamp::from_unix_ms(1_790_000_000_000 + days * DAY_MS)
    }

    #[test]
    fn a_certificate_of_thirty_days_is_renewed_after_twenty() {
        let validity = (at(0), at(30));
        assert_eq!(due_in(validity, at(0), 0.0), Duration::from_secs(20 * 86_400));
        assert_eq!(due_in(validity, at(20), 0.0), Duration::ZERO);
        assert_eq!(due_in(validity, at(50), 1.0), Duration::ZERO, "it has ended");
        assert_eq!(look_in(Duration::from_secs(86_400)), LOOK_MAX);
    }

    proptest! {
        #[test]
        fn every_machine_renews_well_before_the_end(life_ms in 1i64..(400 * DAY_MS), spread in 0.0..=1.0f64) {
            let (start, end) = (at(0), at(0).plus_ms(life_ms));
            let due = due_in((start, end), start, spread).as_millis() as i64;
            prop_assert!(due <= life_ms * 3 / 4 && due >= life_ms * 2 / 3 - 1);
        }

        #[test]
        fn no_retry_waits_for_ever_and_none_hurries(failures: u32, random: u64) {
            let wait = retry_in(failures, random);
            prop_assert!(wait >= Duration::from_millis(500) && wait <= RETRY_MAX);
            prop_assert!(asked_in(random) <= ASKED_SPREAD);
        }

        #[test]
        fn any_two_times_give_a_wait(a: i64, b: i64, now: i64, spread: f64) {
            let [a, b, now] = [a, b, now].map(Timestamp::from_unix_ms);
            due_in((a, b), now, spread);
        }
    }
}
