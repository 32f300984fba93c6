//! Which start of a machine came last?
//!
//! Two machines with one identity, such as a restored snapshot beside its original, differ in nothing
//! else.

use serde::{Deserialize, Serialize};

/// A machine that starts more often than this while an older start of it talks still is in trouble
/// of another kind.
const STARTS_MAX: usize = 17;

/// The starts of a machine in the order in which they came to count, the newest last. Each is a number
/// that the machine drew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Starts {
    /// At most [`STARTS_MAX`].
    instances: Vec<u64>,
    /// Rises with every one that takes the place of another.
    order: i64,
}

impl Starts {
    /// The same with `instance` as the newest.
    pub(crate) fn with(mut self, instance: u64) -> Self {
        self.instances.retain(|known| *known != instance);
        self.instances.push(instance);
        self.instances.drain(..self.instances.len().saturating_sub(STARTS_MAX));
        self.order += 1;
        self
    }

    pub(super) fn newest(&self) -> Option<u64> {
        self.instances.last().copied()
    }

    /// Whether another one came after `instance`: that is a copy, or of before a restart.
    pub(super) fn is_superseded(&self, instance: u64) -> bool {
        self.newest() != Some(instance) && self.instances.contains(&instance)
    }

    /// Whether it is of a later moment than `known`.
    pub(super) fn is_after(&self, known: &Self) -> bool {
        self.order > known.order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_the_later_account_wins() {
        let first = Starts::default().with(1);
        let many = (2..1000).fold(first.clone(), Starts::with);
        assert_eq!((many.newest(), many.instances.len()), (Some(999), STARTS_MAX));
        assert!(many.is_superseded(998) && !many.is_superseded(999));
        assert!(!many.is_superseded(1), "it is forgotten");
        assert!(many.is_after(&first) && !first.is_after(&many) && !many.is_after(&many));
        let again = many.with(998);
        assert!(again.is_superseded(999) && !again.is_superseded(998));
    }
}
