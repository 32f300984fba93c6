use nigh_proto::{Digest, report::MachineRole, state::Certificate, zone::DnsName};

use super::*;
use crate::{
    fleet::fixture::{self, release, release_row},
    store::{CandidateRow, CertificateRow, Source},
};

pub(crate) fn settings() -> Settings {
    let zone: crate::config::ZoneConfig =
        serde_json::from_str(r#"{"name": "nigh.test", "name_servers": ["ns1"]}"#).unwrap();
    Settings {
        https_redirect: true,
        grace_releases_max: 2,
        zones: vec![zone.resolve(0).unwrap()],
        networks: Vec::new(),
        steered_ttl_s: 20,
        answer_addresses_max: 2,
    }
}

fn at(unix_ms: i64) -> Timestamp {
    Timestamp::from_unix_ms(unix_ms)
}

fn edge_state(world: &World, now: i64) -> EdgeState {
    match of(world, &settings(), &world.machines[0], at(now)) {
        MachineState::Edge(state) => state,
        MachineState::Dns(_) => panic!("the first machine is an edge"),
    }
}

fn dns_state(world: &World, now: i64) -> DnsState {
    let machine = MachineRow { role: MachineRole::Dns, ..fixture::machine("ns1") };
    match of(world, &settings(), &machine, at(now)) {
        MachineState::Dns(state) => state,
        MachineState::Edge(_) => panic!("this machine is a DNS server"),
    }
}

fn superseded(number: u64, activated: i64, grace_until: Option<i64>) -> ReleaseRow {
    ReleaseRow {
        activated_at: Some(at(activated)),
        grace_until: grace_until.map(at),
        ..release_row(number, ReleaseState::Superseded)
    }
}

#[test]
fn an_edge_holds_what_is_served_what_comes_and_what_is_in_its_grace() {
    let mut world = fixture::world(&["fra1"], Some(5), None);
    world.sites[0].releases = vec![
        release_row(6, ReleaseState::Staging),
        release_row(5, ReleaseState::Active),
        superseded(4, 40, Some(100)),
        superseded(3, 30, Some(100)),
        superseded(2, 20, Some(100)),
        superseded(1, 10, Some(40)),
    ];
    let state = edge_state(&world, 50);
    let held: Vec<_> =
        state.sites[0].releases.iter().map(|held| (held.id.clone(), held.purpose)).collect();
    let grace = ReleasePurpose::Grace { until: at(100) };
    assert_eq!(
        held,
        [
            (release(6), ReleasePurpose::Serve),
            (release(5), ReleasePurpose::Serve),
            (release(4), grace),
            (release(3), grace),
        ],
        "two graces at most, the newest, and none that has passed"
    );
    assert_eq!(state.sites[0].active, Some(release(5)));
}

#[test]
fn the_release_that_rollback_goes_to_is_held_after_its_grace() {
    let mut world = fixture::world(&["fra1"], Some(3), None);
    world.sites[0].releases = vec![
        release_row(3, ReleaseState::Active),
        superseded(2, 10, Some(40)),
        superseded(1, 20, Some(40)),
    ];
    let state = edge_state(&world, 50);
    let held: Vec<_> = state.sites[0].releases.iter().map(|held| held.id.clone()).collect();
    assert_eq!(held, [release(3), release(1)], "release 1 was active last");
}

#[test]
fn a_preview_is_served_and_answered_for_until_it_expires() {
    let mut world = fixture::world(&["fra1"], Some(1), None);
    world.sites[0].releases.push(ReleaseRow {
        preview_host: Some("new--docs.nigh.test".parse().unwrap()),
        preview_expires_at: Some(at(100)),
        ..release_row(2, ReleaseState::Preview)
    });
    for (now, live) in [(99, 1), (100, 0)] {
        assert_eq!(edge_state(&world, now).sites[0].previews.len(), live, "{now}");
        assert_eq!(dns_state(&world, now).sites[0].hosts.len(), 1 + live, "{now}");
    }
}

#[test]
fn a_dns_server_hears_of_lagging_and_drained_edges_at_the_same_revision() {
    let mut world = fixture::world(&["fra1", "nyc1"], Some(1), Some("nyc1"));
    world.machines[0].is_drained = true;
    let state = dns_state(&world, 0);
    assert_eq!(state.revision, Revision(7));
    assert_eq!(state.zones[0].soa.serial, 7);
    assert_eq!(state.sites[0].lagging, [fixture::name("nyc1")]);
    assert_eq!(state.edges.iter().map(|edge| edge.is_drained).collect::<Vec<_>>(), [true, false]);
    assert_eq!(state.edges[0].probes[0].port, 80);
}

#[test]
fn an_edge_without_a_place_or_an_address_is_not_offered() {
    let mut world = fixture::world(&["fra1", "nyc1"], None, None);
    world.machines[0].about.location = None;
    world.machines[1].about.ipv4.clear();
    assert!(dns_state(&world, 0).edges.is_empty());
}

#[test]
fn keys_of_certificates_reach_edges_only() {
    let mut world = fixture::world(&["fra1"], None, None);
    let name: DnsName = "docs.nigh.test".parse().unwrap();
    world.certificates.push(CertificateRow {
        id: "site:docs".to_owned(),
        names: vec![name],
        chain_pem: "chain".to_owned(),
        key_pem: "secret".to_owned(),
        not_before: at(0),
        not_after: at(1),
        source: Source::Internal,
        ca: None,
        renew_at: None,
        ask_at: None,
    });
    assert_eq!(edge_state(&world, 0).certificates[0].key_pem, "secret");
    let dns = serde_json::to_string(&dns_state(&world, 0)).unwrap();
    assert!(!dns.contains("secret"));
}

fn certificate(id: &str, names: &[&str], source: Source) -> CertificateRow {
    CertificateRow {
        id: id.to_owned(),
        names: names.iter().map(|name| name.parse().unwrap()).collect(),
        chain_pem: "chain".to_owned(),
        key_pem: "key".to_owned(),
        not_before: at(0),
        not_after: at(100),
        source,
        ca: None,
        renew_at: None,
        ask_at: None,
    }
}

#[test]
fn each_name_has_one_certificate_and_what_was_brought_comes_first() {
    let mut world = fixture::world(&["fra1"], None, None);
    world.certificates = vec![
        certificate("import:docs", &["docs.nigh.test"], Source::Import),
        certificate("previews", &["*.nigh.test"], Source::Internal),
        certificate("site:blog", &["blog.nigh.test", "blog.test"], Source::Internal),
        certificate("site:docs", &["docs.nigh.test", "own.test"], Source::Acme),
        certificate("wildcard:nigh.test", &["*.nigh.test"], Source::Acme),
    ];
    let shown = |now| -> Vec<(String, Vec<String>)> {
        let certificates = edge_state(&world, now).certificates.into_iter();
        let names = |row: &Certificate| row.names.iter().map(ToString::to_string).collect();
        certificates.map(|row| (row.id.clone(), names(&row))).collect()
    };
    let pair = |id: &str, names: &[&str]| {
        (id.to_owned(), names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    };
    let others = [pair("site:blog", &["blog.test"]), pair("wildcard:nigh.test", &["*.nigh.test"])];
    let before = shown(50);
    assert!(before.contains(&pair("import:docs", &["docs.nigh.test"])), "{before:?}");
    assert!(before.contains(&pair("site:docs", &["own.test"])), "{before:?}");
    assert!(others.iter().all(|other| before.contains(other)) && before.len() == 4, "{before:?}");
    let after = shown(100);
    assert!(after.contains(&pair("site:docs", &["docs.nigh.test", "own.test"])), "{after:?}");
    assert!(others.iter().all(|other| after.contains(other)) && after.len() == 3, "{after:?}");
}

#[test]
fn plain_http_is_redirected_only_where_every_host_has_a_certificate() {
    let mut world = fixture::world(&["fra1"], None, None);
    assert!(!edge_state(&world, 0).sites[0].https_redirect);
    world.certificates = vec![certificate("wildcard:nigh.test", &["*.nigh.test"], Source::Acme)];
    assert!(edge_state(&world, 0).sites[0].https_redirect);
    world.sites[0].hosts.push("own.test".parse().unwrap());
    assert!(!edge_state(&world, 0).sites[0].https_redirect);
}

#[test]
fn a_candidate_goes_to_the_edge_that_was_asked_and_to_no_other() {
    let mut world = fixture::world(&["fra1"], None, None);
    let mut candidate = CandidateRow {
        id: "site:docs".to_owned(),
        names: vec!["own.test".parse().unwrap()],
        chain_pem: "chain".to_owned(),
        key_pem: "key".to_owned(),
        not_before: at(0),
        not_after: at(1),
        source: Source::Acme,
        ca: None,
        asked: Some((fixture::name("fra1"), at(0))),
        refused: None,
        created_at: at(0),
    };
    world.candidates = vec![candidate.clone()];
    assert_eq!(edge_state(&world, 0).candidates[0].id, "site:docs");
    candidate.asked = Some((fixture::name("nyc1"), at(0)));
    world.candidates = vec![candidate];
    assert!(edge_state(&world, 0).candidates.is_empty());
}

#[test]
fn variants_and_rules_are_named_by_digest() {
    let mut world = fixture::world(&["fra1"], Some(1), None);
    world.sites[0].releases[0].variants = Some(Digest::of(b"variants"));
    let state = edge_state(&world, 0);
    assert_eq!(state.sites[0].releases[0].variants, Some(Digest::of(b"variants")));
    assert_eq!(state.sites[0].releases[0].manifest, world.sites[0].releases[0].manifest);
}
