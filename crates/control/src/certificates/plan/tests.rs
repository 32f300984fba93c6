use proptest::prelude::*;

use super::*;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

fn name(text: &str) -> DnsName {
    text.parse().unwrap()
}

fn day(day: i64) -> Timestamp {
    Timestamp::from_unix_ms(day * DAY_MS)
}

/// A certificate from day 0 to day 90.
fn held(id: &str, names: &[&str], source: Source) -> Held {
    Held {
        id: id.to_owned(),
        names: names.iter().map(|text| name(text)).collect(),
        source,
        not_before: day(0),
        not_after: day(90),
        renew_at: None,
    }
}

/// What a plan is made from, at home in the zone `nigh.test`.
struct Given {
    now: Timestamp,
    sites: Vec<(SiteName, Vec<Host>)>,
    held: Vec<Held>,
    candidates: BTreeMap<String, Vec<DnsName>>,
    troubled: BTreeSet<DnsName>,
    names_max: usize,
}

impl Given {
    fn site(hosts: &[&str]) -> Self {
        let hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
        Given {
            now: day(1),
            sites: vec![("docs".parse().unwrap(), hosts)],
            held: Vec::new(),
            candidates: BTreeMap::new(),
            troubled: BTreeSet::new(),
            names_max: 100,
        }
    }

    fn holding(mut self, held: &[Held]) -> Self {
        self.held.extend_from_slice(held);
        self
    }

    fn on(mut self, now: i64) -> Self {
        self.now = day(now);
        self
    }

    fn plan(&self) -> Plan {
        let domain = "nigh.test".parse().unwrap();
        plan(&Situation {
            now: self.now,
            domain: &domain,
            preview_domain: &domain,
            zones: &[name("nigh.test"), name("own.test")],
            names_max: self.names_max,
            sites: &self.sites,
            held: &self.held,
            candidates: &self.candidates,
            troubled: &self.troubled,
        })
    }

    fn requested(&self) -> Vec<(String, usize)> {
        let requests = self.plan().requests;
        requests.into_iter().map(|request| (request.id, request.names.len())).collect()
    }
}

fn wildcard() -> Held {
    held("wildcard:nigh.test", &["*.nigh.test"], Source::Acme)
}

#[test]
fn the_wildcard_covers_default_hosts_and_previews_and_others_get_their_own() {
    let given = Given::site(&["docs.nigh.test", "own.test", "www.own.test", "www.far.example"]);
    let expected = [("host:www.far.example", 1), ("site:docs", 2), ("wildcard:nigh.test", 1)];
    assert_eq!(given.requested(), expected.map(|(id, names)| (id.to_owned(), names)));
}

#[test]
fn what_is_in_hand_or_on_its_way_is_not_asked_for() {
    let mut given = Given::site(&["docs.nigh.test", "own.test"]).holding(&[wildcard()]);
    given.candidates.insert("site:docs".to_owned(), vec![name("own.test")]);
    assert_eq!(given.plan().requests, []);
    assert_eq!(given.plan().bare, BTreeSet::from([name("own.test")]));
}

#[test]
fn it_is_asked_for_anew_at_two_thirds_or_when_its_ca_says() {
    let given = Given::site(&["docs.nigh.test"]).holding(&[wildcard()]);
    assert_eq!(given.plan().requests, []);
    let given = given.on(60);
    assert!(given.plan().requests[0].is_renewal);
    let told = Held { renew_at: Some(day(70)), ..wildcard() };
    let mut given = Given::site(&[]).holding(std::slice::from_ref(&told)).on(69);
    assert_eq!(given.plan().requests, []);
    assert_eq!(given.on(70).requested().len(), 1);
    given = Given::site(&[]).holding(&[Held { renew_at: Some(day(400)), ..told }]).on(75);
    assert_eq!(given.requested().len(), 1, "a CA that says never is not believed");
}

#[test]
fn a_host_that_failed_is_left_out_and_tried_alone_until_it_has_one() {
    let mut given = Given::site(&["a.own.test", "b.own.test"]).holding(&[wildcard()]);
    given.troubled.insert(name("b.own.test"));
    let expected = [("host:b.own.test", 1), ("site:docs", 1)];
    assert_eq!(given.requested(), expected.map(|(id, names)| (id.to_owned(), names)));

    // It has one now; at its end the host goes back to the others, and the single one goes.
    given.troubled.clear();
    let mut given = given.holding(&[
        held("site:docs", &["a.own.test"], Source::Acme),
        held("host:b.own.test", &["b.own.test"], Source::Acme),
    ]);
    assert_eq!(given.plan().requests, []);
    given = given.on(60);
    assert!(given.requested().contains(&("site:docs".to_owned(), 2)));
    assert_eq!(given.plan().surplus, Vec::<String>::new(), "it serves until the other does");
    given.held[1].names.push(name("b.own.test"));
    assert_eq!(given.plan().surplus, ["host:b.own.test"]);
}

#[test]
fn an_own_certificate_is_preferred_until_it_ends() {
    let own = held("import:docs", &["docs.nigh.test", "own.test"], Source::Import);
    let given = Given::site(&["docs.nigh.test", "own.test"]).holding(&[wildcard(), own]);
    assert_eq!(given.plan().requests, []);
    let given = given.on(90);
    assert!(given.requested().contains(&("site:docs".to_owned(), 1)));
    assert_eq!(given.plan().surplus, Vec::<String>::new(), "only people remove it");
}

#[test]
fn certificates_of_the_own_ca_serve_until_there_are_better_ones() {
    let internal = held("site:docs", &["docs.nigh.test", "own.test"], Source::Internal);
    let mut given = Given::site(&["docs.nigh.test", "own.test"]).holding(&[internal]);
    assert_eq!(given.requested().len(), 2);
    assert_eq!(given.plan().surplus, Vec::<String>::new());
    given = given.holding(&[wildcard()]);
    assert_eq!(given.plan().surplus, Vec::<String>::new(), "own.test has no other");
    let previews = held("previews", &["*.nigh.test"], Source::Internal);
    given = given.holding(&[previews]);
    assert_eq!(given.plan().surplus, ["previews"]);
}

#[test]
fn a_site_that_is_gone_takes_its_certificates_along() {
    let mut given = Given::site(&["own.test"]).holding(&[
        wildcard(),
        held("site:docs", &["own.test"], Source::Acme),
        held("host:far.example", &["far.example"], Source::Acme),
    ]);
    assert_eq!(given.plan().surplus, ["host:far.example"]);
    given.sites.clear();
    assert_eq!(given.plan().surplus, ["site:docs", "host:far.example"]);
}

proptest! {
    /// Whatever the hosts and whoever fails: each is asked for exactly once, within the bound.
    #[test]
    fn every_host_is_in_exactly_one_request(
        own in proptest::collection::btree_set("[a-d]{1,3}\\.own\\.test", 0..40),
        far in proptest::collection::btree_set("[a-d]{1,3}\\.far\\.example", 0..10),
        troubled in proptest::collection::vec(any::<bool>(), 40),
        names_max in 1usize..9,
    ) {
        let hosts: Vec<&str> = own.iter().chain(&far).map(String::as_str).collect();
        let mut given = Given::site(&hosts);
        given.names_max = names_max;
        let failed = own.iter().zip(troubled).filter(|(_, failed)| *failed);
        given.troubled = failed.map(|(host, _)| name(host)).collect();
        let plan = given.plan();
        let mut asked: Vec<DnsName> = Vec::new();
        for request in &plan.requests {
            prop_assert!(request.names.len() <= names_max);
            asked.extend(request.names.iter().cloned());
        }
        asked.sort();
        let mut expected: Vec<DnsName> = hosts.iter().map(|host| name(host)).collect();
        expected.push(name("*.nigh.test"));
        expected.sort();
        prop_assert_eq!(asked, expected);
    }
}
