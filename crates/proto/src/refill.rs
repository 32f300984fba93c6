//! What does control ask of a machine when it answers a report?
//!
//! Control that lost its blobs, or all it knew, gets back from its edges what they hold:
//! `PUT /machine/v1/packs` and `PUT /machine/v1/blobs/{digest}` take blobs that were asked for,
//! `PUT /machine/v1/state` a whole state document.

use serde::{Deserialize, Serialize};

use crate::Digest;

/// How many blobs one answer asks for at most.
pub const WANTED_MAX: usize = 16_384;
/// The longest answer, in bytes: as many digests with quotes and commas, and some space.
pub const ANSWER_MAX_BYTES: usize = 70 * WANTED_MAX + 1024;

/// The answer to a report, when there is something to ask for. An older machine ignores it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportAnswer {
    /// Blobs that control lacks. The machine gives those that it has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wanted: Vec<Digest>,
    /// Control knows nothing of the sites that the machine holds and asks for its state.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wants_state: bool,
}

impl ReportAnswer {
    /// Whether there is nothing to ask for.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty() && !self.wants_state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_answer_fits_its_bound() {
        let wanted = vec![Digest::of(b"blob"); WANTED_MAX];
        let answer = ReportAnswer { wanted, wants_state: true };
        assert!(serde_json::to_vec(&answer).unwrap().len() <= ANSWER_MAX_BYTES);
        assert_eq!(serde_json::to_string(&ReportAnswer::default()).unwrap(), "{}");
    }
}
