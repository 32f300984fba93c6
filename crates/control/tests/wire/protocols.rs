//! What becomes of a machine that speaks something older or newer than control?

use nigh_proto::{
    Protocols,
    api::{MachineView, StatusView},
    protocol::PROTOCOL,
    report::MachineRole,
};
use reqwest::StatusCode;

use crate::{
    fleet::{Fleet, expect, refused},
    fleet_machine::{Machine, about, join, join_token},
};

/// Asks to watch as a machine that names these protocols.
async fn watch(machine: &Machine, named: &str) -> reqwest::Response {
    let url = format!("{}/machine/v1/watch", machine.url);
    machine.http.get(url).header(PROTOCOL, named).send().await.unwrap()
}

async fn status(fleet: &Fleet) -> StatusView {
    fleet.get("/v1/status").await
}

#[tokio::test]
async fn control_names_what_it_speaks_and_lets_in_who_speaks_the_last_protocol() {
    let fleet = Fleet::start().await;
    let machine = Machine::join(&fleet, "fra1", MachineRole::Edge).await;
    for named in ["1-1", "1-2", "2-3"] {
        let watching = watch(&machine, named).await;
        assert_eq!(watching.status(), StatusCode::OK, "{named}");
        let here = watching.headers()[PROTOCOL].to_str().unwrap().to_owned();
        assert_eq!(here, Protocols::HERE.to_string());
    }
    machine.watch(0).await.edge_state().await;
    let strange = watch(&machine, "newest").await;
    assert_eq!(refused(StatusCode::BAD_REQUEST, strange).await, "header_invalid");
}

#[tokio::test]
async fn who_speaks_another_protocol_is_turned_away_in_words_and_named_to_people() {
    let fleet = Fleet::start().await;
    let machine = Machine::join(&fleet, "fra1", MachineRole::Edge).await;
    Machine::join(&fleet, "fra2", MachineRole::Edge).await;
    let turned_away = watch(&machine, "8-9").await;
    assert!(turned_away.headers().contains_key(PROTOCOL), "refusals name it too");
    assert_eq!(refused(StatusCode::CONFLICT, turned_away).await, "protocol_mismatch");

    let view: MachineView = fleet.get("/v1/machines/fra1").await;
    let why = view.turned_away.expect("control says why");
    assert!(why.contains("protocols 8-9 and control 1-2: upgrade control first"), "{why}");
    let status_now = status(&fleet).await;
    let named: Vec<_> =
        status_now.warnings.iter().filter(|warning| warning.contains("protocol")).collect();
    assert_eq!(named, [&format!("edge fra1 is turned away: {why}")]);

    // After its upgrade it is one of the fleet as before.
    assert_eq!(watch(&machine, "1-2").await.status(), StatusCode::OK);
    let view: MachineView = fleet.get("/v1/machines/fra1").await;
    assert_eq!((view.turned_away, view.protocol), (None, Protocols::HERE.newest()));
}

#[tokio::test]
async fn a_join_that_is_turned_away_leaves_the_token_good() {
    let fleet = Fleet::start().await;
    let token = join_token(&fleet, "fra1", MachineRole::Edge).await;
    let url = format!("{}/machine/v1/join", fleet.machines);
    let early = fleet.http.post(url).header(PROTOCOL, "8-9").body(token.clone()).send().await;
    assert_eq!(refused(StatusCode::CONFLICT, early.unwrap()).await, "protocol_mismatch");
    let (joined, _) = join(&fleet, &about("fra1", MachineRole::Edge), &token).await;
    let _: serde_json::Value = expect(StatusCode::OK, joined).await;
}

#[tokio::test]
async fn people_hear_who_is_to_be_upgraded_before_control_is_again() {
    let fleet = Fleet::start().await;
    let mut old = about("ns1", MachineRole::Dns);
    old.protocols = Protocols::UNNAMED;
    let token = join_token(&fleet, "ns1", MachineRole::Dns).await;
    let (joined, _) = join(&fleet, &old, &token).await;
    let _: serde_json::Value = expect(StatusCode::OK, joined).await;
    let told = status(&fleet).await.warnings.join("\n");
    assert!(told.contains("not yet at protocol 2: ns1; upgrade them before"), "{told}");
}
