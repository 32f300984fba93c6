//! Which blobs does control lack, and whom does it ask for them?
//!
//! Every missing blob is asked of one machine at a time; when it has not come for a while, the
//! next machine that reports is asked.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use nigh_proto::{Digest, MachineName, refill::WANTED_MAX};

/// A machine has so long to give what it was asked for, before another is asked.
const PATIENCE: Duration = Duration::from_secs(20);
/// Missing blobs that are known at once; the others follow when these are here.
const MISSING_MAX: usize = 1 << 20;

/// Blobs that releases need and control has not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted(BTreeMap<Digest, Option<Asked>>);

#[derive(Clone, Debug)]
struct Asked {
    machine: MachineName,
    at: Instant,
}

impl Wanted {
    /// From now on exactly these are missing; whoever was asked goes on.
    pub(crate) fn replace(&mut self, missing: impl IntoIterator<Item = Digest>) {
        let mut before = std::mem::take(&mut self.0);
        let missing = missing.into_iter().take(MISSING_MAX);
        self.0 = missing.map(|digest| (digest, before.remove(&digest).flatten())).collect();
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn contains(&self, digest: &Digest) -> bool {
        self.0.contains_key(digest)
    }

    /// What `machine` is to be asked for now. One that was asked already is not asked again before
    /// another had its turn.
    pub(crate) fn ask(&mut self, machine: &MachineName, now: Instant) -> Vec<Digest> {
        let is_free = |asked: &Option<Asked>| match asked {
            None => true,
            Some(asked) => now.saturating_duration_since(asked.at) >= PATIENCE,
        };
        let mut chosen = Vec::new();
        for (digest, asked) in &mut self.0 {
            if chosen.len() == WANTED_MAX {
                break;
            }
            let was_same = asked.as_ref().is_some_and(|asked| asked.machine == *machine);
            let waited = |asked: &Asked| now.saturating_duration_since(asked.at) >= 2 * PATIENCE;
            if is_free(asked) && (!was_same || asked.as_ref().is_some_and(waited)) {
                *asked = Some(Asked { machine: machine.clone(), at: now });
                chosen.push(*digest);
            }
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::fixture::name;

    fn digests(count: usize) -> Vec<Digest> {
        (0..count).map(|number| Digest::of(&number.to_be_bytes())).collect()
    }

    #[test]
    fn each_blob_is_asked_of_one_machine_at_a_time() {
        let now = Instant::now();
        let mut wanted = Wanted::default();
        wanted.replace(digests(3));
        assert_eq!(wanted.ask(&name("fra1"), now).len(), 3);
        assert!(wanted.ask(&name("tyo1"), now).is_empty());
        assert!(wanted.ask(&name("fra1"), now + PATIENCE).is_empty(), "another has its turn");
        assert_eq!(wanted.ask(&name("tyo1"), now + PATIENCE).len(), 3);
        assert_eq!(wanted.ask(&name("tyo1"), now + 3 * PATIENCE).len(), 3, "nobody else is there");
    }

    #[test]
    fn what_has_come_is_not_asked_for_and_the_rest_keeps_its_turn() {
        let now = Instant::now();
        let mut wanted = Wanted::default();
        let all = digests(4);
        wanted.replace(all.clone());
        wanted.ask(&name("fra1"), now);
        wanted.replace(all[..2].to_vec());
        assert_eq!(wanted.len(), 2);
        assert!(!wanted.contains(&all[3]));
        assert!(wanted.ask(&name("tyo1"), now).is_empty());
    }

    #[test]
    fn one_answer_asks_for_so_many_at_most() {
        let now = Instant::now();
        let mut wanted = Wanted::default();
        wanted.replace(digests(WANTED_MAX + 5));
        assert_eq!(wanted.ask(&name("fra1"), now).len(), WANTED_MAX);
        assert_eq!(wanted.ask(&name("tyo1"), now).len(), 5);
    }
}
