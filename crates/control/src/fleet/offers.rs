//! Which machines are asked for the states that they hold of another fleet?
//!
//! A state may have megabytes, and a thousand edges of one fleet hold nearly the same: only the newest
//! few of each role are asked for and kept, in memory, until it is said what becomes of them.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use nigh_proto::{
    FleetId, MachineName,
    report::MachineRole,
    state::{DnsState, EdgeState, Holding, MachineState},
};

/// States of one role that are kept.
const OFFERS_MAX: usize = 4;
/// A machine has so long to give its state before another one has its place.
const PATIENCE: Duration = Duration::from_secs(150);

/// What was asked for and what came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Offers(BTreeMap<MachineName, Entry>);

#[derive(Clone, Debug)]
struct Entry {
    role: MachineRole,
    holding: Holding,
    asked_at: Instant,
    state: Option<Arc<MachineState>>,
}

/// The states that a takeover goes by.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub fleet: Option<FleetId>,
    pub edge: (MachineName, Arc<MachineState>),
    pub dns: Option<(MachineName, Arc<MachineState>)>,
    /// The newest revision among all states of the fleet that were given.
    pub revision: u64,
}

impl Choice {
    pub(crate) fn edge_state(&self) -> Option<&EdgeState> {
        match &*self.edge.1 {
            MachineState::Edge(state) => Some(state),
            MachineState::Dns(_) => None,
        }
    }

    pub(crate) fn dns_state(&self) -> Option<&DnsState> {
        match self.dns.as_ref().map(|(_, state)| &**state) {
            Some(MachineState::Dns(state)) => Some(state),
            _ => None,
        }
    }
}

impl Entry {
    fn is_late(&self, now: Instant) -> bool {
        self.state.is_none() && now.saturating_duration_since(self.asked_at) >= PATIENCE
    }
}

impl Offers {
    /// Whether a held machine is to be asked for its state now; then it counts as asked.
    pub(crate) fn ask(
        &mut self,
        name: &MachineName,
        role: MachineRole,
        holding: &Holding,
        now: Instant,
    ) -> bool {
        if !self.is_wanted(name, role, holding, now) {
            return false;
        }
        self.0.retain(|_, entry| !entry.is_late(now));
        let entry = Entry { role, holding: holding.clone(), asked_at: now, state: None };
        self.0.insert(name.clone(), entry);
        while self.0.values().filter(|entry| entry.role == role).count() > OFFERS_MAX {
            let oldest = self.oldest(role).map(|(name, _)| name.clone());
            oldest.map(|name| self.0.remove(&name));
        }
        true
    }

    fn oldest(&self, role: MachineRole) -> Option<(&MachineName, &Entry)> {
        let of_role = self.0.iter().filter(|(_, entry)| entry.role == role);
        of_role.min_by_key(|(_, entry)| entry.holding.revision)
    }

    fn is_wanted(
        &self,
        name: &MachineName,
        role: MachineRole,
        holding: &Holding,
        now: Instant,
    ) -> bool {
        if let Some(entry) = self.0.get(name) {
            return entry.holding != *holding || entry.is_late(now);
        }
        let of_role = self.0.values().filter(|entry| entry.role == role && !entry.is_late(now));
        of_role.count() < OFFERS_MAX
            || self.oldest(role).is_some_and(|(_, old)| old.holding.revision < holding.revision)
    }

    /// Whether the state of a machine that holds this is still to come.
    pub(crate) fn is_waiting(
        &self,
        name: &MachineName,
        role: MachineRole,
        holding: &Holding,
        now: Instant,
    ) -> bool {
        match self.0.get(name) {
            Some(entry) if entry.holding == *holding => entry.state.is_none(),
            _ => self.is_wanted(name, role, holding, now),
        }
    }

    /// What this machine was asked for, if it has not answered.
    pub(crate) fn asked(&self, name: &MachineName) -> Option<Holding> {
        let entry = self.0.get(name).filter(|entry| entry.state.is_none())?;
        Some(entry.holding.clone())
    }

    /// Whether the state of this machine is here.
    pub(crate) fn has(&self, name: &MachineName) -> bool {
        self.0.get(name).is_some_and(|entry| entry.state.is_some())
    }

    /// Keeps the state of a machine that was asked for it.
    pub(crate) fn take(&mut self, name: &MachineName, state: MachineState) {
        if let Some(entry) = self.0.get_mut(name) {
            entry.state = Some(Arc::new(state));
        }
    }

    /// Keeps only what `is_needed` holds of.
    pub(crate) fn retain(&mut self, is_needed: impl Fn(&MachineName, &Holding) -> bool) {
        self.0.retain(|name, entry| is_needed(name, &entry.holding));
    }

    /// The states to go by, of the machines in `from` or of all if it is empty: the newest of an edge,
    /// and the newest of a DNS server of the same fleet. `None` without an edge.
    pub(crate) fn choose(&self, from: &[MachineName]) -> Option<Choice> {
        let given = self.0.iter().filter_map(|(name, entry)| {
            let state = entry.state.as_ref().filter(|_| from.is_empty() || from.contains(name))?;
            Some((name, entry, state))
        });
        let newest = |role: MachineRole, fleet: Option<&Option<FleetId>>| {
            given
                .clone()
                .filter(|(_, entry, _)| entry.role == role)
                .filter(|(_, entry, _)| fleet.is_none_or(|fleet| entry.holding.fleet == *fleet))
                .max_by_key(|(name, entry, _)| {
                    (entry.holding.revision, std::cmp::Reverse((*name).clone()))
                })
        };
        let (name, entry, state) = newest(MachineRole::Edge, None)?;
        let fleet = entry.holding.fleet.clone();
        let dns = newest(MachineRole::Dns, Some(&fleet));
        let of_fleet = given.clone().filter(|(_, entry, _)| entry.holding.fleet == fleet);
        let revision = of_fleet.map(|(_, entry, _)| entry.holding.revision.0).max().unwrap_or(0);
        Some(Choice {
            edge: (name.clone(), Arc::clone(state)),
            dns: dns.map(|(name, _, state)| (name.clone(), Arc::clone(state))),
            fleet,
            revision,
        })
    }
}

#[cfg(test)]
mod tests {
    use nigh_proto::state::Revision;

    use super::*;
    use crate::fleet::fixture::name;

    fn state(machine: &str, fleet: u8, revision: u64) -> MachineState {
        MachineState::Edge(EdgeState {
            revision: Revision(revision),
            fleet: Some(FleetId::new(1, [fleet; 10])),
            machine: name(machine),
            region: "eu".parse().unwrap(),
            sites: Vec::new(),
            certificates: Vec::new(),
            candidates: Vec::new(),
            ticket_keys: Vec::new(),
            http_challenges: Vec::new(),
            peers: Vec::new(),
        })
    }

    fn offer(offers: &mut Offers, machine: &str, fleet: u8, revision: u64, now: Instant) -> bool {
        let state = state(machine, fleet, revision);
        let is_asked = offers.ask(&name(machine), MachineRole::Edge, &state.holding(), now);
        if is_asked {
            offers.take(&name(machine), state);
        }
        is_asked
    }

    #[test]
    fn the_newest_state_counts_unless_others_are_asked_for() {
        let (mut offers, now) = (Offers::default(), Instant::now());
        assert!(offers.choose(&[]).is_none());
        for (machine, revision) in [("fra", 7), ("nyc", 9), ("sin", 9)] {
            assert!(offer(&mut offers, machine, 1, revision, now));
        }
        let choice = offers.choose(&[]).unwrap();
        assert_eq!((choice.edge.0.as_str(), choice.revision), ("nyc", 9));
        let choice = offers.choose(&[name("fra")]).unwrap();
        assert_eq!((choice.edge.0.as_str(), choice.revision), ("fra", 7));
    }

    #[test]
    fn a_few_states_are_kept_however_many_machines_there_are() {
        let (mut offers, now) = (Offers::default(), Instant::now());
        let asked = (0..100).filter(|number| offer(&mut offers, &format!("e{number}"), 1, 5, now));
        assert_eq!(asked.count(), OFFERS_MAX);
        assert!(offer(&mut offers, "newer", 1, 6, now));
        assert!(!offer(&mut offers, "newer", 1, 6, now), "it is here");
        assert_eq!(offers.0.len(), OFFERS_MAX);
        assert_eq!(offers.choose(&[]).unwrap().edge.0, name("newer"));
    }

    #[test]
    fn a_machine_that_does_not_answer_makes_way() {
        let (mut offers, now) = (Offers::default(), Instant::now());
        for number in 0..OFFERS_MAX {
            let silent = name(&format!("silent{number}"));
            let holding = state("silent0", 1, 5).holding();
            assert!(offers.ask(&silent, MachineRole::Edge, &holding, now));
            assert!(offers.is_waiting(&silent, MachineRole::Edge, &holding, now));
        }
        assert!(!offer(&mut offers, "fra", 1, 5, now));
        assert!(offer(&mut offers, "fra", 1, 5, now + PATIENCE));
    }
}
