//! What is news to a machine at this revision, given what it has?
//!
//! An [`Edition`] is every machine's state at one revision. The long lists are the same for all
//! machines of a role, and the list of peers for a group of edges: they are made once, in pieces that
//! are shared with the editions before, and what is sent is written once however many machines it
//! goes to.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use bytes::Bytes;
use nigh_proto::{
    Digest, MachineName, Timestamp,
    document::{Change, Document, Items, ListChange, items_digest, items_text, piece},
    report::MachineRole,
};
use serde_json::value::RawValue;

use super::{
    World,
    state::{self, Settings},
};
use crate::store::MachineRow;

/// How many editions are kept, so that a machine that was away for a moment hears what it missed.
const KEPT: usize = 64;
/// Lists that are the same for every machine of a role, however many items they have.
const EDGE_LISTS: [&str; 2] = ["certificates", "sites"];
const DNS_LISTS: [&str; 3] = ["edges", "sites", "zones"];

/// Every machine's state at one revision. Immutable and shared.
#[derive(Debug)]
pub(crate) struct Edition {
    pub world: Arc<World>,
    settings: Arc<Settings>,
    /// States depend on the time, and those of one revision must not differ.
    at: Timestamp,
    /// The world without what lists are made of: what machines of one role differ in.
    bare: World,
    edge: Lists,
    dns: Lists,
    /// The peers of each group of edges, written once, by the name of its first edge.
    peers: BTreeMap<MachineName, Arc<RawValue>>,
}

/// The long lists of one role.
#[derive(Debug, Default)]
struct Lists {
    items: BTreeMap<&'static str, Arc<Items>>,
    text: OnceLock<Bytes>,
    digests: OnceLock<BTreeMap<&'static str, Digest>>,
    /// What changed since earlier revisions; at most [`KEPT`].
    since: Mutex<BTreeMap<u64, Arc<Since>>>,
}

/// What changed in the lists since an earlier revision.
#[derive(Debug)]
struct Since {
    lists: BTreeMap<String, ListChange>,
    /// The frame for machines of which nothing else has changed.
    line: OnceLock<Bytes>,
}

/// One line of a stream, in pieces of which the long one is shared.
pub(crate) type Line = Vec<Bytes>;

/// The newest editions, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Editions(VecDeque<Arc<Edition>>);

impl Editions {
    /// Adds the edition of a newer world, or of other settings at the same revision.
    pub(crate) fn publish(&mut self, world: Arc<World>, settings: Arc<Settings>, at: Timestamp) {
        let edition = Edition::after(self.0.back().map(|last| &**last), world, settings, at);
        // Of one revision only the newest counts: machines were told of none in between.
        self.0.retain(|earlier| earlier.world.revision < edition.world.revision);
        self.0.push_back(Arc::new(edition));
        while self.0.len() > KEPT {
            self.0.pop_front();
        }
    }

    pub(crate) fn newest(&self) -> Option<Arc<Edition>> {
        self.0.back().cloned()
    }

    pub(crate) fn at(&self, revision: u64) -> Option<Arc<Edition>> {
        let index =
            self.0.binary_search_by_key(&revision, |edition| edition.world.revision).ok()?;
        Some(Arc::clone(&self.0[index]))
    }
}

impl Edition {
    fn after(
        previous: Option<&Edition>,
        world: Arc<World>,
        settings: Arc<Settings>,
        at: Timestamp,
    ) -> Self {
        let lists = |role, names: &[&'static str], before: Option<&Lists>| {
            let example = world.machines.iter().find(|machine| machine.role == role);
            let Some(example) = example else { return Lists::default() };
            let mut document = Document::of(&state::of(&world, &settings, example, at));
            let items = names.iter().map(|&name| {
                let items = document.take_items(name).expect("every list of a state is a list");
                let before = before.and_then(|before| before.items.get(name));
                (name, shared_with(before, items))
            });
            Lists { items: items.collect(), ..Lists::default() }
        };
        let peers = state::groups(&world).map(|(first, peers)| {
            let peers = piece(&peers);
            let before = previous.and_then(|previous| previous.peers.get(first));
            let same = before.filter(|before| before.get() == peers.get());
            (first.clone(), same.cloned().unwrap_or(peers))
        });
        Edition {
            edge: lists(MachineRole::Edge, &EDGE_LISTS, previous.map(|previous| &previous.edge)),
            dns: lists(MachineRole::Dns, &DNS_LISTS, previous.map(|previous| &previous.dns)),
            peers: peers.collect(),
            bare: bare(&world),
            settings,
            at,
            world,
        }
    }

    fn lists(&self, role: MachineRole) -> &Lists {
        match role {
            MachineRole::Edge => &self.edge,
            MachineRole::Dns => &self.dns,
        }
    }

    /// A machine's state without the lists.
    fn own(&self, machine: &MachineRow) -> Document {
        let mut own = Document::of(&state::of(&self.bare, &self.settings, machine, self.at));
        for name in self.lists(machine.role).items.keys() {
            own.take_items(name).expect("every list of a state is a list");
        }
        let group = self.peers.range::<MachineName, _>(..=&machine.name).next_back();
        match (machine.role, group) {
            (MachineRole::Edge, Some((_, peers))) => own.with("peers", Arc::clone(peers)),
            _ => own,
        }
    }

    /// What a machine's state at this revision is known by.
    pub(crate) fn digest(&self, machine: &MachineRow) -> Digest {
        let lists = self.lists(machine.role);
        let digests = lists.digests.get_or_init(|| {
            lists.items.iter().map(|(&name, items)| (name, items_digest(items))).collect()
        });
        self.own(machine).digest_with(digests.iter().map(|(&name, &digest)| (name, digest)))
    }

    /// The frame with a machine's whole state.
    pub(crate) fn whole(&self, machine: &MachineRow) -> Line {
        let lists = self.lists(machine.role);
        let text = lists.text.get_or_init(|| {
            let mut text = String::new();
            for (name, items) in &lists.items {
                text.push_str(&format!(",\"{name}\":{}", items_text(items)));
            }
            text.push_str("}}\n");
            text.into()
        });
        let own = self.own(machine).inner_text();
        vec![format!("{{\"kind\":\"state\",\"state\":{{{own}").into(), text.clone()]
    }

    /// The frame with what has changed for a machine since an `earlier` edition; `None` when the
    /// machine was not there then.
    pub(crate) fn change_since(&self, earlier: &Edition, machine: &MachineRow) -> Option<Line> {
        let before = earlier.world.machine(&machine.name).filter(|row| row.id == machine.id)?;
        let since = self.since(earlier, machine.role);
        let own = earlier.own(before).change_to(&self.own(machine));
        if own.fields.is_empty() && own.cleared.is_empty() {
            let line =
                since.line.get_or_init(|| line(&Change { lists: since.lists.clone(), ..own }));
            return Some(vec![line.clone()]);
        }
        Some(vec![line(&Change { lists: since.lists.clone(), ..own })])
    }

    /// What has changed in the lists of `role` since an `earlier` edition.
    fn since(&self, earlier: &Edition, role: MachineRole) -> Arc<Since> {
        let (lists, before) = (self.lists(role), earlier.lists(role));
        let mut known = lists.since.lock().unwrap_or_else(PoisonError::into_inner);
        let since = known.entry(earlier.world.revision).or_insert_with(|| {
            let changes = lists.items.iter().filter_map(|(&name, items)| {
                let change = ListChange::between(before.items.get(name)?, items)?;
                Some((name.to_owned(), change))
            });
            Arc::new(Since { lists: changes.collect(), line: OnceLock::new() })
        });
        Arc::clone(since)
    }
}

/// `world` without its sites, machines and certificates. Whatever else is in a world is told to
/// every machine in its own part of the state.
fn bare(world: &World) -> World {
    let World {
        revision,
        sites: _,
        machines: _,
        certificates: _,
        candidates,
        challenges,
        ticket_keys,
        authorities: _,
        fleet,
        settled: _,
    } = world;
    World {
        revision: *revision,
        candidates: candidates.clone(),
        challenges: challenges.clone(),
        ticket_keys: ticket_keys.clone(),
        fleet: fleet.clone(),
        ..World::default()
    }
}

/// `items`, of which those that were there before take no more memory than they did.
fn shared_with(before: Option<&Arc<Items>>, mut items: Items) -> Arc<Items> {
    let Some(before) = before else { return Arc::new(items) };
    let mut is_same = before.len() == items.len();
    for (key, item) in &mut items {
        match before.get(key) {
            Some(old) if old.get() == item.get() => item.clone_from(old),
            _ => is_same = false,
        }
    }
    if is_same { Arc::clone(before) } else { Arc::new(items) }
}

fn line(change: &Change) -> Bytes {
    let change = serde_json::to_string(change).expect("changes always have a JSON form");
    format!("{{\"kind\":\"change\",\"change\":{change}}}\n").into()
}

#[cfg(test)]
mod tests;
