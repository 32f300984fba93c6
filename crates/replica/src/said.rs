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
}
