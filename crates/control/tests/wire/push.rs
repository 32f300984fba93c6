//! From a folder to every edge.

use nigh_daemon::Clock;
use nigh_proto::{
    Digest, Manifest,
    api::{
        EdgeReleaseState, NewPreview, Page, Pruned, ReleaseBegun, ReleaseState, ReleaseView,
        SiteView,
    },
    report::MachineRole,
    state::ReleasePurpose,
};
use reqwest::{Method, StatusCode};

use crate::{
    fleet::{Fleet, expect, pack_of, refused, release_of},
    fleet_machine::Machine,
};

#[tokio::test]
async fn a_push_is_staged_then_activated_on_every_edge() {
    let fleet = Fleet::start().await;
    fleet.create_site("docs").await;
    let edge = Machine::join(&fleet, "fra1", MachineRole::Edge).await;
    let mut watch = edge.watch(0).await;
    let state = watch.edge_state().await;
    edge.report(&state).await;

    let pushed = fleet.push("docs", &[("index.html", "<h1>one</h1>"), ("a.css", "a{}")]).await;
    assert_eq!(pushed.state, ReleaseState::Staging);

    let staging = watch.edge_state_with(|state| !state.sites[0].releases.is_empty()).await;
    assert_eq!(staging.sites[0].active, None, "not before it was staged");
    assert_eq!(staging.sites[0].releases[0].purpose, ReleasePurpose::Serve);
    edge.report(&staging).await;

    let active = watch.edge_state_with(|state| state.sites[0].active.is_some()).await;
    assert!(active.revision > staging.revision);
    edge.report(&active).await;

    let is_shown = |view: &ReleaseView| view.edges[0].state == EdgeReleaseState::Active;
    let view = fleet.follow(&pushed, is_shown).await;
    assert_eq!(view.state, ReleaseState::Active);
    assert!(view.edges[0].ms.is_some() && view.activated_at.is_some());
    assert_eq!(view.url.as_deref(), Some("https://docs.nigh.test/"));
    let site: SiteView = fleet.get("/v1/sites/docs").await;
    assert_eq!(site.active, Some(view.id));
}

#[tokio::test]
async fn an_edge_gets_the_blobs_that_it_is_told_to_hold() {
    let fleet = Fleet::start().await;
    fleet.create_site("docs").await;
    let edge = Machine::join(&fleet, "fra1", MachineRole::Edge).await;
    let large = "large ".repeat(300_000);
    let begun = fleet.begin("docs", &[("index.html", "small"), ("large.txt", &large)]).await;
    assert_eq!(fleet.upload(&["small"]).await.status(), StatusCode::OK);
    let digest = Digest::of(large.as_bytes());

    // The large one in two parts, the second of which begins where control says.
    let path = format!("/v1/blobs/{digest}");
    let part = |offset: usize, body: &str| {
        fleet
            .request(Method::PUT, &path)
            .header("upload-length", large.len())
            .header("upload-offset", offset)
            .body(body.to_owned())
            .send()
    };
    let first = part(0, &large[..1_000_000]).await.unwrap();
    assert_eq!(first.status(), StatusCode::ACCEPTED);
    let wrong = part(5, "x").await.unwrap();
    assert_eq!(wrong.headers()["upload-offset"], "1000000");
    assert_eq!(refused(StatusCode::CONFLICT, wrong).await, "upload_offset");
    let head = fleet.request(Method::HEAD, &path).send().await.unwrap();
    assert_eq!(head.status(), StatusCode::NOT_FOUND);
    assert_eq!(head.headers()["upload-offset"], "1000000");
    assert_eq!(part(1_000_000, &large[1_000_000..]).await.unwrap().status(), StatusCode::CREATED);
    let head = fleet.request(Method::HEAD, &path).send().await.unwrap();
    assert_eq!(head.status(), StatusCode::OK);
    let finalized = fleet.finalize("docs", &begun).await;
    assert_eq!(finalized.status(), StatusCode::ACCEPTED);

    let wanted = [Digest::of(b"small"), Digest::of(b"unknown"), digest];
    let body = serde_json::json!({ "digests": wanted });
    let url = format!("{}/machine/v1/packs", edge.url);
    let pack = edge.http.post(url).json(&body).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(pack, pack_of(&["small"]), "what is missing or large is not in it");

    let url = format!("{}/machine/v1/blobs/{digest}", edge.url);
    let rest = edge.http.get(&url).header("range", "bytes=1800-").send().await.unwrap();
    assert_eq!(rest.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(rest.text().await.unwrap(), large[1800..]);
    let whole = edge.http.get(&url).send().await.unwrap();
    assert_eq!(whole.text().await.unwrap(), large);
}

#[tokio::test]
async fn with_no_edge_a_release_goes_live_at_once() {
    let fleet = Fleet::start().await;
    fleet.create_site("docs").await;
    let pushed = fleet.push("docs", &[("index.html", "one")]).await;
    fleet.until_active(&pushed).await;
}

#[tokio::test]
async fn a_push_that_changes_nothing_is_told_so() {
    let fleet = Fleet::start().await;
    fleet.create_site("docs").await;
    let files = [("index.html", "one")];
    let pushed = fleet.push("docs", &files).await;
    fleet.until_active(&pushed).await;
    let again = fleet.post("/v1/sites/docs/releases", &release_of(&files)).await;
    let again: ReleaseBegun = expect(StatusCode::OK, again).await;
    assert_eq!((again.release.id, again.missing), (pushed.id, vec![]));
}

#[tokio::test]
async fn only_changed_blobs_are_missing_in_the_next_push() {
    let fleet = Fleet::start().await;
    fleet.create_site("docs").await;
    let pushed = fleet.push("docs", &[("a.html", "one"), ("b.html", "two")]).await;
    fleet.until_active(&pushed).await;
    let begun = fleet.begin("docs", &[("a.html", "one"), ("b.html", "three")]).await;
    assert_eq!(begun.missing, [Digest::of(b"three")]);
}

#[tokio::test]
async fn rollback_goes_back_and_forth_without_moving_bytes() {
    let fleet = Fleet::start().await;
    fleet.create_site("docs").await;
    let nothing = fleet.post("/v1/sites/docs/rollback", &serde_json::json!({})).await;
    assert_eq!(refused(StatusCode::CONFLICT, nothing).await, "nothing_to_roll_back");
    Machine::join(&fleet, "fra1", MachineRole::Edge).await.obey();

    let one = fleet.push("docs", &[("index.html", "one")]).await;
    fleet.until_active(&one).await;
    let two = fleet.push("docs", &[("index.html", "two")]).await;
    fleet.until_active(&two).await;
    for expected in [&one.id, &two.id] {
        let back = fleet.request(Method::POST, "/v1/sites/docs/rollback").send().await.unwrap();
        let back: ReleaseView = expect(StatusCode::OK, back).await;
        assert_eq!((back.state, &back.id), (ReleaseState::Active, expected), "at once");
    }
    let list: Page<ReleaseView> = fleet.get("/v1/sites/docs/releases").await;
    let states: Vec<_> = list.items.iter().map(|release| release.state).collect();
    assert_eq!(states, [ReleaseState::Active, ReleaseState::Superseded]);
}

#[tokio::test]
async fn of_two_pushes_the_later_finalize_wins_and_the_other_is_told() {
    let fleet = Fleet::start().await;
    fleet.create_site("docs").await;
    let edge = Machine::join(&fleet, "fra1", MachineRole::Edge).await;
    let mut watch = edge.watch(0).await;
    edge.report(&watch.edge_state().await).await;

    let one = fleet.push("docs", &[("index.html", "one")]).await;
    let two = fleet.push("docs", &[("index.html", "two")]).await;
    let one = fleet.follow(&one, |view| view.state == ReleaseState::Expired).await;
    assert!(one.failure.unwrap().contains(two.id.as_str()));
    let staging = watch
        .edge_state_with(|state| state.sites[0].releases.iter().any(|held| held.id == two.id))
        .await;
    edge.report(&staging).await;
    fleet.until_active(&two).await;
}

#[tokio::test]
async fn a_preview_has_a_host_of_its_own_until_it_expires() {
    let (clock, hand) = Clock::manual(std::time::SystemTime::now());
    let fleet = Fleet::start_with(|_| {}, clock).await;
    fleet.create_site("docs").await;
    let mut new = release_of(&[("index.html", "new")]);
    let name = Some("new".parse().unwrap());
    new.preview = Some(NewPreview { name, expires_ms: Some(60_000) });
    let begun = fleet.post("/v1/sites/docs/releases", &new).await;
    let begun: ReleaseBegun = expect(StatusCode::CREATED, begun).await;
    fleet.upload(&["new"]).await;
    let finalized = expect(StatusCode::ACCEPTED, fleet.finalize("docs", &begun).await).await;
    let view = fleet.follow(&finalized, |view| view.state == ReleaseState::Preview).await;
    assert_eq!(view.url.as_deref(), Some("https://new--docs.nigh.test/"));
    let site: SiteView = fleet.get("/v1/sites/docs").await;
    assert_eq!(site.active, None, "a preview is not the site");

    let dns = Machine::join(&fleet, "ns1", MachineRole::Dns).await;
    let mut watch = dns.watch(0).await;
    assert_eq!(watch.dns_state().await.sites[0].hosts.len(), 2);
    hand.advance(std::time::Duration::from_secs(61));
    assert_eq!(watch.dns_state().await.sites[0].hosts.len(), 1);
}

#[tokio::test]
async fn a_preview_is_promoted_without_a_push() {
    let fleet = Fleet::start().await;
    fleet.create_site("docs").await;
    Machine::join(&fleet, "fra1", MachineRole::Edge).await.obey();
    let mut new = release_of(&[("index.html", "new")]);
    new.preview = Some(NewPreview::default());
    let begun = fleet.post("/v1/sites/docs/releases", &new).await;
    let begun: ReleaseBegun = expect(StatusCode::CREATED, begun).await;
    fleet.upload(&["new"]).await;
    let finalized = expect(StatusCode::ACCEPTED, fleet.finalize("docs", &begun).await).await;
    let view = fleet.follow(&finalized, |view| view.state == ReleaseState::Preview).await;
    let path = format!("/v1/sites/docs/releases/{}/activate", view.id.short());
    let active = fleet.request(Method::POST, &path).send().await.unwrap();
    let active: ReleaseView = expect(StatusCode::OK, active).await;
    assert_eq!(active.state, ReleaseState::Active);
}

#[tokio::test]
async fn a_release_that_is_only_staged_waits_for_its_activation() {
    let fleet = Fleet::start().await;
    fleet.create_site("docs").await;
    let begun = fleet.begin("docs", &[("index.html", "one")]).await;
    fleet.upload(&["one"]).await;
    let path = format!("/v1/sites/docs/releases/{}", begun.release.id);
    let early = fleet.request(Method::POST, &format!("{path}/activate")).send().await.unwrap();
    assert_eq!(refused(StatusCode::CONFLICT, early).await, "release_state");
    let body = serde_json::json!({ "activate": false });
    let finalized = fleet.post(&format!("{path}/finalize"), &body).await;
    let finalized = expect(StatusCode::ACCEPTED, finalized).await;
    fleet.follow(&finalized, |view| view.state == ReleaseState::Staged).await;
    let active = fleet.request(Method::POST, &format!("{path}/activate")).send().await.unwrap();
    let active: ReleaseView = expect(StatusCode::OK, active).await;
    assert_eq!(active.state, ReleaseState::Active);
}

#[tokio::test]
async fn releases_are_pruned_deleted_and_listed_in_pages() {
    let fleet = Fleet::start().await;
    fleet.create_site("docs").await;
    let mut ids = Vec::new();
    for content in ["one", "two", "three", "four"] {
        let pushed = fleet.push("docs", &[("index.html", content)]).await;
        fleet.until_active(&pushed).await;
        ids.push(pushed.id);
    }
    let first: Page<ReleaseView> = fleet.get("/v1/sites/docs/releases?limit=3").await;
    let cursor = first.next_cursor.unwrap();
    let second: Page<ReleaseView> =
        fleet.get(&format!("/v1/sites/docs/releases?limit=3&cursor={cursor}")).await;
    let listed: Vec<_> =
        first.items.iter().chain(&second.items).map(|release| release.id.clone()).collect();
    assert_eq!(listed, ids.iter().rev().cloned().collect::<Vec<_>>());

    let active = format!("/v1/sites/docs/releases/{}", ids[3]);
    let kept = fleet.request(Method::DELETE, &active).send().await.unwrap();
    assert_eq!(refused(StatusCode::CONFLICT, kept).await, "release_active");
    let pruned = fleet.post("/v1/sites/docs/releases/prune", &serde_json::json!({"keep": 1})).await;
    let pruned: Pruned = expect(StatusCode::OK, pruned).await;
    assert_eq!(pruned.releases, [ids[1].clone(), ids[0].clone()]);
}

#[tokio::test]
async fn whoever_finds_an_upload_busy_may_try_again() {
    let fleet = Fleet::start().await;
    let large = "large ".repeat(300_000);
    let path = format!("/v1/blobs/{}", Digest::of(large.as_bytes()));
    let put = || fleet.request(Method::PUT, &path).header("upload-length", large.len());
    // One push has stopped sending in the middle of a part, as when its network was cut.
    let begun = futures_util::stream::iter([Ok::<_, std::io::Error>(large[..1000].to_owned())]);
    let never = futures_util::StreamExt::chain(begun, futures_util::stream::pending());
    let stalled = tokio::spawn(put().body(reqwest::Body::wrap_stream(never)).send());
    while fleet.request(Method::HEAD, &path).send().await.unwrap().headers()["upload-offset"]
        != "1000"
    {}
    let second = put().header("upload-offset", 1000).body(large[1000..].to_owned());
    let busy = second.send().await.unwrap();
    assert!(busy.headers().contains_key("retry-after"));
    assert_eq!(refused(StatusCode::SERVICE_UNAVAILABLE, busy).await, "upload_busy");
    stalled.abort();
    let stored = async {
        loop {
            let again = put().header("upload-offset", 1000).body(large[1000..].to_owned());
            if again.send().await.unwrap().status() == StatusCode::CREATED {
                return;
            }
        }
    };
    tokio::time::timeout(crate::fleet::DEADLINE, stored).await.expect("it is free again");
}

#[tokio::test]
async fn a_manifest_is_read_back_as_it_was_pushed() {
    let fleet = Fleet::start().await;
    fleet.create_site("docs").await;
    let pushed = fleet.push("docs", &[("index.html", "one")]).await;
    fleet.until_active(&pushed).await;
    let path = "/v1/sites/docs/releases/active/manifest";
    let plain = fleet.request(Method::GET, path).send().await.unwrap().bytes().await.unwrap();
    assert!(Manifest::parse(&plain).unwrap().get("index.html").is_some());
    let encoded =
        fleet.request(Method::GET, path).header("accept-encoding", "zstd").send().await.unwrap();
    assert_eq!(encoded.headers()["content-encoding"], "zstd");
    let encoded = encoded.bytes().await.unwrap();
    assert_eq!(zstd::decode_all(&encoded[..]).unwrap(), plain);
}
