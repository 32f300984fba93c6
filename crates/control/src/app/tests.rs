//! What must hold whoever goes away, and whatever is committed meanwhile.

use std::time::Duration;

use axum::{
    body::Body,
    http::{Request, header},
};
use futures_util::FutureExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use nigh_proto::{
    api::{NewPreview, ReleaseState},
    state::MachineState,
};

use super::{
    App, Effective, Expected,
    fixture::{Fixture, docs},
};
use crate::{
    config::ControlConfig,
    fleet::state,
    reconcile::{Reconcile as _, progress::Progress},
};

const DEADLINE: Duration = Duration::from_secs(5);

async fn admin(app: &App) -> String {
    let new = serde_json::json!({ "name": "test", "scope": "admin" });
    let new = serde_json::from_value(new).unwrap();
    app.create_token(new, &Fixture::almighty()).await.unwrap().secret
}

#[tokio::test]
async fn a_change_is_published_though_whoever_asked_for_it_has_gone() {
    let fixture = Fixture::new().await;
    let app = &fixture.app;
    let request = Request::post("/v1/sites")
        .header(header::AUTHORIZATION, format!("Bearer {}", admin(app).await))
        .body(Body::from(r#"{"name": "blog"}"#))
        .unwrap();
    let blog = "blog".parse().unwrap();
    let router = TowerToHyperService::new(crate::api::router(app.clone()));
    let mut answer = Box::pin(router.call(request));
    // Whoever publishes waits here.
    let alone = app.0.publishing.lock().await;
    let committed = async {
        while app.store().site(&blog).await.unwrap().is_none() {
            assert!(answer.as_mut().now_or_never().is_none(), "it waits to publish");
        }
    };
    tokio::time::timeout(DEADLINE, committed).await.unwrap();
    drop(answer);
    drop(alone);
    let mut worlds = app.follow();
    let told = worlds.wait_for(|world| world.site(&blog).is_some());
    assert!(tokio::time::timeout(DEADLINE, told).await.is_ok());
}

#[tokio::test]
async fn what_was_committed_and_not_published_is_found() {
    let fixture = Fixture::new().await;
    let edge = fixture.commit_join("fra1").await;
    assert!(fixture.app.world().machine(&edge.name).is_none());
    Progress::new(fixture.app.clone()).pass().await.unwrap();
    assert!(fixture.app.world().machine(&edge.name).is_some());
}

#[tokio::test]
async fn an_edge_that_joins_during_an_activation_still_lags() {
    let fixture = Fixture::new().await;
    let app = &fixture.app;
    fixture.push("one").await;
    Progress::new(app.clone()).pass().await.unwrap();
    let two = fixture.push("two").await;
    let decided_at = app.world().revision;
    let edge = fixture.commit_join("fra1").await;
    app.go(&two.id, &[], decided_at).await.unwrap();
    app.refresh().await.unwrap();
    let world = app.world();
    let site = world.site(&docs()).unwrap();
    assert_eq!(site.release(&two.id).unwrap().state, ReleaseState::Staging);
    assert_eq!(site.lagging, [edge.name]);
}

#[tokio::test]
async fn one_pass_lets_all_releases_go_live_that_may() {
    let fixture = Fixture::new().await;
    for page in ["one", "two", "three"] {
        fixture.push_to(page, Some(NewPreview { name: None, expires_ms: None })).await;
    }
    let app = &fixture.app;
    assert_eq!(app.world().staging().count(), 3);
    // Each that goes changes the fleet for the next.
    Progress::new(app.clone()).pass().await.unwrap();
    assert_eq!(app.world().staging().count(), 0);
}

#[tokio::test]
async fn who_waits_for_a_release_is_answered_when_control_stops() {
    let fixture = Fixture::new().await;
    let app = &fixture.app;
    let view = fixture.push("one").await;
    let (site, wait) = (docs(), Duration::from_secs(600));
    let mut waiting = Box::pin(app.await_release(&site, &view.id, u64::MAX, wait));
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut waiting).await.is_err());
    app.stopping().cancel();
    let answer = tokio::time::timeout(DEADLINE, waiting).await.expect("it ends");
    assert_eq!(answer.unwrap().id, view.id);
}

#[tokio::test]
async fn a_preview_stays_while_it_waits_to_be_promoted_and_when_it_is_not() {
    let fixture = Fixture::new().await;
    let app = &fixture.app;
    let preview = NewPreview { name: None, expires_ms: None };
    let preview = fixture.push_to("one", Some(preview)).await;
    Progress::new(app.clone()).pass().await.unwrap();
    let edge = fixture.commit_join("fra1").await;
    let waiting = app.activate(&docs(), &preview.id, &Expected::Anything).await.unwrap();
    assert_eq!(waiting.state, ReleaseState::Staging);
    let settings = app.effective();
    let state = state::of(&app.world(), &settings.settings, &edge, app.now());
    let MachineState::Edge(state) = state else { panic!("an edge is told the state of an edge") };
    assert_eq!(state.sites[0].previews[0].release, preview.id);

    fixture.push("two").await;
    let kept = app.show_release(&docs(), &preview.id).await.unwrap();
    assert_eq!(kept.state, ReleaseState::Preview);
    assert!(kept.failure.unwrap().contains("replaced by"));
}

#[tokio::test]
async fn a_restart_with_the_same_settings_is_no_news_for_machines() {
    let fixture = Fixture::new().await;
    let app = &fixture.app;
    let revision = app.world().revision;
    let settings = |ttl_s| {
        let mut config = ControlConfig::new(fixture.dir.path().into());
        config.dns.ttl_s = ttl_s;
        Effective::new(config).unwrap()
    };
    let ttl_s = app.effective().config.dns.ttl_s;
    app.reload(settings(ttl_s)).await.unwrap();
    assert_eq!(app.world().revision, revision);
    app.reload(settings(ttl_s + 1)).await.unwrap();
    assert_eq!(app.world().revision, revision + 1);
}
