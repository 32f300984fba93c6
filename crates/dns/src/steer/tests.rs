use nigh_proto::state::DnsState;

use super::*;
use crate::fixture::{compile, state};

const BERLIN: Basis<'static> =
    Basis::Geo { location: Location { latitude: 52.52, longitude: 13.4 } };

/// Names of the edges that a client in Berlin is given after `change`.
fn chosen(change: impl FnOnce(&mut DnsState), down: &[&str]) -> Vec<String> {
    let mut state = state();
    change(&mut state);
    let snapshot = compile(&state);
    let fleet = &snapshot.fleet;
    for edge in &fleet.edges {
        edge.health.set(!down.contains(&edge.name.as_str()));
    }
    let choice = choose(fleet, &fleet.sites[0], Family::V4, &BERLIN);
    choice.edges.iter().map(|&edge| fleet.edges[edge].name.to_string()).collect()
}

fn drain(state: &mut DnsState, names: &[&str]) {
    for edge in &mut state.edges {
        edge.is_drained = names.contains(&edge.name.as_str());
    }
}

#[test]
fn the_nearest_healthy_edge_is_named() {
    assert_eq!(chosen(|_| {}, &[]), ["fra"]);
    assert_eq!(chosen(|_| {}, &["fra"]), ["nyc"]);
    assert_eq!(chosen(|_| {}, &["fra", "nyc"]), ["sin"]);
}

#[test]
fn all_edges_are_candidates_when_none_is_up() {
    assert_eq!(chosen(|_| {}, &["fra", "nyc", "sin"]), ["fra"]);
}

#[test]
fn a_drained_edge_is_named_only_when_no_other_is_up() {
    assert_eq!(chosen(|state| drain(state, &["fra"]), &[]), ["nyc"]);
    assert_eq!(chosen(|state| drain(state, &["fra"]), &["nyc", "sin"]), ["fra"]);
    assert_eq!(chosen(|state| drain(state, &["fra"]), &["fra", "nyc", "sin"]), ["nyc"]);
    assert_eq!(chosen(|state| drain(state, &["fra", "nyc", "sin"]), &[]), ["fra"]);
}

#[test]
fn a_lagging_edge_is_named_only_when_no_other_is_up() {
    let lag = |names: &'static [&'static str]| {
        move |state: &mut DnsState| {
            state.sites[0].lagging = names.iter().map(|name| name.parse().unwrap()).collect();
        }
    };
    assert_eq!(chosen(lag(&["fra"]), &[]), ["nyc"]);
    assert_eq!(chosen(lag(&["fra"]), &["nyc", "sin"]), ["fra"]);
    assert_eq!(chosen(lag(&["fra", "nyc", "sin"]), &[]), ["fra"]);
}

#[test]
fn a_lagging_edge_comes_before_a_drained_one() {
    let change = |state: &mut DnsState| {
        state.sites[0].lagging = vec!["sin".parse().unwrap()];
        drain(state, &["fra"]);
    };
    assert_eq!(chosen(change, &["nyc"]), ["sin"]);
}

#[test]
fn a_second_edge_is_named_only_when_it_is_about_as_near() {
    let near = |latitude| {
        move |state: &mut DnsState| state.edges[1].location = Location { latitude, longitude: 8.68 }
    };
    // 5 ms are some 270 km of detour.
    assert_eq!(chosen(near(51.0), &[]), ["nyc", "fra"]);
    assert_eq!(chosen(near(46.0), &[]), ["fra"]);
}

#[test]
fn the_nearest_edges_own_addresses_come_first() {
    let change = |state: &mut DnsState| {
        state.edges[0].ipv4 =
            vec![[10, 0, 1, 1].into(), [10, 0, 1, 2].into(), [10, 0, 1, 3].into()];
        state.edges[1].location = state.edges[0].location;
    };
    assert_eq!(chosen(change, &[]), ["fra"]);
}

#[test]
fn an_edge_without_addresses_of_the_family_is_passed_over() {
    assert_eq!(chosen(|state| state.edges[0].ipv4.clear(), &[]), ["nyc"]);
    let none = |state: &mut DnsState| state.edges.iter_mut().for_each(|edge| edge.ipv4.clear());
    assert!(chosen(none, &[]).is_empty());
}

#[test]
fn networks_tied_to_a_region_or_an_edge_go_there_and_then_to_its_neighbours() {
    let network = "100.0.0.0/8".parse().unwrap();
    for (target, down, expected) in [
        (NetworkTarget::Edge("sin".parse().unwrap()), None, "sin"),
        (NetworkTarget::Edge("nyc".parse().unwrap()), Some(1), "fra"),
        (NetworkTarget::Region("us".parse().unwrap()), None, "nyc"),
    ] {
        let snapshot = compile(&state());
        let fleet = &snapshot.fleet;
        if let Some(edge) = down {
            fleet.edges[edge].health.set(false);
        }
        let basis = Basis::Operator { network, target: &target };
        let choice = choose(fleet, &fleet.sites[0], Family::V4, &basis);
        assert_eq!(fleet.edges[choice.edges[0]].name.as_str(), expected, "{target:?}");
        assert_eq!(choice.edges.len(), 1);
    }
}

#[test]
fn a_network_tied_to_an_edge_that_has_left_is_placed_by_what_else_is_known() {
    let mut state = state();
    let network = |network: &str, edge: &str| nigh_proto::state::OperatorNetwork {
        network: network.parse().unwrap(),
        target: NetworkTarget::Edge(edge.parse().unwrap()),
    };
    state.networks = vec![network("193.0.0.0/8", "sin"), network("193.0.6.0/24", "gone")];
    let snapshot = compile(&state);
    let place = snapshot.locate("193.0.6.139".parse().unwrap());
    assert!(matches!(place.basis, Basis::Operator { network, .. } if network.prefix_len() == 8));
    state.networks.remove(0);
    let snapshot = compile(&state);
    let place = snapshot.locate("193.0.6.139".parse().unwrap());
    assert!(matches!(place.basis, Basis::Coarse { .. }));
}

#[test]
fn an_unknown_client_gets_one_edge_the_same_each_time() {
    let snapshot = compile(&state());
    let fleet = &snapshot.fleet;
    let choice = choose(fleet, &fleet.sites[0], Family::V4, &Basis::Unknown);
    assert_eq!(choice.edges, [0]);
}

#[test]
fn with_one_edge_to_choose_from_the_answer_holds_everywhere() {
    let snapshot = compile(&state());
    let fleet = &snapshot.fleet;
    assert!(!choose(fleet, &fleet.sites[0], Family::V4, &BERLIN).is_universal);
    fleet.edges[0].health.set(false);
    fleet.edges[1].health.set(false);
    assert!(choose(fleet, &fleet.sites[0], Family::V4, &BERLIN).is_universal);
}
