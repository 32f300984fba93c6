//! Machines that hold what this control does not know.

use nigh_proto::{
    FleetId, Timestamp,
    api::{TakenOver, TakeoverView},
    refill::ReportAnswer,
    report::{Credentials, Health, MachineRole, Report},
    state::{EdgeState, Holding, MachineState, Revision},
    watch::Frame,
};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::{
    fleet::{Fleet, expect, refused},
    fleet_machine::Machine,
};

fn foreign() -> FleetId {
    FleetId::new(7, [7; 10])
}

/// A state with one site, as an edge called `machine` got it from another control.
fn state(machine: &str, revision: u64) -> Value {
    let release = nigh_proto::ReleaseId::new(revision, [1; 10]);
    let digest = nigh_proto::Digest::of(b"manifest");
    json!({
        "role": "edge", "revision": revision, "fleet": foreign(), "machine": machine, "region": "eu",
        "sites": [{
            "name": "docs", "hosts": ["docs.nigh.test"], "https_redirect": false, "active": release,
            "previews": [],
            "releases": [{
                "id": release, "manifest": digest, "rules": digest, "variants": null,
                "created_at": "2026-01-01T00:00:00Z", "purpose": {"kind": "serve"},
            }],
        }],
        "certificates": [],
    })
}

async fn report(machine: &Machine, revision: u64) -> ReportAnswer {
    let holding =
        Holding { fleet: Some(foreign()), revision: Revision(revision), sites: 1, zones: 0 };
    let report = Report {
        about: machine.about.clone(),
        revision: Some(Revision(revision)),
        sites: Vec::new(),
        certificates: Vec::new(),
        health: Health::default(),
        sent_at: Timestamp::from(std::time::SystemTime::now()),
        credentials: Credentials::default(),
        holding: Some(holding),
        sequel: Default::default(),
    };
    let url = format!("{}/machine/v1/report", machine.url);
    let response = machine.http.post(url).json(&report).send().await.unwrap();
    match response.status() {
        StatusCode::NO_CONTENT => ReportAnswer::default(),
        _ => expect(StatusCode::OK, response).await,
    }
}

async fn offer(machine: &Machine, state: &Value) -> Response {
    let url = format!("{}/machine/v1/state", machine.url);
    machine.http.put(url).json(state).send().await.unwrap()
}

async fn watch(machine: &Machine, since: u64) -> crate::fleet_machine::Watch {
    machine.watch_with(&format!("since={since}&fleet={}&sites=1", foreign())).await
}

#[tokio::test]
async fn a_machine_with_sites_of_another_fleet_is_told_nothing_until_they_are_taken_over() {
    let fleet = Fleet::start().await;
    let edge = Machine::join(&fleet, "fra1", MachineRole::Edge).await;
    let mut stream = watch(&edge, 1000).await;
    fleet.create_site("other").await;
    assert!(matches!(stream.frame().await, Some(Frame::Heartbeat { .. })));

    assert!(report(&edge, 1000).await.wants_state);
    assert!(!report(&edge, 1000).await.wants_state, "it was asked a moment ago");
    let early = fleet.post("/v1/takeover", &json!({})).await;
    assert_eq!(refused(StatusCode::CONFLICT, early).await, "takeover_early");
    let view: TakeoverView = fleet.get("/v1/takeover").await;
    assert_eq!(view.waiting_for, [edge.name()]);
    assert_eq!(offer(&edge, &state("fra1", 1000)).await.status(), StatusCode::NO_CONTENT);
    let view: TakeoverView = fleet.get("/v1/takeover").await;
    assert!(view.waiting_for.is_empty() && view.machines[0].is_chosen, "{view:?}");
    assert_eq!(view.plan.unwrap().sites.len(), 1);

    let taken: TakenOver =
        expect(StatusCode::OK, fleet.post("/v1/takeover", &json!({})).await).await;
    assert_eq!(taken.from[0].name, edge.name());
    let told: EdgeState = stream.edge_state().await;
    assert!(told.revision.0 > 1000 && told.revision.0 >= taken.revision);
    assert_ne!(told.fleet, Some(foreign()));
    let docs = told.sites.iter().find(|site| site.name.as_str() == "docs").unwrap();
    let MachineState::Edge(before) = serde_json::from_value(state("fra1", 1000)).unwrap() else {
        panic!()
    };
    assert_eq!(docs.active, before.sites[0].active, "it serves on what it serves");
    assert_eq!(docs.releases[0].manifest, before.sites[0].releases[0].manifest);

    let again: TakenOver =
        expect(StatusCode::OK, fleet.post("/v1/takeover", &json!({})).await).await;
    assert!(again.from.is_empty() && again.plan.sites.is_empty());
    // An older machine of the lost fleet that comes late is one of this fleet at once.
    let late = Machine::join(&fleet, "nyc1", MachineRole::Edge).await;
    let told = watch(&late, 900).await.edge_state().await;
    assert_eq!(told.sites.len(), 2);
}

#[tokio::test]
async fn the_newest_of_several_states_counts_and_what_is_dropped_is_told_over() {
    let fleet = Fleet::start().await;
    let mut streams = Vec::new();
    for (name, revision) in [("fra1", 500), ("nyc1", 700)] {
        let edge = Machine::join(&fleet, name, MachineRole::Edge).await;
        streams.push(watch(&edge, revision).await);
        assert!(report(&edge, revision).await.wants_state);
        assert_eq!(offer(&edge, &state(name, revision)).await.status(), StatusCode::NO_CONTENT);
    }
    let view: TakeoverView = fleet.get("/v1/takeover").await;
    let chosen: Vec<_> =
        view.machines.iter().map(|one| (one.name.as_str(), one.is_chosen)).collect();
    assert_eq!(chosen, [("fra1", false), ("nyc1", true)]);
    let dropped = fleet.request(Method::DELETE, "/v1/takeover").send().await.unwrap();
    let dropped: TakeoverView = expect(StatusCode::OK, dropped).await;
    assert_eq!(dropped.machines.len(), 2);
    for stream in &mut streams {
        assert!(stream.edge_state().await.sites.is_empty());
    }
}

#[tokio::test]
async fn nonsense_that_a_machine_tells_is_refused_and_changes_nothing() {
    let fleet = Fleet::start().await;
    let edge = Machine::join(&fleet, "fra1", MachineRole::Edge).await;
    let unasked = offer(&edge, &state("fra1", 1000)).await;
    assert_eq!(refused(StatusCode::CONFLICT, unasked).await, "not_wanted");
    let _stream = watch(&edge, 1000).await;
    assert!(report(&edge, 1000).await.wants_state);
    let mut twice = state("fra1", 1000);
    let site = twice["sites"][0].clone();
    twice["sites"].as_array_mut().unwrap().push(site);
    let mut host = state("fra1", 1000);
    host["sites"][0]["hosts"][0] = json!("no host");
    for (status, code, bad) in [
        (StatusCode::BAD_REQUEST, "body_invalid", json!({})),
        (StatusCode::BAD_REQUEST, "body_invalid", json!([1, 2])),
        (StatusCode::BAD_REQUEST, "body_invalid", host),
        (StatusCode::UNPROCESSABLE_ENTITY, "state_invalid", twice),
        (StatusCode::UNPROCESSABLE_ENTITY, "state_invalid", state("nyc1", 1000)),
        (StatusCode::UNPROCESSABLE_ENTITY, "state_invalid", state("fra1", 1 << 60)),
    ] {
        assert_eq!(refused(status, offer(&edge, &bad).await).await, code, "{bad}");
    }
    let deep = format!("{}{}", "{\"a\":".repeat(100_000), "1");
    let url = format!("{}/machine/v1/state", edge.url);
    let deep = edge.http.put(url).header("content-type", "application/json").body(deep);
    assert_eq!(refused(StatusCode::BAD_REQUEST, deep.send().await.unwrap()).await, "body_invalid");
    let view: TakeoverView = fleet.get("/v1/takeover").await;
    assert!(view.plan.is_none() && view.machines.len() == 1);
    // It may still do better.
    assert_eq!(offer(&edge, &state("fra1", 1000)).await.status(), StatusCode::NO_CONTENT);
}
