//! Joining, watching and reporting.

use std::time::Duration;

use nigh_daemon::{Clock, Role};
use nigh_proto::{
    api::{MachineView, Page, ReleaseState, ReleaseView},
    report::{JoinResponse, MachineRole, SiteReport},
    state::Revision,
    watch::Frame,
};
use reqwest::{Method, StatusCode};

use crate::{
    fleet::{Fleet, expect, refused},
    fleet_machine::{Machine, about, join, join_token},
};

#[tokio::test]
async fn a_join_token_is_for_one_machine_and_one_use() {
    let fleet = Fleet::start().await;
    let token = join_token(&fleet, "fra1", MachineRole::Edge).await;
    let (other, _) = join(&fleet, &about("nyc1", MachineRole::Edge), &token).await;
    assert_eq!(refused(StatusCode::UNAUTHORIZED, other).await, "join_name");
    let (dns, _) = join(&fleet, &about("fra1", MachineRole::Dns), &token).await;
    assert_eq!(refused(StatusCode::UNAUTHORIZED, dns).await, "join_refused");
    let (first, _) = join(&fleet, &about("fra1", MachineRole::Edge), &token).await;
    let _: JoinResponse = expect(StatusCode::OK, first).await;
    let (second, _) = join(&fleet, &about("fra1", MachineRole::Edge), &token).await;
    assert_eq!(refused(StatusCode::UNAUTHORIZED, second).await, "join_refused");
}

#[tokio::test]
async fn a_join_token_expires() {
    let (clock, hand) = Clock::manual(std::time::SystemTime::now());
    let fleet = Fleet::start_with(|_| {}, clock).await;
    let token = join_token(&fleet, "fra1", MachineRole::Edge).await;
    hand.advance(Duration::from_secs(3601));
    let (late, _) = join(&fleet, &about("fra1", MachineRole::Edge), &token).await;
    assert_eq!(refused(StatusCode::UNAUTHORIZED, late).await, "join_refused");
}

#[tokio::test]
async fn without_a_certificate_only_joining_is_open() {
    let fleet = Fleet::start().await;
    for (method, path) in [
        (Method::GET, "watch"),
        (Method::POST, "report"),
        (Method::POST, "packs"),
        (Method::GET, &format!("blobs/{}", nigh_proto::Digest::of(b"x"))),
    ] {
        let url = format!("{}/machine/v1/{path}", fleet.machines);
        let response = fleet.http.request(method, url).bearer_auth(&fleet.token).send().await;
        let code = refused(StatusCode::UNAUTHORIZED, response.unwrap()).await;
        assert_eq!(code, "certificate_required", "{path}");
    }
}

#[tokio::test]
async fn a_machine_may_only_say_what_it_is_itself() {
    let fleet = Fleet::start().await;
    let mut edge = Machine::join(&fleet, "fra1", MachineRole::Edge).await;
    edge.about.name = "nyc1".parse().unwrap();
    let report = serde_json::json!({
        "about": edge.about, "revision": 1, "sites": [], "sent_at": "2026-01-01T00:00:00Z",
        "health": nigh_proto::report::Health::default(),
    });
    let url = format!("{}/machine/v1/report", edge.url);
    let response = edge.http.post(url).json(&report).send().await.unwrap();
    assert_eq!(refused(StatusCode::FORBIDDEN, response).await, "not_yourself");
}

#[tokio::test]
async fn a_report_may_leave_out_what_control_has_acknowledged() {
    let fleet = Fleet::start().await;
    let edge = Machine::join(&fleet, "fra1", MachineRole::Edge).await;
    let url = format!("{}/machine/v1/report", edge.url);
    let report = async |sites: serde_json::Value, sequel: serde_json::Value| {
        let report = serde_json::json!({
            "about": edge.about, "revision": null, "sites": sites, "sequel": sequel,
            "health": nigh_proto::report::Health::default(), "sent_at": "2026-01-01T00:00:00Z",
        });
        let response = edge.http.post(&url).json(&report).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        let number = response.headers().get(nigh_proto::report::REPORT_NUMBER);
        number.map(|number| number.to_str().unwrap().to_owned())
    };
    let json = |text: &str| serde_json::from_str(text).unwrap();
    let nothing = || serde_json::json!([]);
    assert_eq!(report(nothing(), json(r#"{"number":1}"#)).await.as_deref(), Some("1"));
    let next = report(nothing(), json(r#"{"number":2,"since":1,"gone":["docs"]}"#)).await;
    assert_eq!(next.as_deref(), Some("2"));
    let unknown = report(nothing(), json(r#"{"number":3,"since":1}"#)).await;
    assert_eq!(unknown, None, "that is not the last one");
    // Of a site that control knows nothing of it may know more in a moment.
    let strange = serde_json::json!([
        {"site": "strange", "staged": [], "active": null, "failed": [], "missing_blobs": 0}
    ]);
    assert_eq!(report(strange, json(r#"{"number":4}"#)).await, None);
    assert_eq!(report(nothing(), json(r#"{"number":5,"since":4}"#)).await, None);
    assert_eq!(report(nothing(), json("{}")).await, None, "machines of before do not count");
}

#[tokio::test]
async fn a_report_has_a_bound() {
    let fleet = Fleet::start().await;
    let edge = Machine::join(&fleet, "fra1", MachineRole::Edge).await;
    let url = format!("{}/machine/v1/report", edge.url);
    let long = " ".repeat(nigh_proto::report::REPORT_MAX_BYTES + 1);
    let response = edge.http.post(url).body(long).send().await.unwrap();
    assert_eq!(refused(StatusCode::PAYLOAD_TOO_LARGE, response).await, "body_too_large");
}

#[tokio::test]
async fn a_removed_machine_loses_its_stream_and_its_certificate() {
    let fleet = Fleet::start().await;
    let edge = Machine::join(&fleet, "fra1", MachineRole::Edge).await;
    let mut watch = edge.watch(0).await;
    watch.edge_state().await;
    let gone = fleet.request(Method::DELETE, "/v1/machines/fra1").send().await.unwrap();
    assert_eq!(gone.status(), StatusCode::NO_CONTENT);
    while watch.frame().await.is_some() {}
    let url = format!("{}/machine/v1/watch?since=0", edge.url);
    let refusal = edge.http.get(url).send().await.unwrap();
    assert_eq!(refused(StatusCode::FORBIDDEN, refusal).await, "machine_removed");
}

#[tokio::test]
async fn a_machine_that_is_current_hears_heartbeats_and_no_state() {
    let fleet = Fleet::start().await;
    let edge = Machine::join(&fleet, "fra1", MachineRole::Edge).await;
    let revision = edge.watch(0).await.edge_state().await.revision;
    let mut watch = edge.watch(revision.0).await;
    assert_eq!(watch.frame().await, Some(Frame::Heartbeat { revision }));
    fleet.create_site("docs").await;
    assert!(watch.edge_state().await.revision > revision);
}

#[tokio::test]
async fn a_machine_that_is_ahead_after_a_restored_backup_is_told_something_newer() {
    let fleet = Fleet::start().await;
    let edge = Machine::join(&fleet, "fra1", MachineRole::Edge).await;
    assert!(edge.watch(1_000_000).await.edge_state().await.revision > Revision(1_000_000));
    // A number that no fleet can reach is not believed.
    assert!(edge.watch(u64::MAX).await.edge_state().await.revision < Revision(2_000_000));
}

#[tokio::test]
async fn an_edge_that_lags_is_left_out_from_the_activation_until_it_has_caught_up() {
    let fleet = Fleet::start_with(|config| config.sites.stage_deadline_ms = 300, Clock::system());
    let fleet = fleet.await;
    fleet.create_site("docs").await;
    let dns = Machine::join(&fleet, "ns1", MachineRole::Dns).await;
    Machine::join(&fleet, "fra1", MachineRole::Edge).await.obey();
    let slow = Machine::join(&fleet, "nyc1", MachineRole::Edge).await;
    let mut watch = slow.watch(0).await;
    let before = watch.edge_state().await;
    slow.report_sites(before.revision, Vec::new()).await;

    let pushed = fleet.push("docs", &[("index.html", "one")]).await;
    let view = fleet.until_active(&pushed).await;
    let state = dns.watch(0).await.dns_state().await;
    assert_eq!(state.sites[0].lagging, [slow.name()]);
    let told = watch.edge_state_with(|state| state.sites[0].active.is_some()).await;
    assert!(told.revision <= state.revision, "in the revision of the activation or before");

    slow.report(&told).await;
    let mut dns_watch = dns.watch(0).await;
    while !dns_watch.dns_state().await.sites[0].lagging.is_empty() {}
    assert_eq!(view.state, ReleaseState::Active);
}

#[tokio::test]
async fn an_edge_that_joins_again_is_not_taken_for_what_it_was() {
    let fleet = Fleet::start().await;
    fleet.create_site("docs").await;
    Machine::join(&fleet, "fra1", MachineRole::Edge).await.obey();
    let one = fleet.push("docs", &[("index.html", "one")]).await;
    fleet.until_active(&one).await;
    let two = fleet.push("docs", &[("index.html", "two")]).await;
    fleet.until_active(&two).await;

    // The same name, an empty disk, and nothing said yet.
    let again = Machine::join(&fleet, "fra1", MachineRole::Edge).await;
    let _watch = again.watch(0).await;
    let back = fleet.post("/v1/sites/docs/rollback", &serde_json::json!({})).await;
    let back: ReleaseView = expect(StatusCode::ACCEPTED, back).await;
    assert_eq!(back.state, ReleaseState::Staging);
    let dns = Machine::join(&fleet, "ns1", MachineRole::Dns).await;
    assert_eq!(dns.watch(0).await.dns_state().await.sites[0].lagging, [again.name()]);
}

#[tokio::test]
async fn with_no_edge_ready_a_release_waits_past_its_deadline() {
    let fleet = Fleet::start_with(|config| config.sites.stage_deadline_ms = 1, Clock::system());
    let fleet = fleet.await;
    fleet.create_site("docs").await;
    let edge = Machine::join(&fleet, "fra1", MachineRole::Edge).await;
    let mut watch = edge.watch(0).await;
    let state = watch.edge_state().await;
    edge.report_sites(state.revision, Vec::new()).await;
    let pushed = fleet.push("docs", &[("index.html", "one")]).await;
    let staging = watch.edge_state_with(|state| !state.sites[0].releases.is_empty()).await;

    let failing = SiteReport {
        site: "docs".parse().unwrap(),
        staged: Vec::new(),
        active: None,
        failed: vec![nigh_proto::report::StageFailure {
            release: pushed.id.clone(),
            reason: "the disk is full".to_owned(),
        }],
        missing_blobs: 1,
    };
    edge.report_sites(staging.revision, vec![failing]).await;
    let view = fleet.follow(&pushed, |view| view.edges[0].reason.is_some()).await;
    assert_eq!(view.edges[0].reason.as_deref(), Some("the disk is full"));
    assert_eq!(view.state, ReleaseState::Staging);
    let status: nigh_proto::api::StatusView = fleet.get("/v1/status").await;
    assert!(status.warnings.iter().any(|warning| warning.contains("no edge has staged")));
    edge.report(&staging).await;
    fleet.until_active(&pushed).await;
}

#[tokio::test]
async fn machines_are_listed_drained_and_taken_back() {
    let fleet = Fleet::start().await;
    let edge = Machine::join(&fleet, "fra1", MachineRole::Edge).await;
    let dns = Machine::join(&fleet, "ns1", MachineRole::Dns).await;
    let mut watch = edge.watch(0).await;
    edge.report(&watch.edge_state().await).await;
    let edges: Page<MachineView> = fleet.get("/v1/machines?role=edge").await;
    assert_eq!(edges.items.len(), 1);
    assert!(edges.items[0].is_connected && edges.items[0].is_current);
    for (verb, is_drained) in [("drain", true), ("undrain", false)] {
        let path = format!("/v1/machines/fra1/{verb}");
        let view = fleet.request(Method::POST, &path).send().await.unwrap();
        let view: MachineView = expect(StatusCode::OK, view).await;
        assert_eq!(view.is_drained, is_drained);
        let state = dns.watch(0).await.dns_state().await;
        assert_eq!(state.edges[0].is_drained, is_drained);
    }
}

#[tokio::test]
async fn streams_end_when_control_stops() {
    let fleet = Fleet::start().await;
    let edge = Machine::join(&fleet, "fra1", MachineRole::Edge).await;
    let mut watch = edge.watch(0).await;
    watch.edge_state().await;
    let Fleet { server, dir: _dir, .. } = fleet;
    let stopped = tokio::time::timeout(Duration::from_secs(10), server.stop());
    let ended = async { while watch.frame().await.is_some() {} };
    let (stopped, ()) = tokio::join!(stopped, ended);
    stopped.expect("nothing holds control up");
}
