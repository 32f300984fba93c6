//! Does a second machine talk under the identity of this one?
//!
//! Of two machines with one identity, such as a restored snapshot beside its original, the one that
//! was started last counts while it is there.

use std::time::{Duration, Instant};

use super::starts::Starts;

/// A copy that was not heard of for so long is gone.
const COPY_GONE: Duration = Duration::from_secs(10 * 60);
/// How often other controls are told of a copy that goes on talking.
const COPY_TOLD: Duration = Duration::from_secs(60);

/// What a start of a machine is among those that were seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It counts.
    Newest,
    /// It was not heard of before, or the one that came after it is gone: it is to take its place.
    New,
    /// Another one came after it and is there: this is a copy, or the original of one. `is_news`: it
    /// is worth telling the other controls.
    Superseded { is_news: bool },
}

/// The starts of one machine, and what was heard of those that no longer count.
#[derive(Clone, Debug, Default)]
pub(super) struct Copies {
    /// As far as they are remembered.
    starts: Starts,
    /// When a superseded start was last heard of.
    heard_at: Option<Instant>,
    /// How often since the newest started: once may be a report that was on its way then.
    heard_total: u32,
    /// When other controls were told of that.
    told_at: Option<Instant>,
    /// When another control last heard of two machines.
    heard_elsewhere_at: Option<Instant>,
}

impl Copies {
    pub(super) const fn starts(&self) -> &Starts {
        &self.starts
    }

    /// What the start `instance` is; `is_away`: whether the machine, by its newest start, is.
    pub(super) fn standing(&mut self, instance: u64, is_away: bool, now: Instant) -> Standing {
        if instance == 0 || self.starts.newest() == Some(instance) {
            return Standing::Newest;
        }
        if is_away || !self.starts.is_superseded(instance) {
            return Standing::New;
        }
        self.heard_at = Some(now);
        self.heard_total = self.heard_total.saturating_add(1);
        let was_long_ago = |at| now.saturating_duration_since(at) >= COPY_TOLD;
        let is_news = self.heard_total > 1 && self.told_at.is_none_or(was_long_ago);
        if is_news {
            self.told_at = Some(now);
        }
        Standing::Superseded { is_news }
    }

    /// A start takes the place of the one before, unless `starts` is older than what is known.
    pub(super) fn started(&mut self, starts: Starts) {
        if !starts.is_after(&self.starts) {
            return;
        }
        if starts.newest() != self.starts.newest() {
            self.heard_total = 0;
        }
        self.starts = starts;
    }

    /// When another control last heard of two machines, as it says itself.
    pub(super) const fn told(&mut self, heard_elsewhere_at: Option<Instant>) {
        self.heard_elsewhere_at = heard_elsewhere_at;
    }

    /// Whether two machines were heard of lately, here or elsewhere.
    pub(super) fn is_heard(&self, now: Instant) -> bool {
        let is_recent = |at| now.saturating_duration_since(at) < COPY_GONE;
        self.heard_total > 1 && self.heard_at.is_some_and(is_recent)
            || self.heard_elsewhere_at.is_some_and(is_recent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_that_goes_on_talking_is_told_to_others_now_and_then() {
        let start = Instant::now();
        let mut copies = Copies::default();
        copies.started(Starts::default().with(1).with(2));
        // Every five seconds, as machines report, for two and a half minutes.
        let heard = (0..30).map(|round| {
            match copies.standing(1, false, start + Duration::from_secs(5 * round)) {
                Standing::Superseded { is_news } => is_news,
                other => panic!("{other:?}"),
            }
        });
        let told: Vec<usize> =
            heard.enumerate().filter_map(|(at, news)| news.then_some(at)).collect();
        assert_eq!(told, [1, 13, 25]);
    }

    #[test]
    fn a_copy_is_forgotten_when_it_has_been_quiet() {
        let start = Instant::now();
        let mut copies = Copies::default();
        copies.started(Starts::default().with(1).with(2));
        copies.standing(1, false, start);
        assert!(!copies.is_heard(start), "this may have been on its way");
        copies.standing(1, false, start);
        let gone = start + COPY_GONE;
        assert!(copies.is_heard(gone - Duration::from_millis(1)) && !copies.is_heard(gone));
        copies.told(Some(gone));
        assert!(copies.is_heard(gone), "another control hears both");
    }

    proptest::proptest! {
        /// Controls hear what the database says late, again and out of order: once they have heard the
        /// last of it they agree.
        #[test]
        fn whoever_hears_of_the_same_starts_agrees_on_the_newest(
            drawn in proptest::collection::vec(1u64..6, 1..40),
            heard in proptest::collection::vec(0usize..40, 0..40),
        ) {
            let all: Vec<Starts> = drawn
                .iter()
                .scan(Starts::default(), |starts, instance| {
                    *starts = starts.clone().with(*instance);
                    Some(starts.clone())
                })
                .collect();
            let (last, newest) = (all.len() - 1, drawn[drawn.len() - 1]);
            let mut copies = Copies::default();
            for at in heard.iter().map(|at| at % all.len()).chain([last, 0]) {
                copies.started(all[at].clone());
            }
            proptest::prop_assert_eq!(copies.starts(), &all[last]);
            for instance in &drawn {
                let is_superseded = copies.starts().is_superseded(*instance);
                proptest::prop_assert_eq!(is_superseded, *instance != newest);
            }
        }
    }
}
