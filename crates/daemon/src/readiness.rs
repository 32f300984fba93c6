//! Is everything there that this role needs to do its work, and if not, what is missing?

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

/// The conditions that must all hold before a role is ready; cheap to clone.
///
/// With no condition at all it is ready. Conditions are named by the role's code, never by what a
/// stranger sends, so their number is bounded.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, String>>>);

/// One thing a role waits for. Dropping it, as a part that ends does, leaves its last word.
#[derive(Clone, Debug)]
pub struct Condition {
    name: &'static str,
    readiness: Readiness,
}

/// What `/readyz` shows.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    pub ready: bool,
    pub reasons: Vec<Reason>,
}

/// A condition that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Reason {
    pub name: &'static str,
    pub reason: String,
}

impl Readiness {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition that does not hold yet, for `reason`.
    pub fn condition(&self, name: &'static str, reason: impl Into<String>) -> Condition {
        let condition = Condition { name, readiness: self.clone() };
        condition.set_unready(reason);
        condition
    }

    pub fn is_ready(&self) -> bool {
        self.missing().is_empty()
    }

    /// Everything that is missing, by name.
    pub fn report(&self) -> Report {
        let missing = self.missing();
        let reasons =
            missing.iter().map(|(&name, reason)| Reason { name, reason: reason.clone() }).collect();
        Report { ready: missing.is_empty(), reasons }
    }

    fn missing(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        self.0.lock().expect("no code panics while it holds the conditions")
    }
}

impl Condition {
    /// The condition holds.
    pub fn set_ready(&self) {
        self.readiness.missing().remove(self.name);
    }

    /// The condition does not hold (any more); `reason` is for operators.
    pub fn set_unready(&self, reason: impl Into<String>) {
        self.readiness.missing().insert(self.name, reason.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_ready_when_every_condition_holds() {
        let readiness = Readiness::new();
        assert!(readiness.is_ready());
        let state = readiness.condition("state", "no state yet");
        let disk = readiness.condition("disk", "opening the store");
        state.set_ready();
        assert!(!readiness.is_ready());
        disk.set_ready();
        assert!(readiness.is_ready());
    }

    #[test]
    fn what_is_missing_is_reported_with_its_last_reason() {
        let readiness = Readiness::new();
        let disk = readiness.condition("disk", "opening the store");
        disk.set_ready();
        disk.set_unready("the disk is full");
        let reason = Reason { name: "disk", reason: "the disk is full".to_owned() };
        assert_eq!(readiness.report(), Report { ready: false, reasons: vec![reason] });
    }
}
