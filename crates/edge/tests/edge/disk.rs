//! The disk: starting from it, filling it, losing bytes of it.

use nigh_daemon::Role;
use nigh_proto::Digest;

use crate::fixture::{Blobs, Fixture, Release, context, noise};

#[tokio::test]
async fn an_edge_starts_from_its_own_disk_with_nobody_else_alive() {
    let fixture = Fixture::serving(Release::new(1).file("index.html", "still here"));
    fixture.start().await.stop().await;
    let edge = fixture.start_with(Blobs::default(), context()).await;
    // The very first request: nothing is waited for.
    assert_eq!(edge.get("/", &[]).await.text(), "still here");
    edge.stop().await;
}

#[tokio::test]
async fn a_release_is_served_when_all_of_it_has_come() {
    let large = noise(5 << 20);
    let mut release = Release::new(1).file("index.html", "hello").file("large.bin", large.clone());
    for number in 0..300 {
        release = release.file(&format!("pages/{number}.html"), format!("page {number}"));
    }
    let fixture = Fixture::serving(release);
    fixture.write_state();
    let edge = fixture.start_with(fixture.blobs.clone(), context()).await;
    let reply = edge.get_until("/", |reply| reply.status == 200).await;
    assert_eq!(reply.text(), "hello");
    assert_eq!(edge.get("/pages/299", &[]).await.text(), "page 299");
    assert!(edge.get("/large.bin", &[]).await.body == large);
    edge.stop().await;
}

#[tokio::test]
async fn a_release_that_is_not_whole_is_not_served_and_the_one_before_is() {
    let old = Release::new(1).file("index.html", "old");
    let mut fixture = Fixture::serving(old);
    fixture.start().await.stop().await;
    let new = Release::new(2).file("index.html", "new").file("more.txt", "more");
    let until = nigh_proto::Timestamp::from_unix_ms(4_000_000_000_000);
    fixture.supersede(until);
    fixture.activate(&new);
    fixture.write_state();
    // Control has everything of the new release but one file.
    let source = fixture.blobs.clone();
    source.0.lock().unwrap().remove(&Digest::of(b"more"));
    let edge = fixture.start_with(source.clone(), context()).await;
    assert_eq!(edge.get("/", &[]).await.text(), "old");
    assert_eq!(edge.get("/more.txt", &[]).await.status, 404);
    source.add("more");
    edge.get_until("/", |reply| reply.text() == "new").await;
    assert_eq!(edge.get("/more.txt", &[]).await.text(), "more");
    edge.stop().await;
}

/// Damages every byte of every stored body, and no head.
fn damage(fixture: &Fixture) {
    let packs = fixture.state_dir().join("blobs/packs");
    for entry in std::fs::read_dir(packs).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let head = nigh_proto::pack::PackHead::parse(&bytes).unwrap();
        let start = nigh_proto::pack::PackHead::head_bytes(head.blobs.len());
        for byte in &mut bytes[start..] {
            *byte ^= 0x55;
        }
        std::fs::write(&path, bytes).unwrap();
    }
}

#[tokio::test]
async fn damaged_blobs_are_fetched_again_while_the_visitor_waits() {
    let page = "a page that matters ".repeat(50);
    let fixture = Fixture::serving(Release::new(1).file("index.html", page.clone()));
    fixture.write();
    let edge = fixture.start_with(fixture.blobs.clone(), context()).await;
    // Loaded, but no file was read yet.
    damage(&fixture);
    let reply = edge.get("/", &[]).await;
    assert_eq!((reply.status, reply.text()), (200, page.clone()));
    let page_of_metrics = edge.context.metrics.encode().unwrap();
    assert!(page_of_metrics.contains("nigh_edge_blobs_healed_total 1\n"), "{page_of_metrics}");
    edge.stop().await;

    // What was healed is whole on disk too.
    let store = nigh_core::blob::Store::open(&fixture.state_dir().join("blobs")).unwrap();
    assert_eq!(store.read(&Digest::of(page.as_bytes())).unwrap(), page.as_bytes());
}

#[tokio::test]
async fn a_damaged_blob_without_control_is_an_honest_503_and_others_are_served() {
    let fixture = Fixture::serving(
        Release::new(1).file("index.html", "damaged soon").file("other.html", "in memory"),
    );
    fixture.write();
    let edge = fixture.start_with(Blobs::default(), context()).await;
    assert_eq!(edge.get("/other", &[]).await.text(), "in memory");
    damage(&fixture);
    let reply = edge.get("/", &[]).await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, "1"));
    assert_eq!(edge.get("/other", &[]).await.text(), "in memory");
    edge.stop().await;
}

#[tokio::test]
async fn the_scrub_finds_damage_that_no_visitor_has_met() {
    let mut fixture = Fixture::serving(Release::new(1).file("index.html", "quiet"));
    fixture.more = serde_json::json!({
        "storage": { "scrub_after_ms": 1, "scrub_every_ms": 1, "scrub_bytes_per_s": 1 << 30 },
    });
    fixture.write();
    let edge = fixture.start_with(fixture.blobs.clone(), context()).await;
    damage(&fixture);
    // The page, the manifest and the rules.
    edge.metric("nigh_edge_blobs_healed_total 3\n").await;
    assert_eq!(edge.get("/", &[]).await.text(), "quiet");
    edge.stop().await;
}

#[tokio::test]
async fn what_no_release_needs_is_collected_and_the_rest_stays() {
    let live = noise((2 << 20) + 1);
    let release = Release::new(1).file("index.html", "needed").file("large.bin", live.clone());
    let mut fixture = Fixture::serving(release);
    let garbage = fixture.blobs.add(noise(2 << 20));
    let packed_garbage = fixture.blobs.add("small and of no use");
    fixture.more = serde_json::json!({
        "storage": { "collect_every_ms": 1, "collect_young_ms": 0, "scrub_bytes_per_s": 0 },
    });
    fixture.write();
    let file = |digest: &Digest| {
        let text = digest.to_string();
        fixture.state_dir().join("blobs/loose").join(&text[..2]).join(&text)
    };
    assert!(file(&garbage).exists() && file(&Digest::of(&live)).exists());
    let edge = fixture.start_with(Blobs::default(), context()).await;
    let end = std::time::Instant::now() + crate::fixture::DEADLINE;
    while file(&garbage).exists() {
        assert!(std::time::Instant::now() < end, "{} is still there", file(&garbage).display());
        assert_eq!(edge.get("/", &[]).await.text(), "needed");
    }
    edge.stop().await;

    let store = nigh_core::blob::Store::open(&fixture.state_dir().join("blobs")).unwrap();
    let is_garbage = |digest: &Digest| [garbage, packed_garbage].contains(digest);
    for bytes in fixture.blobs.all() {
        let digest = Digest::of(&bytes);
        assert_eq!(store.verify(&digest), !is_garbage(&digest), "{digest}");
    }
    drop(store);
    let edge = fixture.start_with(Blobs::default(), context()).await;
    assert_eq!(edge.get("/", &[]).await.text(), "needed");
    assert!(edge.get("/large.bin", &[]).await.body == live);
    edge.stop().await;
}

#[tokio::test]
async fn two_edges_never_share_a_folder() {
    let fixture = Fixture::serving(Release::new(1).file("index.html", "mine"));
    let edge = fixture.start().await;
    let config = fixture.config_for_tests();
    let refused = nigh_edge::EdgeServer::start(config, context()).await.unwrap_err();
    assert!(refused.to_string().contains("in use by another nigh process"), "{refused}");
    edge.stop().await;
}
