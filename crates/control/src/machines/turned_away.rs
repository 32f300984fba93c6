//! Which machines were turned away, and does the log know?
//!
//! A refusal lasts until a person does something, and a machine asks again and again. Whoever looks at
//! control's log is to find it there, and strangers are not to fill the log with names of their own.

use std::{
    collections::BTreeMap,
    fmt::Display,
    time::{Duration, Instant},
};

use nigh_proto::MachineName;

/// How long a refusal is not told again.
const AGAIN_AFTER: Duration = Duration::from_secs(10 * 60);
/// Refusals that are remembered, and told, within that time. Anyone may ask to join.
const SAID_MAX: usize = 256;

/// What was told lately, and when.
#[derive(Debug, Default)]
pub(crate) struct TurnedAway(BTreeMap<String, Instant>);

impl TurnedAway {
    /// Tells the log that a machine which goes by `name` was refused, and why, if it is news.
    pub(crate) fn tell(&mut self, name: &MachineName, why: &dyn Display, now: Instant) {
        let why = why.to_string();
        if self.is_news(format!("{name}: {why}"), now) {
            tracing::warn!(machine.name = %name, "{name} was turned away: {why}");
        }
    }

    fn is_news(&mut self, text: String, now: Instant) -> bool {
        self.0.retain(|_, at| now.saturating_duration_since(*at) < AGAIN_AFTER);
        let is_news = self.0.len() < SAID_MAX && !self.0.contains_key(&text);
        if is_news {
            self.0.insert(text, now);
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_once_in_a_while_and_strangers_cannot_fill_the_log() {
        let start = Instant::now();
        let mut said = TurnedAway::default();
        assert!(said.is_news("fra1: removed".to_owned(), start));
        assert!(!said.is_news("fra1: removed".to_owned(), start + AGAIN_AFTER / 2));
        assert!(said.is_news("fra1: expired".to_owned(), start));
        let strangers = (0..10_000).filter(|number| said.is_news(number.to_string(), start));
        assert_eq!(strangers.count(), SAID_MAX - 2);
        assert!(said.is_news("fra1: removed".to_owned(), start + AGAIN_AFTER));
        assert_eq!(said.0.len(), 1);
    }
}
