//! Has the log been told this already?
//!
//! Control may be away for weeks, and a refusal stays one until a person does something. Each
//! reason is told when it is new, and now and then while it lasts.

/// A reason that lasts is told again after so many times: at most every 40 minutes or so, with
/// waits of [`backoff`](crate::backoff) between.
const AGAIN_AFTER: u32 = 500;

/// What was said last, and how often it was true since.
#[derive(Debug, Default)]
pub(crate) struct Said {
    last: String,
    repeats: u32,
}

impl Said {
    /// Whether `text` is worth a line in the log.
    pub(crate) fn is_news(&mut self, text: &str) -> bool {
        if self.last == text && self.repeats < AGAIN_AFTER {
            self.repeats += 1;
            return false;
        }
        *self = Said { last: text.to_owned(), repeats: 0 };
        true
    }

    /// Things went well in between: whatever comes is news.
    pub(crate) fn forget(&mut self) {
        *self = Said::default();
    }
}

/// What was said of each of several controls, which fail for reasons of their own.
#[derive(Debug, Default)]
pub(crate) struct Saids(Vec<Said>);

/// More controls share what was said of them.
const SAIDS_MAX: usize = 16;

impl Saids {
    /// Of the control whose turn `turn` was, `total` turns after which it was asked before.
    pub(crate) fn of(&mut self, turn: usize, total: usize) -> &mut Said {
        let place = turn % total.clamp(1, SAIDS_MAX);
        if self.0.len() <= place {
            self.0.resize_with(place + 1, Said::default);
        }
        &mut self.0[place]
    }

    /// See [`Said::forget`].
    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_once_and_again_when_it_lasts_or_comes_back() {
        let mut said = Said::default();
        assert!(said.is_news("away") && !said.is_news("away"));
        assert!(said.is_news("refused") && said.is_news("away"));
        let told = (0..2 * AGAIN_AFTER + 2).filter(|_| said.is_news("away")).count();
        assert_eq!(told, 2);
        said.forget();
        assert!(said.is_news("away"));
    }

    #[test]
    fn two_controls_that_fail_by_turns_are_told_of_once_each() {
        let mut saids = Saids::default();
        let told = (0..10).filter(|&turn| saids.of(turn, 2).is_news(["away", "refused"][turn % 2]));
        assert_eq!(told.count(), 2);
    }
}
