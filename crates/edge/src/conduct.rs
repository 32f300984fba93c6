//! What has a connection been doing?
//!
//! Its requests are noted here as they come and go. `stall` reads it to tell a visitor from someone
//! who only takes up room, `service` to refuse what must not be answered.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Notes about one connection, shared by all that work on it.
#[derive(Debug, Default)]
pub(crate) struct Conduct {
    begun: AtomicU64,
    ended: AtomicU64,
    rests: AtomicU64,
    has_bare_lf: AtomicBool,
}

impl Conduct {
    /// A request has come.
    pub(crate) fn begin(&self) {
        self.begun.fetch_add(1, Relaxed);
    }

    /// Its answer has left, or was given up.
    pub(crate) fn end(&self) {
        let ended = self.ended.fetch_add(1, Relaxed) + 1;
        if ended == self.begun.load(Relaxed) {
            self.rests.fetch_add(1, Relaxed);
        }
    }

    /// A line that came in did not end as it must.
    pub(crate) fn note_bare_lf(&self) {
        self.has_bare_lf.store(true, Relaxed);
    }

    pub(crate) fn has_bare_lf(&self) -> bool {
        self.has_bare_lf.load(Relaxed)
    }

    /// The counts at this moment. `is_blocked` is whether bytes wait for the client to read.
    pub(crate) fn tally(&self, is_blocked: bool) -> Tally {
        // Ended first: a request that comes and goes in between must not count as ended only.
        let ended = self.ended.load(Relaxed);
        Tally {
            begun: self.begun.load(Relaxed),
            ended,
            rests: self.rests.load(Relaxed),
            is_blocked,
        }
    }
}

/// What was noted until some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    begun: u64,
    ended: u64,
    /// How often all requests were answered.
    rests: u64,
    is_blocked: bool,
}

impl Tally {
    const fn is_answering(&self) -> bool {
        self.begun > self.ended
    }

    /// Whether a connection was worth its place since `before`, when it has taken `sent_bytes`.
    ///
    /// One that had answers to take all the time must have taken `sent_bytes_min`; small requests
    /// beside a large answer that does not move are no excuse. One that had none must have asked.
    pub(crate) fn is_worth_keeping(
        &self,
        before: &Tally,
        sent_bytes: u64,
        sent_bytes_min: u64,
    ) -> bool {
        let was_answering =
            before.is_answering() && self.is_answering() && before.rests == self.rests;
        let was_blocked = before.is_blocked && self.is_blocked;
        let has_asked = before.begun != self.begun || before.ended != self.ended;
        sent_bytes >= sent_bytes_min || (has_asked && !was_answering && !was_blocked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: u64 = 1000;

    #[test]
    fn one_that_takes_its_answer_is_kept_and_one_that_does_not_is_not() {
        let conduct = Conduct::default();
        conduct.begin();
        let before = conduct.tally(false);
        let now = conduct.tally(true);
        assert!(now.is_worth_keeping(&before, MIN, MIN));
        assert!(!now.is_worth_keeping(&before, MIN - 1, MIN));
    }

    #[test]
    fn small_requests_beside_an_answer_that_does_not_move_are_no_excuse() {
        let conduct = Conduct::default();
        conduct.begin();
        let before = conduct.tally(false);
        conduct.begin();
        conduct.end();
        assert!(!conduct.tally(false).is_worth_keeping(&before, 100, MIN));
    }

    #[test]
    fn small_answers_one_after_the_other_are_fine() {
        let conduct = Conduct::default();
        let before = conduct.tally(false);
        conduct.begin();
        conduct.end();
        conduct.begin();
        assert!(conduct.tally(false).is_worth_keeping(&before, 100, MIN));
    }

    #[test]
    fn one_that_asks_nothing_is_not_kept_for_single_bytes() {
        let conduct = Conduct::default();
        conduct.begin();
        conduct.end();
        let before = conduct.tally(false);
        assert!(!conduct.tally(false).is_worth_keeping(&before, 8, MIN));
    }

    #[test]
    fn bytes_that_wait_for_the_client_all_the_time_are_not_rest() {
        let conduct = Conduct::default();
        let before = conduct.tally(true);
        conduct.begin();
        conduct.end();
        assert!(!conduct.tally(true).is_worth_keeping(&before, 8, MIN));
        assert!(conduct.tally(false).is_worth_keeping(&before, 8, MIN));
    }
}
