//! Who is let in, for how long, and who no longer?

use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use nigh_daemon::{Clock, clock::Hand};
use nigh_proto::{
    Digest, Timestamp,
    api::{AuthorityStage, CaView, StatusView},
    report::{
        CONTROL_TIME, Credentials, Health, JoinRequest, JoinResponse, MachineRole, RenewRequest,
        Report, Sequel,
    },
    watch::{Frame, Trust},
};
use rcgen::{CertificateParams, KeyPair};
use reqwest::{Method, Response, StatusCode};

use crate::{
    fleet::{DEADLINE, Fleet, expect, refused},
    fleet_machine::{Machine, about, client, join_token},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn key_and_request() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let request = CertificateParams::default().serialize_request(&key).unwrap();
    (key.serialize_pem(), request.pem().unwrap())
}

fn now() -> Timestamp {
    SystemTime::now().into()
}

/// Renews; returns a machine with the new certificate, which trusts what control answered.
async fn renewed(machine: &Machine) -> Machine {
    let (key, csr_pem) = key_and_request();
    let request = RenewRequest { csr_pem, sent_at: now() };
    let url = format!("{}/machine/v1/renew", machine.url);
    let response = machine.http.post(url).json(&request).send().await.unwrap();
    let answer: JoinResponse = expect(StatusCode::OK, response).await;
    assert_eq!(answer.name, machine.name());
    let http = client(&answer.ca_pem, &answer.certificate_pem, &key);
    Machine { about: machine.about.clone(), http, url: machine.url.clone() }
}

async fn report(machine: &Machine, credentials: Credentials, sent_at: Timestamp) -> Response {
    let report = Report {
        about: machine.about.clone(),
        revision: None,
        sites: Vec::new(),
        certificates: Vec::new(),
        health: Health::default(),
        sent_at,
        credentials,
        sequel: Sequel::default(),
        holding: None,
    };
    let url = format!("{}/machine/v1/report", machine.url);
    machine.http.post(url).json(&report).send().await.unwrap()
}

fn fingerprints(bundle: &str) -> Vec<Digest> {
    let pems = bundle.split_inclusive("-----END CERTIFICATE-----\n");
    let der = |pem: &str| x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap().1.contents;
    pems.map(|pem| Digest::of(&der(pem))).collect()
}

async fn ask(machine: &Machine, method: Method, path: &str) -> reqwest::Result<Response> {
    let url = format!("{}/machine/v1/{path}", machine.url);
    machine.http.request(method, url).json(&serde_json::json!({ "digests": [] })).send().await
}

#[tokio::test]
async fn a_machine_renews_its_certificate_and_both_work_until_the_old_one_ends() {
    // Minutes only: TLS goes by the clock of the system.
    let (clock, hand) = Clock::manual(SystemTime::now());
    let an_hour = |config: &mut nigh_control::ControlConfig| {
        config.machines.certificate_ms = 60 * 60 * 1000;
    };
    let fleet = Fleet::start_with(an_hour, clock).await;
    let old = Machine::join(&fleet, "fra1", MachineRole::Edge).await;
    hand.advance(Duration::from_secs(5 * 60));
    let new = renewed(&old).await;
    for machine in [&old, &new] {
        machine.watch(0).await.edge_state().await;
    }
    hand.advance(Duration::from_secs(56 * 60));
    let late = ask(&old, Method::GET, "watch").await.unwrap();
    assert_eq!(refused(StatusCode::UNAUTHORIZED, late).await, "certificate_expired");
    new.watch(0).await.edge_state().await;
}

#[tokio::test]
async fn control_warns_of_a_certificate_that_is_not_renewed_and_of_one_that_has_ended() {
    let (clock, hand) = Clock::manual(SystemTime::now());
    let fleet = Fleet::start_with(|_| {}, clock).await;
    Machine::join(&fleet, "fra1", MachineRole::Edge).await;
    let warnings = async || {
        let status: StatusView = fleet.get("/v1/status").await;
        status.warnings.join("\n")
    };
    let step = async |hand: &Hand, days: u32, word: &str| {
        hand.advance(days * DAY);
        let text = warnings().await;
        assert!(text.contains(word), "{text}");
    };
    assert!(!warnings().await.contains("certificate"));
    step(&hand, 25, "ends in 5 days").await;
    step(&hand, 6, "join it again: nigh edge token fra1").await;
}

#[tokio::test]
async fn a_lost_answer_to_a_join_is_asked_for_again_with_the_same_key_alone() {
    let (clock, hand) = Clock::manual(SystemTime::now());
    let fleet = Fleet::start_with(|_| {}, clock).await;
    let token = join_token(&fleet, "fra1", MachineRole::Edge).await;
    let join = async |csr_pem: &str| {
        let about = about("fra1", MachineRole::Edge);
        let csr_pem = csr_pem.to_owned();
        let request = JoinRequest { token: token.clone(), csr_pem, about, sent_at: None };
        let url = format!("{}/machine/v1/join", fleet.machines);
        fleet.http.post(url).json(&request).send().await.unwrap()
    };
    let ((_, mine), (_, other)) = (key_and_request(), key_and_request());
    for _ in 0..2 {
        let _: JoinResponse = expect(StatusCode::OK, join(&mine).await).await;
    }
    let replayed = join(&other).await;
    let problem: nigh_proto::api::Problem = expect(StatusCode::UNAUTHORIZED, replayed).await;
    assert_eq!(problem.code, "join_refused");
    assert!(problem.detail.contains("used already"), "{}", problem.detail);
    hand.advance(Duration::from_secs(3601));
    let late: nigh_proto::api::Problem = expect(StatusCode::UNAUTHORIZED, join(&mine).await).await;
    assert!(late.detail.contains("expired at"), "{}", late.detail);
}

#[tokio::test]
async fn a_machine_whose_clock_is_far_off_does_not_join_and_is_told_both_times() {
    let fleet = Fleet::start().await;
    let token = join_token(&fleet, "fra1", MachineRole::Edge).await;
    let join = async |sent_at: Timestamp| {
        let about = about("fra1", MachineRole::Edge);
        let (_, csr_pem) = key_and_request();
        let request = JoinRequest { token: token.clone(), csr_pem, about, sent_at: Some(sent_at) };
        let url = format!("{}/machine/v1/join", fleet.machines);
        fleet.http.post(url).json(&request).send().await.unwrap()
    };
    for hours in [-2, 48] {
        let wrong = now().plus_ms(hours * 3_600_000);
        let refusal = join(wrong).await;
        let problem: nigh_proto::api::Problem =
            expect(StatusCode::UNPROCESSABLE_ENTITY, refusal).await;
        assert_eq!(problem.code, "clock_wrong");
        assert!(problem.detail.contains(&wrong.to_string()), "{}", problem.detail);
    }
    let _: JoinResponse = expect(StatusCode::OK, join(now()).await).await;
}

#[tokio::test]
async fn a_wrong_clock_is_warned_of_and_the_machine_is_told_what_time_it_is() {
    let fleet = Fleet::start().await;
    let edge = Machine::join(&fleet, "fra1", MachineRole::Edge).await;
    let answer = report(&edge, Credentials::default(), now().plus_ms(-60_000)).await;
    let told: Timestamp = answer.headers()[CONTROL_TIME].to_str().unwrap().parse().unwrap();
    assert!(told.ms_since(now()).abs() < 20_000, "{told}");
    let status: StatusView = fleet.get("/v1/status").await;
    let warnings = status.warnings.join("\n");
    assert!(warnings.contains("the clock of fra1 is") && warnings.contains("behind"), "{warnings}");
    assert!(status.machines[0].clock_ahead_ms < -50_000);
}

#[tokio::test]
async fn a_stolen_certificate_is_of_no_use_from_the_moment_it_is_revoked() {
    for verb in ["revoke", "remove", "join again"] {
        let fleet = Fleet::start().await;
        let (edge, thief) = Machine::join_twice(&fleet, "fra1", MachineRole::Edge).await;
        let (mut watch, mut stolen) = (edge.watch(0).await, thief.watch(0).await);
        watch.edge_state().await;
        stolen.edge_state().await;
        // A fetch that is under way, on a connection that has done other things.
        let large = "x".repeat(8 << 20);
        let digest = Digest::of(large.as_bytes());
        let path = format!("/v1/blobs/{digest}");
        let upload = fleet.request(Method::PUT, &path).header("upload-offset", 0);
        let upload = upload.header("upload-length", large.len()).body(large).send().await.unwrap();
        assert_eq!(upload.status(), StatusCode::CREATED);
        let fetch = ask(&thief, Method::GET, &format!("blobs/{digest}")).await.unwrap();
        assert_eq!(fetch.status(), StatusCode::OK);

        let done = match verb {
            "revoke" => fleet.post("/v1/machines/fra1/revoke", &()).await.status(),
            "remove" => {
                let gone = fleet.request(Method::DELETE, "/v1/machines/fra1").send().await;
                gone.unwrap().status()
            }
            _ => {
                let _again = Machine::join(&fleet, "fra1", MachineRole::Edge).await;
                StatusCode::OK
            }
        };
        assert!(done.is_success(), "{verb}: {done}");
        let ended = async {
            while watch.frame().await.is_some() {}
            while stolen.frame().await.is_some() {}
        };
        tokio::time::timeout(DEADLINE, ended).await.expect("the streams are cut");
        let mut body = fetch.bytes_stream();
        let mut taken = 0;
        let rest = async {
            while let Some(Ok(piece)) = body.next().await {
                taken += piece.len();
            }
        };
        tokio::time::timeout(DEADLINE, rest).await.expect("the fetch is cut");
        assert!(taken < 8 << 20, "{verb}: the whole blob went to the thief");
        for (method, path) in [
            (Method::GET, "watch"),
            (Method::POST, "packs"),
            (Method::GET, &format!("blobs/{digest}")),
        ] {
            let refusal = ask(&thief, method, path).await.unwrap();
            assert_eq!(refused(StatusCode::FORBIDDEN, refusal).await, "machine_removed", "{path}");
        }
        let refusal = report(&thief, Credentials::default(), now()).await;
        assert_eq!(refused(StatusCode::FORBIDDEN, refusal).await, "machine_removed");
        let (_, csr_pem) = key_and_request();
        let request = RenewRequest { csr_pem, sent_at: now() };
        let url = format!("{}/machine/v1/renew", thief.url);
        let refusal = thief.http.post(url).json(&request).send().await.unwrap();
        assert_eq!(refused(StatusCode::FORBIDDEN, refusal).await, "machine_removed");
    }
}

#[tokio::test]
async fn of_two_machines_with_one_identity_the_one_started_last_counts_and_it_is_said() {
    let fleet = Fleet::start().await;
    let (original, copy) = Machine::join_twice(&fleet, "fra1", MachineRole::Edge).await;
    let is = |instance| Credentials { instance, ..Credentials::default() };
    let _streams = (original.watch(0).await, copy.watch(0).await);
    for (machine, instance) in [(&original, 1), (&original, 1), (&copy, 2)] {
        let taken = report(machine, is(instance), now()).await;
        assert_eq!(taken.status(), StatusCode::NO_CONTENT);
    }
    let warnings = async || {
        let status: StatusView = fleet.get("/v1/status").await;
        status.warnings.join("\n")
    };
    assert!(!warnings().await.contains("two machines"), "a restart is none");
    let refusal = report(&original, is(1), now()).await;
    assert_eq!(refused(StatusCode::CONFLICT, refusal).await, "machine_duplicate");
    let refusal = ask(&original, Method::GET, "watch?instance=1").await.unwrap();
    assert_eq!(refused(StatusCode::CONFLICT, refusal).await, "machine_duplicate");
    let taken = report(&copy, is(2), now()).await;
    assert_eq!(taken.status(), StatusCode::NO_CONTENT);
    let warnings = warnings().await;
    assert!(warnings.contains("two machines go by the identity of fra1"), "{warnings}");
}

#[tokio::test]
async fn a_report_of_nonsense_is_refused_and_changes_nothing() {
    let fleet = Fleet::start().await;
    let mut edge = Machine::join(&fleet, "fra1", MachineRole::Edge).await;
    edge.about.location = Some(nigh_proto::state::Location { latitude: 1234.0, longitude: 0.0 });
    let refusal = report(&edge, Credentials::default(), now()).await;
    assert_eq!(refused(StatusCode::UNPROCESSABLE_ENTITY, refusal).await, "report_invalid");
    let status: StatusView = fleet.get("/v1/status").await;
    assert_eq!(status.machines[0].location, about("fra1", MachineRole::Edge).location);
}

/// The names of the CAs in the chain that control shows to those who trust `ca`.
async fn believes_control(ca_pem: &str, url: &str) -> bool {
    let ca = reqwest::tls::Certificate::from_pem_bundle(ca_pem.as_bytes()).unwrap();
    let http = reqwest::Client::builder().tls_certs_only(ca).build().unwrap();
    http.get(format!("{url}/v1/whoami")).send().await.is_ok()
}

#[tokio::test]
async fn the_ca_is_rotated_under_an_open_stream_and_the_old_one_is_refused_at_the_end() {
    let overlap = |config: &mut nigh_control::ControlConfig| config.machines.ca_overlap_ms = 1;
    let fleet = Fleet::start_with(overlap, Clock::system()).await;
    fleet.create_site("docs").await;
    let old_ca = fleet.ca_pem();
    let edge = Machine::join(&fleet, "fra1", MachineRole::Edge).await;
    let away = Machine::join(&fleet, "nyc1", MachineRole::Edge).await;
    let known = Digest::of(old_ca.as_bytes());
    let mut watch = edge.watch_trusting(0, known).await;
    let state = watch.edge_state().await;
    let sites_ca = |state: &nigh_proto::state::EdgeState| {
        let chain = &state.certificates[0].chain_pem;
        let (_, pem) = x509_parser::pem::parse_x509_pem(chain.as_bytes()).unwrap();
        pem.parse_x509().unwrap().issuer().to_string()
    };
    assert_eq!(sites_ca(&state), "CN=nigh control CA 1");
    let trusting =
        |bundle: &str| Credentials { trusts: fingerprints(bundle), ..Credentials::default() };
    report(&edge, trusting(&old_ca), now()).await;
    // The other one has said nothing since control started: it is waited for, until it is away.
    report(&away, trusting(&old_ca), now()).await;
    let away_watch = away.watch(0).await;

    let begun = fleet.post("/v1/ca/rotate", &()).await;
    let begun: CaView = expect(StatusCode::ACCEPTED, begun).await;
    assert_eq!(begun.authorities[0].stage, AuthorityStage::Next);
    assert_eq!(begun.waiting_for.len(), 2);
    let again = fleet.post("/v1/ca/rotate", &()).await;
    assert_eq!(refused(StatusCode::CONFLICT, again).await, "ca_rotating");
    let Trust { ca_pem: bundle, renew } = watch.trust().await;
    assert!(renew);
    assert_eq!(fingerprints(&bundle).len(), 2);

    // With its new certificate it opens its next stream before the old one ends.
    let edge_new = renewed(&edge).await;
    let mut next = edge_new.watch_trusting(0, Digest::of(bundle.as_bytes())).await;
    next.edge_state().await;
    report(&edge_new, trusting(&bundle), now()).await;
    drop(away_watch);
    let ca = fleet.ca_when(|ca| ca.authorities[0].stage == AuthorityStage::Current).await;
    assert_eq!(ca.authorities[1].machines, [away.name()]);
    assert_eq!(
        sites_ca(&next.edge_state_with(|state| sites_ca(state).ends_with('2')).await),
        "CN=nigh control CA 2"
    );
    assert!(watch.frame().await.is_some(), "the old stream was not cut");

    // Who has only the old CA is not cut off, and who was away comes back and renews.
    assert!(believes_control(&old_ca, &fleet.api).await);
    fleet.until_ca_file_has(&bundle).await;
    away.watch(0).await.edge_state().await;
    let away_new = renewed(&away).await;
    fleet.ca_when(|ca| ca.authorities.len() == 1).await;
    let new_ca = fleet.ca_when(|ca| ca.bundle_pem != bundle).await.bundle_pem;
    fleet.until_ca_file_has(&new_ca).await;
    assert!(!believes_control(&old_ca, &fleet.api).await, "the old CA is of the past");
    assert!(ask(&away, Method::GET, "watch").await.is_err(), "so are its certificates");
    while watch.frame().await.is_some() {}
    away_new.watch(0).await.edge_state().await;
    fleet.create_site("blog").await;
    next.edge_state_with(|state| state.sites.len() == 2).await;
}

/// A build that is too old, or a disk that cannot be written: it is here, and it never trusts.
#[tokio::test]
async fn a_machine_that_never_trusts_the_next_ca_is_waited_for_so_long_and_then_named() {
    let patience = |config: &mut nigh_control::ControlConfig| {
        (config.machines.ca_patience_ms, config.machines.ca_overlap_ms) = (3_000, 3_600_000);
    };
    let fleet = Fleet::start_with(patience, Clock::system()).await;
    let old_ca = fleet.ca_pem();
    let edge = Machine::join(&fleet, "fra1", MachineRole::Edge).await;
    let _watch = edge.watch(0).await;
    let trusts = Credentials { trusts: fingerprints(&old_ca), ..Credentials::default() };
    report(&edge, trusts.clone(), now()).await;
    let begun: CaView = expect(StatusCode::ACCEPTED, fleet.post("/v1/ca/rotate", &()).await).await;
    assert_eq!(begun.waiting_for, [edge.name()]);
    let waited_ms = begun.goes_on_at.unwrap().ms_since(begun.authorities[0].since);
    assert_eq!((waited_ms, begun.left_behind.len()), (3_000, 0));

    // It goes on reporting, so it is here all the time.
    let reporting = async {
        loop {
            report(&edge, trusts.clone(), now()).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let is_over = |ca: &CaView| ca.authorities[0].stage == AuthorityStage::Current;
    let ca = tokio::select! {
        ca = fleet.ca_when(is_over) => ca,
        () = reporting => unreachable!("it never ends"),
    };
    let since = ca.authorities[0].since;
    assert!(since >= begun.goes_on_at.unwrap(), "{since} is too early");
    assert_eq!((ca.left_behind.as_slice(), ca.goes_on_at), (&[edge.name()][..], None));
    assert!(ca.waiting_for.is_empty());
    let status: StatusView = fleet.get("/v1/status").await;
    let warnings = status.warnings.join("\n");
    assert!(warnings.contains("fra1 does not trust control's new CA"), "{warnings}");
    let events: serde_json::Value = fleet.get("/v1/events?kind=ca_rotated").await;
    let items = events["items"].as_array().unwrap();
    let told = items.iter().find(|event| event["data"]["stage"] == "current").unwrap();
    assert_eq!(told["data"]["left_behind"], serde_json::json!(["fra1"]), "{events}");
    // It is not cut off: control shows what it knows, and takes its certificate.
    assert!(believes_control(&old_ca, &fleet.api).await);
    edge.watch(0).await.edge_state().await;
    // When it comes to its senses, or was joined again, nothing is said any more.
    let both = Credentials { trusts: fingerprints(&ca.bundle_pem), ..Credentials::default() };
    report(&edge, both, now()).await;
    assert!(fleet.ca_when(|ca| ca.left_behind.is_empty()).await.authorities.len() == 2);
}

#[tokio::test]
async fn a_rotation_goes_on_after_a_restart_and_can_be_ended_by_hand() {
    let fleet = Fleet::start().await;
    let old_ca = fleet.ca_pem();
    let away = Machine::join(&fleet, "nyc1", MachineRole::Edge).await;
    fleet.post("/v1/ca/rotate", &()).await;
    let fleet = fleet.restart().await;
    // It waits for those that may dial yet, then goes on without them.
    let ca = fleet.ca_when(|ca| ca.authorities[0].stage == AuthorityStage::Current).await;
    assert_eq!(ca.authorities.len(), 2);
    assert_eq!(ca.authorities[1].machines, [away.name()]);
    assert!(believes_control(&old_ca, &fleet.api).await);
    let ended: CaView = expect(StatusCode::OK, fleet.post("/v1/ca/retire", &()).await).await;
    assert_eq!(ended.authorities.len(), 1);
    fleet.until_ca_file_has(&ended.bundle_pem).await;
    let url = format!("{}/machine/v1/watch", fleet.machines);
    assert!(away.http.get(url).send().await.is_err());
}

#[tokio::test]
async fn a_stream_tells_nothing_of_trust_to_a_machine_that_knows() {
    let fleet = Fleet::start().await;
    let edge = Machine::join(&fleet, "fra1", MachineRole::Edge).await;
    let revision = edge.watch(0).await.edge_state().await.revision;
    let known = Digest::of(fleet.ca_pem().as_bytes());
    let mut watch = edge.watch_trusting(revision.0, known).await;
    assert_eq!(watch.frame().await, Some(Frame::Heartbeat { revision }));
    let mut watch = edge.watch_trusting(revision.0, Digest::of(b"something else")).await;
    assert_eq!(watch.trust().await, Trust { ca_pem: fleet.ca_pem(), renew: false });
}
