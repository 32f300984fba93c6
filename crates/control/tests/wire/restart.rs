//! What does a restarted control still know?

use nigh_control::{ControlConfig, config::CertificateMode};
use nigh_daemon::{Clock, Role};
use nigh_proto::{
    Digest,
    api::{Page, ReleaseState, ReleaseView, SiteView},
    report::MachineRole,
};
use reqwest::{Method, StatusCode};

use crate::{fleet::Fleet, fleet_machine::Machine};

#[tokio::test]
async fn sites_releases_machines_and_tokens_survive() {
    let fleet = Fleet::start().await;
    fleet.create_site("docs").await;
    let mut edge = Machine::join(&fleet, "fra1", MachineRole::Edge).await;
    let mut watch = edge.watch(0).await;
    edge.report(&watch.edge_state().await).await;
    let pushed = fleet.push("docs", &[("index.html", "one")]).await;
    let staging = watch.edge_state_with(|state| !state.sites[0].releases.is_empty()).await;
    edge.report(&staging).await;
    let active = watch.edge_state_with(|state| state.sites[0].active.is_some()).await;
    drop(watch);

    let fleet = fleet.restart().await;
    let site: SiteView = fleet.get("/v1/sites/docs").await;
    assert_eq!(site.active, Some(pushed.id));
    edge.url = fleet.machines.clone();
    // What it has already, it is not told again: a restart alone raises no revision.
    let state = edge.watch(0).await.edge_state().await;
    assert!(state.revision >= active.revision, "revisions never fall");
    assert_eq!(state.sites, active.sites);
    assert_eq!(state.certificates, active.certificates);
}

#[tokio::test]
async fn a_push_that_was_cut_short_goes_on_where_it_was() {
    let fleet = Fleet::start().await;
    fleet.create_site("docs").await;
    let large = "0123456789".repeat(200_000);
    let files = [("index.html", "one"), ("large.txt", &large)];
    let begun = fleet.begin("docs", &files).await;
    fleet.upload(&["one"]).await;
    let digest = Digest::of(large.as_bytes());
    let path = format!("/v1/blobs/{digest}");
    let part = fleet
        .request(Method::PUT, &path)
        .header("upload-length", large.len())
        .body(large[..1_500_000].to_owned());
    assert_eq!(part.send().await.unwrap().status(), StatusCode::ACCEPTED);

    let fleet = fleet.restart().await;
    let head = fleet.request(Method::HEAD, &path).send().await.unwrap();
    assert_eq!(head.headers()["upload-offset"], "1500000");
    let rest = fleet
        .request(Method::PUT, &path)
        .header("upload-length", large.len())
        .header("upload-offset", 1_500_000)
        .body(large[1_500_000..].to_owned());
    assert_eq!(rest.send().await.unwrap().status(), StatusCode::CREATED);
    let finalized = fleet.finalize("docs", &begun).await;
    assert_eq!(finalized.status(), StatusCode::ACCEPTED);
    let list: Page<ReleaseView> = fleet.get("/v1/sites/docs/releases").await;
    fleet.follow(&list.items[0], |view| view.state == ReleaseState::Active).await;
}

#[tokio::test]
async fn a_blob_that_control_has_lost_is_asked_for_again() {
    let fleet = Fleet::start().await;
    fleet.create_site("docs").await;
    let files = [("index.html", "one")];
    let pushed = fleet.push("docs", &files).await;
    fleet.until_active(&pushed).await;
    let Fleet { dir, database, server, .. } = fleet;
    server.stop().await;
    for pack in std::fs::read_dir(dir.path().join("state/blobs/packs")).unwrap() {
        std::fs::remove_file(pack.unwrap().path()).unwrap();
    }
    let fleet = Fleet::start_in(dir, database, |_| {}, Clock::system()).await;
    let begun = fleet.begin("docs", &files).await;
    assert_eq!(begun.missing, [Digest::of(b"one")]);
}

#[tokio::test]
async fn sites_have_certificates_as_the_configuration_says_now() {
    let without = |config: &mut ControlConfig| config.certificates.mode = CertificateMode::None;
    let fleet = Fleet::start_with(without, Clock::system()).await;
    fleet.create_site("docs").await;
    let fleet = fleet.restart().await;
    let mut edge = Machine::join(&fleet, "fra1", MachineRole::Edge).await;
    let state = edge.watch(0).await.edge_state().await;
    let name = "docs.nigh.test".parse().unwrap();
    assert!(state.certificates.iter().any(|certificate| certificate.names.contains(&name)));
    let Fleet { dir, database, server, .. } = fleet;
    server.stop().await;
    let fleet = Fleet::start_in(dir, database, without, Clock::system()).await;
    edge.url = fleet.machines.clone();
    assert_eq!(edge.watch(0).await.edge_state().await.certificates, []);
}

#[tokio::test]
async fn two_controls_never_work_in_one_folder() {
    let fleet = Fleet::start().await;
    let config = crate::fleet::config(fleet.dir.path().join("state"));
    let context = nigh_daemon::Context::new("control", "0.0.0");
    let second = nigh_control::ControlServer::start(config, context).await;
    assert!(matches!(second, Err(nigh_control::StartError::State(_))), "{second:?}");
    fleet.server.stop().await;
}
