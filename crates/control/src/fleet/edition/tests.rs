use nigh_proto::{api::ReleaseState, watch::Frame};
use proptest::prelude::*;

use super::*;
use crate::{
    fleet::{
        Site,
        fixture::{self, release, release_row},
        state::tests::settings,
    },
    store::MachineRow,
};

/// What a machine makes of a line.
fn heard(held: Option<&Document>, line: Line) -> Document {
    let line = line.concat();
    assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1, "a frame is one line");
    match serde_json::from_slice(&line).unwrap() {
        Frame::State { state } => state,
        Frame::Change { change } => held.unwrap().changed(&change).unwrap(),
        Frame::Heartbeat { .. } | Frame::Trust { .. } => panic!("control had nothing to say"),
    }
}

fn machine(world: &World, name: &str) -> MachineRow {
    world.machine(&fixture::name(name)).unwrap().clone()
}

/// A world of two edges and a DNS server, of sites that are active, lag or have previews.
fn world(revision: u64, sites: &BTreeMap<u8, (u64, bool)>, region: bool, drained: bool) -> World {
    let mut world = fixture::world(&["fra1", "nyc1"], None, None);
    world.revision = revision;
    world.machines.insert(0, MachineRow { role: MachineRole::Dns, ..fixture::machine("dns1") });
    world.machines[1].is_drained = drained;
    world.machines[2].about.region = region.then(|| "us".parse().unwrap());
    let site = |(number, (active, lags)): (&u8, &(u64, bool))| {
        let name: nigh_proto::SiteName = format!("site{number}").parse().unwrap();
        let mut site = Site::new(name, Some(release(*active)));
        site.hosts = vec![format!("{number}.nigh.test").parse().unwrap()];
        site.lagging = lags.then(|| fixture::name("nyc1")).into_iter().collect();
        site.releases = vec![release_row(*active, ReleaseState::Active)];
        site
    };
    world.sites = sites.iter().map(site).collect();
    world.sites.sort_by(|a, b| a.name.cmp(&b.name));
    world
}

prop_compose! {
    fn any_world()(
        sites in proptest::collection::btree_map(0u8..12, (0u64..3, any::<bool>()), 0..12),
        region: bool,
        drained: bool,
        gap in 1u64..4,
    ) -> (BTreeMap<u8, (u64, bool)>, bool, bool, u64) { (sites, region, drained, gap) }
}

proptest! {
    /// Whatever happens, and however many revisions a slow machine skips, what it makes of the
    /// changes is its whole state.
    #[test]
    fn changes_lead_every_machine_to_its_whole_state(
        worlds in proptest::collection::vec(any_world(), 1..7),
        skips in proptest::collection::vec(any::<bool>(), 7),
    ) {
        let mut editions = Editions::default();
        let mut held: BTreeMap<&str, Document> = BTreeMap::new();
        let mut revision = 0;
        for ((sites, region, drained, gap), is_skipped) in worlds.iter().zip(skips) {
            revision += gap;
            let world = Arc::new(world(revision, sites, *region, *drained));
            editions.publish(Arc::clone(&world), Arc::new(settings()), Timestamp::default());
            let newest = editions.newest().unwrap();
            if is_skipped {
                continue;
            }
            for name in ["dns1", "fra1", "nyc1"] {
                let row = machine(&world, name);
                let line = match held.get(name) {
                    Some(held) => {
                        let earlier = editions.at(held.revision().0).unwrap();
                        let before = machine(&earlier.world, name);
                        prop_assert_eq!(held.digest(), earlier.digest(&before));
                        newest.change_since(&earlier, &row).unwrap()
                    }
                    None => newest.whole(&row),
                };
                let document = heard(held.get(name), line);
                let whole = state::of(&world, &settings(), &row, Timestamp::default());
                prop_assert_eq!(document.state().unwrap(), whole);
                prop_assert_eq!(document.digest(), newest.digest(&row));
                held.insert(name, document);
            }
        }
    }
}

#[test]
fn what_all_machines_are_told_is_written_once() {
    let sites = |active| BTreeMap::from([(1, (active, false)), (2, (1, false))]);
    let mut editions = Editions::default();
    for (revision, active) in [(1, 1), (2, 2)] {
        let world = Arc::new(world(revision, &sites(active), true, false));
        editions.publish(world, Arc::new(settings()), Timestamp::default());
    }
    let (first, second) = (editions.at(1).unwrap(), editions.at(2).unwrap());
    let line = |name| second.change_since(&first, &machine(&second.world, name)).unwrap();
    assert_eq!(line("fra1")[0].as_ptr(), line("nyc1")[0].as_ptr());
    assert!(!String::from_utf8_lossy(&line("fra1").concat()).contains("site2"), "it is the same");
    let whole = |name| second.whole(&machine(&second.world, name))[1].as_ptr();
    assert_eq!(whole("fra1"), whole("nyc1"));
}

#[test]
fn edges_of_every_group_of_a_large_fleet_are_told_who_their_peers_are() {
    let names: Vec<String> = (0..130).map(|number| format!("m{number:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut world = fixture::world(&names, None, None);
    let mut editions = Editions::default();
    editions.publish(Arc::new(world.clone()), Arc::new(settings()), Timestamp::default());
    world.revision += 1;
    world.machines[129].about.region = Some("us".parse().unwrap());
    editions.publish(Arc::new(world), Arc::new(settings()), Timestamp::default());
    let (first, second) = (editions.at(7).unwrap(), editions.at(8).unwrap());
    for (name, is_told) in [("m000", false), ("m063", false), ("m064", false), ("m128", true)] {
        let row = machine(&second.world, name);
        let held = heard(None, first.whole(&machine(&first.world, name)));
        let line = second.change_since(&first, &row).unwrap();
        assert_eq!(String::from_utf8_lossy(&line.concat()).contains("peers"), is_told, "{name}");
        let state = state::of(&second.world, &settings(), &row, Timestamp::default());
        assert_eq!(heard(Some(&held), line).state().unwrap(), state, "{name}");
    }
}

#[test]
fn a_machine_that_was_not_there_is_told_everything() {
    let mut editions = Editions::default();
    let mut earlier = world(1, &BTreeMap::new(), true, false);
    earlier.machines.retain(|machine| machine.name.as_str() != "nyc1");
    editions.publish(Arc::new(earlier), Arc::new(settings()), Timestamp::default());
    let now = world(2, &BTreeMap::new(), true, false);
    editions.publish(Arc::new(now), Arc::new(settings()), Timestamp::default());
    let (first, second) = (editions.at(1).unwrap(), editions.at(2).unwrap());
    assert!(second.change_since(&first, &machine(&second.world, "nyc1")).is_none());
    assert!(second.change_since(&first, &machine(&second.world, "fra1")).is_some());
}

#[test]
fn only_so_many_editions_are_kept() {
    let mut editions = Editions::default();
    for revision in 1..200 {
        let world = world(revision, &BTreeMap::new(), true, false);
        editions.publish(Arc::new(world), Arc::new(settings()), Timestamp::default());
    }
    assert_eq!(editions.0.len(), KEPT);
    assert!(editions.at(199).is_some() && editions.at(199 - KEPT as u64).is_none());
}
