use std::time::{Duration, Instant};

use nigh_proto::state::DnsChallenge;

use super::*;
use crate::fixture::state;

fn problems(records: serde_json::Value) -> Vec<(String, ProblemKind)> {
    let mut state = state();
    state.zones[0].records = serde_json::from_value(records).unwrap();
    let (_, problems) = Zones::compile(&state.zones, &state.sites, &[]);
    problems.into_iter().map(|problem| (problem.owner, problem.kind)).collect()
}

#[test]
fn rfc_1034_3_6_2_what_cannot_stand_together_is_left_out_and_said() {
    let records = serde_json::json!([
        {"name": "nigh.test", "ttl_s": 1, "type": "CNAME", "value": "a.test"},
        {"name": "two.nigh.test", "ttl_s": 1, "type": "CNAME", "value": "a.test"},
        {"name": "two.nigh.test", "ttl_s": 1, "type": "CNAME", "value": "b.test"},
        {"name": "both.nigh.test", "ttl_s": 1, "type": "CNAME", "value": "a.test"},
        {"name": "both.nigh.test", "ttl_s": 1, "type": "TXT", "value": "t"},
        {"name": "other.test", "ttl_s": 1, "type": "TXT", "value": "t"},
        {"name": "docs.nigh.test", "ttl_s": 1, "type": "A", "value": "10.0.0.9"},
        {"name": "*.w.nigh.test", "ttl_s": 1, "type": "NS", "value": "a.test"},
    ]);
    let mut found = problems(records);
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(
        found,
        [
            ("*.w.nigh.test", ProblemKind::WildcardCut),
            ("both.nigh.test", ProblemKind::CnameWithOthers),
            ("docs.nigh.test", ProblemKind::AddressesOfSite),
            ("nigh.test", ProblemKind::CnameAtApex),
            ("other.test", ProblemKind::OutsideZone),
            ("two.nigh.test", ProblemKind::TwoCnames),
        ]
        .map(|(owner, kind)| (owner.to_owned(), kind))
    );
}

#[test]
fn the_fixture_has_no_problems() {
    let state = state();
    assert_eq!(Zones::compile(&state.zones, &state.sites, &[]).1, []);
}

#[test]
fn a_hundred_thousand_hosts_compile_quickly_and_absent_names_stay_cheap() {
    let mut state = state();
    state.sites[0].hosts =
        (0..100_000).map(|number| format!("site-{number}.nigh.test").parse().unwrap()).collect();
    let begun = Instant::now();
    let (zones, problems) = Zones::compile(&state.zones, &state.sites, &[]);
    // Generous, since this is not optimised and machines are shared; a scan would take minutes.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(problems.is_empty());
    let begun = Instant::now();
    for number in 0..10_000 {
        let name = Name::from(&format!("absent-{number}.nigh.test").parse().unwrap());
        let zone = zones.closest(name.as_bytes()).unwrap();
        assert!(matches!(zone.find(name.as_bytes()), Found::Nothing));
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn what_an_authority_looks_for_stands_alone_at_its_name() {
    let mut state = state();
    state.zones[0].records = serde_json::from_value(serde_json::json!([
        {"name": "_acme-challenge.docs.nigh.test", "ttl_s": 300, "type": "TXT", "value": "old"},
        {"name": "_acme-challenge.docs.nigh.test", "ttl_s": 300, "type": "CAA",
         "value": {"flags": 0, "tag": "issue", "value": "ca.test"}},
        {"name": "_acme-challenge.led.nigh.test", "ttl_s": 300, "type": "CNAME", "value": "away.test"},
    ]))
    .unwrap();
    let challenge = |name: &str, value: &str| DnsChallenge {
        name: name.parse().unwrap(),
        value: value.to_owned(),
    };
    let challenges = [
        challenge("_acme-challenge.docs.nigh.test", "one"),
        challenge("_acme-challenge.led.nigh.test", "led"),
        challenge("_acme-challenge.docs.nigh.test", "two"),
        challenge("_acme-challenge.docs.other.test", "not ours"),
    ];
    let (zones, problems) = Zones::compile(&state.zones, &state.sites, &challenges);
    assert_eq!(problems, []);
    let node = |name: &str| {
        let name = Name::from(&name.parse().unwrap());
        match zones.closest(name.as_bytes()).unwrap().find(name.as_bytes()) {
            Found::Node(node) => node.clone(),
            other => panic!("{other:?}"),
        }
    };
    let docs = node("_acme-challenge.docs.nigh.test");
    let texts = docs.set(kind::TXT).unwrap();
    assert_eq!(texts.rdata, [Box::from(&b"\x03one"[..]), Box::from(&b"\x03two"[..])]);
    assert_eq!(texts.ttl_s, 1);
    assert!(docs.set(kind::CAA).is_some());
    let led = node("_acme-challenge.led.nigh.test");
    assert!(led.set(kind::CNAME).is_none() && led.set(kind::TXT).is_some());
}
