//! What control does on its own: variants and collection.

use std::time::Duration;

use nigh_daemon::{Clock, clock::Hand};
use nigh_proto::{
    Digest,
    api::StatusView,
    report::MachineRole,
    variants::{ContentCoding, VariantIndex},
};
use reqwest::{Method, StatusCode};

use crate::{fleet::Fleet, fleet_machine::Machine};

#[tokio::test]
async fn variants_come_after_the_release_is_live_and_edges_are_told() {
    let (clock, hand): (Clock, Hand) = Clock::manual(std::time::SystemTime::now());
    let fleet = Fleet::start_with(|config| config.variants.enabled = true, clock).await;
    fleet.create_site("docs").await;
    let edge = Machine::join(&fleet, "fra1", MachineRole::Edge).await;
    let mut watch = edge.watch(0).await;
    edge.report(&watch.edge_state().await).await;
    let page = "<p>the same words again and again</p>".repeat(50);
    fleet.push("docs", &[("index.html", &page), ("b.html", &page), ("tiny.css", "a{}")]).await;
    let staging = watch.edge_state_with(|state| !state.sites[0].releases.is_empty()).await;
    assert_eq!(staging.sites[0].releases[0].variants, None);
    edge.report(&staging).await;
    watch.edge_state_with(|state| state.sites[0].active.is_some()).await;

    hand.advance(Duration::from_secs(6));
    let with = watch.edge_state_with(|state| state.sites[0].releases[0].variants.is_some()).await;
    let digest = with.sites[0].releases[0].variants.unwrap();
    let fetch = |digest: Digest| {
        let url = format!("{}/machine/v1/blobs/{digest}", edge.url);
        async { edge.http.get(url).send().await.unwrap().bytes().await.unwrap() }
    };
    let index = VariantIndex::parse(&fetch(digest).await).unwrap();
    let codings: Vec<_> = index.variants().iter().map(|variant| variant.coding).collect();
    assert_eq!(codings, ContentCoding::ALL, "one content, once in each coding");
    for variant in index.variants() {
        assert_eq!(variant.of, Digest::of(page.as_bytes()));
        assert_eq!(Digest::of(&fetch(variant.digest).await), variant.digest);
    }
}

#[tokio::test]
async fn blobs_of_deleted_releases_are_collected_and_no_others() {
    let often = |config: &mut nigh_control::ControlConfig| {
        config.blobs.collect_interval_ms = 20;
        config.blobs.collect_young_ms = 0;
        // They would be counted too, as soon as nobody has pushed for a while.
        config.variants.enabled = false;
    };
    let fleet = Fleet::start_with(often, Clock::system()).await;
    fleet.create_site("docs").await;
    let one = fleet.push("docs", &[("a.html", "kept"), ("b.html", "dropped")]).await;
    fleet.until_active(&one).await;
    let two = fleet.push("docs", &[("a.html", "kept"), ("b.html", "new")]).await;
    fleet.until_active(&two).await;
    let uploading = fleet.begin("docs", &[("c.html", "on its way")]).await;
    fleet.upload(&["on its way"]).await;
    let path = format!("/v1/sites/docs/releases/{}", one.id);
    let gone = fleet.request(Method::DELETE, &path).send().await.unwrap();
    assert_eq!(gone.status(), StatusCode::NO_CONTENT);

    // Asking for the blob itself would keep it. Two contents, two documents for each of two
    // releases (their rules are one), and what is on its way with a manifest of its own.
    let mut blobs_total = None;
    let emptied = async {
        while blobs_total != Some(6) {
            let status: StatusView = fleet.get("/v1/status").await;
            blobs_total = Some(status.blobs_total);
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(20), emptied).await;
    assert!(in_time.is_ok(), "a blob is collected, {blobs_total:?} are left");
    let finalized = fleet.finalize("docs", &uploading).await;
    assert_eq!(finalized.status(), StatusCode::ACCEPTED, "nothing of an upload is taken");
    let back = fleet.begin("docs", &[("a.html", "kept"), ("b.html", "dropped")]).await;
    assert_eq!(back.missing, [Digest::of(b"dropped")]);
}
