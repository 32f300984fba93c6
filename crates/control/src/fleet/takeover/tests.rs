use nigh_proto::{
    Digest, FleetId,
    state::{PreviewRef, Revision},
    zone::{Record, RecordData, Soa},
};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{ca::Authority, fleet::fixture};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

fn now() -> Timestamp {
    Timestamp::from_unix_ms(1_790_000_000_000)
}

fn release(number: u64, purpose: ReleasePurpose) -> ReleaseRef {
    ReleaseRef {
        id: fixture::release(number),
        manifest: Digest::of(&number.to_le_bytes()),
        rules: Digest::of(b"rules"),
        variants: None,
        created_at: Timestamp::from_unix_ms(1_780_000_000_000),
        purpose,
    }
}

fn site(name: &str, active: u64, releases: Vec<ReleaseRef>) -> SiteState {
    SiteState {
        name: name.parse().unwrap(),
        hosts: vec![format!("{name}.nigh.test").parse().unwrap()],
        https_redirect: true,
        active: Some(fixture::release(active)),
        releases,
        previews: Vec::new(),
    }
}

fn edge(sites: Vec<SiteState>) -> EdgeState {
    EdgeState {
        revision: Revision(41),
        fleet: Some(FleetId::new(1, [9; 10])),
        machine: "fra1".parse().unwrap(),
        region: "eu".parse().unwrap(),
        sites,
        certificates: Vec::new(),
        candidates: Vec::new(),
        ticket_keys: Vec::new(),
        http_challenges: Vec::new(),
        peers: Vec::new(),
    }
}

fn settings(zones: Vec<Zone>) -> Settings {
    Settings {
        https_redirect: true,
        grace_releases_max: 32,
        zones,
        networks: Vec::new(),
        steered_ttl_s: 20,
        answer_addresses_max: 2,
    }
}

fn planned(world: &World, edge: &EdgeState, dns: Option<&DnsState>) -> Plan {
    planned_with(world, &settings(Vec::new()), edge, dns)
}

fn planned_with(
    world: &World,
    settings: &Settings,
    edge: &EdgeState,
    dns: Option<&DnsState>,
) -> Plan {
    let ground = Ground {
        world,
        settings,
        domain: &"nigh.test".parse().unwrap(),
        own_names: &["control.test".to_owned()],
        grace_ms: 7 * DAY_MS,
        ticket_period_ms: DAY_MS,
        now: now(),
    };
    plan(ground, edge, dns)
}

#[test]
fn a_site_comes_with_what_it_serves_and_what_rollback_goes_to() {
    let graced = |days: i64| ReleasePurpose::Grace { until: now().plus_ms(days * DAY_MS) };
    let mut docs = site(
        "docs",
        3,
        vec![
            release(5, ReleasePurpose::Serve),
            release(4, ReleasePurpose::Serve),
            release(3, ReleasePurpose::Serve),
            release(2, graced(5)),
            // The one that rollback would go to is held though its grace has passed.
            release(1, graced(-3)),
        ],
    );
    docs.previews = vec![PreviewRef {
        host: "next--docs.nigh.test".parse().unwrap(),
        release: fixture::release(4),
        expires_at: Some(now().plus_ms(DAY_MS)),
    }];
    let state = edge(vec![docs]);
    check(&MachineState::Edge(state.clone())).unwrap();
    let plan = planned(&World::default(), &state, None);
    assert!(plan.notes.is_empty(), "{:?}", plan.notes);
    let site = &plan.sites[0];
    assert!(site.is_new && site.hosts.len() == 1 && site.hosts[0].is_default);
    assert_eq!(site.active, Some(fixture::release(3)));
    let states: Vec<_> = site.releases.iter().map(|row| row.state).collect();
    use ReleaseState::{Active, Preview, Staging, Superseded};
    assert_eq!(states, [Staging, Preview, Active, Superseded, Superseded]);
    let [_, preview, _, newer, older] = &site.releases[..] else { panic!() };
    assert_eq!(preview.preview_host.as_ref().unwrap().as_str(), "next--docs.nigh.test");
    assert!(newer.grace_until.is_some() && older.grace_until.is_none());
    assert!(newer.activated_at > older.activated_at && newer.activated_at < Some(now()));
    assert!(!site.releases[0].goes_live, "what was on its way does not go live by itself");
}

#[test]
fn what_is_here_stays_and_the_second_time_nothing_is_new() {
    // `docs` serves release 1 here, another one than there.
    let here = fixture::world(&["fra1"], Some(1), None);
    let theirs = edge(vec![
        site("docs", 2, vec![release(2, ReleasePurpose::Serve)]),
        site("blog", 3, vec![release(3, ReleasePurpose::Serve)]),
    ]);
    let plan = planned(&here, &theirs, None);
    let docs = plan.sites.iter().find(|site| site.name.as_str() == "docs").unwrap();
    assert!(!docs.is_new && docs.active.is_none() && docs.hosts.is_empty());
    assert_eq!(docs.releases[0].state, ReleaseState::Superseded);
    assert!(plan.notes[0].contains("docs goes on with"), "{:?}", plan.notes);

    let mut after = here;
    for site in &plan.sites {
        let mut new =
            after.site(&site.name).cloned().unwrap_or_else(|| Site::new(site.name.clone(), None));
        new.active = new.active.or_else(|| site.active.clone());
        new.hosts.extend(site.hosts.iter().map(|row| row.host.clone()));
        new.releases.extend(site.releases.clone());
        after.sites.retain(|known| known.name != site.name);
        after.sites.push(new);
        after.sites.sort_by(|a, b| a.name.cmp(&b.name));
    }
    let again = planned(&after, &theirs, None);
    assert!(again.sites.is_empty(), "{again:?}");
}

#[test]
fn hosts_that_a_site_may_not_have_are_left_out_in_words() {
    let mut here = fixture::world(&["fra1"], Some(1), None);
    here.sites[0].hosts.push("blog.example".parse().unwrap());
    let mut blog = site("blog", 3, vec![release(3, ReleasePurpose::Serve)]);
    let hosts = ["blog.example", "a--b.nigh.test", "control.test", "www.blog.test"];
    blog.hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
    let plan = planned(&here, &edge(vec![blog]), None);
    let hosts: Vec<_> = plan.sites[0].hosts.iter().map(|row| row.host.as_str()).collect();
    assert_eq!(hosts, ["blog.nigh.test", "www.blog.test"]);
    let notes = plan.notes.join("\n");
    for part in
        ["blog.example stays with the site docs", "a--b.nigh.test", "control.test", "sites.domain"]
    {
        assert!(notes.contains(part), "{part}: {notes}");
    }
}

fn certificate(id: &str, names: &[&str], ca: &Authority) -> Certificate {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let issued = ca.issue(&names, now()).unwrap();
    Certificate {
        id: id.to_owned(),
        names: names.iter().map(|name| name.parse().unwrap()).collect(),
        chain_pem: issued.chain_pem,
        key_pem: issued.key_pem,
        not_after: issued.not_after,
    }
}

#[test]
fn certificates_that_can_serve_come_and_others_do_not() {
    let ca = Authority::open(&Authority::generate(3, None, now()).unwrap()).unwrap();
    let good = certificate("site:docs", &["docs.nigh.test"], &ca);
    let mut state = edge(vec![site("docs", 1, vec![release(1, ReleasePurpose::Serve)])]);
    let key_of_another = Certificate {
        key_pem: certificate("previews", &["x.test"], &ca).key_pem,
        ..certificate("previews", &["*.nigh.test"], &ca)
    };
    state.certificates = vec![
        good.clone(),
        certificate("import:docs", &["docs.nigh.test"], &ca),
        certificate("site:strange", &["docs.nigh.test"], &ca),
        key_of_another,
        Certificate { chain_pem: "nonsense".to_owned(), ..good.clone() },
    ];
    let plan = planned(&World::default(), &state, None);
    let told: Vec<_> = plan.certificates.iter().map(|row| (row.id.as_str(), row.source)).collect();
    assert_eq!(told, [("site:docs", Source::Internal), ("import:docs", Source::Import)]);
    assert_eq!(plan.certificates[0].key_pem, good.key_pem);
    assert_eq!(plan.notes.len(), 3, "{:?}", plan.notes);

    // One that is here stays, unless nobody can have seen it.
    let row = |source| CertificateRow { source, ..plan.certificates[0].clone() };
    for (sites, source, is_replaced) in [
        (false, Source::Internal, true),
        (true, Source::Internal, false),
        (false, Source::Acme, false),
    ] {
        let mut world = if sites { fixture::world(&[], Some(1), None) } else { World::default() };
        world.certificates = vec![row(source)];
        let plan = planned(&world, &state, None);
        let comes = plan.certificates.iter().any(|row| row.id == "site:docs");
        assert_eq!(comes, is_replaced, "{sites} {source:?}");
    }
}

fn dns(zones: &[&str]) -> DnsState {
    let zone = |name: &&str| Zone {
        name: name.parse().unwrap(),
        soa: Soa {
            primary: "ns1.other.test".parse().unwrap(),
            mailbox: "hostmaster.other.test".parse().unwrap(),
            serial: 41,
            refresh_s: 1,
            retry_s: 1,
            expire_s: 1,
            negative_ttl_s: 1,
        },
        name_servers: Vec::new(),
        records: vec![Record {
            name: name.parse().unwrap(),
            ttl_s: 60,
            data: RecordData::Txt("text".to_owned()),
        }],
    };
    DnsState {
        revision: Revision(41),
        fleet: Some(FleetId::new(1, [9; 10])),
        machine: "ns1".parse().unwrap(),
        zones: zones.iter().map(zone).collect(),
        edges: Vec::new(),
        sites: Vec::new(),
        networks: Vec::new(),
        steered_ttl_s: 20,
        answer_addresses_max: 2,
        challenges: Vec::new(),
    }
}

#[test]
fn zones_that_the_configuration_does_not_name_are_missed() {
    let told = dns(&["known.test", "lost.test"]);
    let mut known = told.zones[0].clone();
    known.soa.serial = 0;
    known.records.clear();
    let plan = planned_with(&World::default(), &settings(vec![known]), &edge(vec![]), Some(&told));
    assert_eq!(plan.zones_missing, told.zones[1..]);
    assert!(plan.notes[0].contains("known.test"), "{:?}", plan.notes);
}

#[test]
fn what_no_control_would_have_told_is_refused() {
    let one = || site("docs", 1, vec![release(1, ReleasePurpose::Serve)]);
    let mut shared_host = site("blog", 2, vec![release(2, ReleasePurpose::Serve)]);
    shared_host.hosts = one().hosts;
    let mut many = one();
    many.hosts = (0..=HOSTS_MAX).map(|number| format!("h{number}.test").parse().unwrap()).collect();
    for (sites, why) in [
        (vec![one(), one()], "a site twice"),
        (vec![one(), shared_host], "a host twice"),
        (vec![one(), site("blog", 1, vec![release(1, ReleasePurpose::Serve)])], "a release twice"),
        (vec![site("docs", 2, vec![release(1, ReleasePurpose::Serve)])], "does not have"),
        (vec![many], "more hosts"),
    ] {
        let refused = check(&MachineState::Edge(edge(sites))).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
    let mut outside = dns(&["a.test"]);
    outside.zones[0].records[0].name = "b.test".parse().unwrap();
    assert!(check(&MachineState::Dns(outside)).is_err());
    assert!(check(&MachineState::Dns(dns(&["a.test", "a.test"]))).is_err());
}

#[test]
fn a_default_host_is_not_taken_away_by_another_site() {
    let mut greedy = site("a", 1, vec![]);
    greedy.active = None;
    greedy.hosts = vec!["b.nigh.test".parse().unwrap()];
    let mut robbed = site("b", 1, vec![]);
    (robbed.active, robbed.hosts) = (None, vec![]);
    let plan = planned(&World::default(), &edge(vec![greedy, robbed]), None);
    let hosts = |index: usize| -> Vec<_> {
        plan.sites[index].hosts.iter().map(|row| row.host.as_str().to_owned()).collect()
    };
    assert_eq!(
        (hosts(0), hosts(1)),
        (vec!["a.nigh.test".to_owned()], vec!["b.nigh.test".to_owned()])
    );
    assert!(plan.notes.iter().any(|note| note.contains("b.nigh.test")), "{:?}", plan.notes);
}

prop_compose! {
    fn any_site()(
        name in "[a-d]",
        hosts in proptest::collection::vec("[a-c]{1,2}\\.(nigh|other)\\.test|x--y\\.test|control\\.test", 0..4),
        releases in proptest::collection::vec((0u64..6, proptest::option::of(any::<i64>())), 0..4),
        active in proptest::option::of(0u64..6),
        preview in proptest::option::of((0u64..6, proptest::option::of(any::<i64>()))),
        created_at: i64,
    ) -> serde_json::Value {
        let at = |ms: i64| Timestamp::from_unix_ms(ms % 4_000_000_000_000);
        let releases: Vec<_> = releases.into_iter().map(|(number, until)| {
            let purpose = until.map_or(ReleasePurpose::Serve, |ms| ReleasePurpose::Grace { until: at(ms) });
            ReleaseRef { created_at: at(created_at), ..release(number, purpose) }
        }).collect();
        let previews: Vec<_> = preview.into_iter().map(|(number, ends)| PreviewRef {
            host: "p--a.nigh.test".parse().unwrap(),
            release: fixture::release(number),
            expires_at: ends.map(at),
        }).collect();
        json!({
            "name": name, "hosts": hosts, "https_redirect": true, "releases": releases,
            "active": active.map(fixture::release), "previews": previews,
        })
    }
}

proptest! {
    /// Whatever a machine tells is refused, or makes a plan in which no host, release or site is twice
    /// and every site serves one of its own releases.
    #[test]
    fn any_state_is_refused_or_makes_a_sane_plan(
        sites in proptest::collection::vec(any_site(), 0..5),
        id in "(site:[a-d]|previews|import:.{0,5}|.{0,9})",
        (chain, key) in (".{0,40}", ".{0,40}"),
        ticket in "[0-9a-g]{30,34}",
        is_used: bool,
    ) {
        let text = json!({
            "role": "edge", "revision": 4, "machine": "fra1", "region": "eu", "sites": sites,
            "certificates": [{"id": id, "names": ["a.test"], "chain_pem": chain, "key_pem": key,
                "not_after": "2027-01-01T00:00:00Z"}],
            "ticket_keys": [{"name": ticket, "key": ticket, "not_after": "2027-01-01T00:00:00Z"}],
        });
        let Ok(state) = serde_json::from_value::<MachineState>(text) else { return Ok(()) };
        if check(&state).is_err() {
            return Ok(());
        }
        let MachineState::Edge(state) = state else { panic!() };
        let world = if is_used { fixture::world(&["fra1"], Some(1), None) } else { World::default() };
        let plan = planned(&world, &state, None);
        prop_assert!(plan.certificates.is_empty() && plan.ticket_keys.is_empty());
        prop_assert!(plan.notes.len() <= NOTES_MAX + 1);
        let (mut hosts, mut ids) = (BTreeSet::new(), BTreeSet::new());
        for site in &plan.sites {
            prop_assert!(site.hosts.iter().all(|row| hosts.insert(row.host.clone())));
            prop_assert!(site.releases.iter().all(|row| ids.insert(row.id.clone())));
            prop_assert_eq!(site.hosts.iter().filter(|row| row.is_default).count(), usize::from(site.is_new));
            let active = site.releases.iter().filter(|row| row.state == ReleaseState::Active);
            let active: Vec<_> = active.map(|row| row.id.clone()).collect();
            prop_assert_eq!(active, site.active.clone().into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn any_text_is_a_state_or_refused(text in "\\PC{0,200}") {
        if let Ok(state) = serde_json::from_str::<MachineState>(&text) {
            let _ = check(&state);
        }
    }
}
