use super::*;
use crate::fixture::{compile, snapshot, state};

fn explained(snapshot: &Snapshot, name: &str, client: &str) -> Outcome {
    explain(snapshot, &name.parse().unwrap(), client.parse().unwrap()).outcome
}

fn steered(snapshot: &Snapshot, name: &str, client: &str) -> Steering {
    match explained(snapshot, name, client) {
        Outcome::Steered(steering) => steering,
        other => panic!("{name} is {other:?}"),
    }
}

#[test]
fn the_answer_comes_first_and_the_others_say_why_they_are_not_in_it() {
    let mut state = state();
    state.sites[0].lagging = vec!["nyc".parse().unwrap()];
    let snapshot = compile(&state);
    let steering = steered(&snapshot, "docs.nigh.test", "203.0.113.9");
    let views: Vec<_> = steering
        .edges
        .iter()
        .map(|view| (view.edge.as_str(), view.is_answer, view.excluded.as_deref()))
        .collect();
    assert_eq!(
        views,
        [
            ("sin", true, None),
            ("fra", false, Some("others are nearer")),
            ("nyc", false, Some("it is lagging")),
        ]
    );
    assert_eq!(steering.ipv4, ["10.0.0.3".parse::<IpAddr>().unwrap()]);
    assert_eq!(steering.scope_len, 24);
    assert!((5_200.0..5_400.0).contains(&steering.edges[0].distance_km.unwrap()));
}

#[test]
fn it_says_who_knows_where_the_client_is() {
    let snapshot = snapshot();
    let by = |client| steered(&snapshot, "docs.nigh.test", client).located_by;
    assert_eq!(
        by("192.0.2.1"),
        LocatedBy::OperatorNetwork {
            network: "192.0.2.0/24".into(),
            target: NetworkTarget::Region("us".parse().unwrap()),
        }
    );
    assert_eq!(by("193.0.6.139"), LocatedBy::Registry { name: "RIPE NCC" });
    assert_eq!(by("127.0.0.1"), LocatedBy::Nobody);
}

#[test]
fn names_that_are_not_steered_are_said_to_be_so() {
    let snapshot = snapshot();
    let zone = || "nigh.test".to_owned();
    for (name, outcome) in [
        ("other.test", Outcome::OutsideZones),
        ("docs.outside.test", Outcome::OutsideZones),
        ("absent.nigh.test", Outcome::Absent { zone: zone() }),
        ("text.nigh.test", Outcome::Fixed { zone: zone() }),
        ("x.cut.nigh.test", Outcome::Fixed { zone: zone() }),
    ] {
        assert_eq!(explained(&snapshot, name, "127.0.0.1"), outcome, "{name}");
    }
}

#[test]
fn an_explanation_agrees_with_the_answer() {
    let snapshot = snapshot();
    for client in ["203.0.113.7", "198.51.100.7", "192.0.2.7", "8.8.8.8", "127.0.0.1"] {
        let steering = steered(&snapshot, "new--docs.nigh.test", client);
        let asked = crate::fixture::Asked::new("new--docs.nigh.test", crate::rr::kind::A);
        let reply = crate::answer(
            Some(&snapshot),
            &asked.packet(),
            client.parse().unwrap(),
            crate::Transport::Udp,
        );
        let edges: Vec<_> = reply
            .unwrap()
            .edges
            .iter()
            .map(|&edge| snapshot.fleet.edges[edge].name.clone())
            .collect();
        let explained: Vec<_> = steering
            .edges
            .iter()
            .filter(|view| view.is_answer)
            .map(|view| view.edge.clone())
            .collect();
        assert_eq!(edges, explained, "{client}");
    }
}
