//! Work that goes on after a call was answered, and the page that shows the API.

use nigh_proto::{
    api::{OperationState, OperationView, Page, ReleaseView},
    report::MachineRole,
};
use reqwest::{Method, StatusCode, header};

use crate::{
    fleet::{Fleet, expect, refused},
    fleet_machine::Machine,
};

#[tokio::test]
async fn a_release_on_its_way_can_be_followed_as_an_operation() {
    let fleet = Fleet::start().await;
    fleet.create_site("docs").await;
    let edge = Machine::join(&fleet, "fra1", MachineRole::Edge).await;
    let mut watch = edge.watch(0).await;
    edge.report(&watch.edge_state().await).await;

    let begun = fleet.begin("docs", &[("index.html", "one")]).await;
    assert_eq!(fleet.upload(&["one"]).await.status(), StatusCode::OK);
    let path = format!("/v1/operations/{}", begun.release.id.as_str().replacen("rel_", "op_", 1));
    let pending: OperationView = fleet.get(&path).await;
    assert_eq!(pending.state, OperationState::Pending);

    let finalized = fleet.finalize("docs", &begun).await;
    assert_eq!(finalized.headers()[header::LOCATION], path.as_str());
    let _: ReleaseView = expect(StatusCode::ACCEPTED, finalized).await;
    let running: OperationView = fleet.get(&path).await;
    assert_eq!((running.state, running.edges_total), (OperationState::Running, 1));

    let staging = watch.edge_state_with(|state| !state.sites[0].releases.is_empty()).await;
    let wait = format!("{path}?after={}&wait_ms=20000", running.progress);
    let (further, ()) = tokio::join!(fleet.get::<OperationView>(&wait), edge.report(&staging));
    assert!(further.progress > running.progress);
    fleet.until_active(&begun.release).await;
    let done: OperationView = fleet.get(&path).await;
    assert_eq!((done.state, done.problem), (OperationState::Succeeded, None));
    let listed: Page<OperationView> = fleet.get("/v1/operations?state=succeeded").await;
    assert_eq!(listed.items[0].id, done.id);

    let unknown = "/v1/operations/op_01jd0000000000000000000000";
    let unknown = fleet.request(Method::GET, unknown).send().await.unwrap();
    assert_eq!(refused(StatusCode::NOT_FOUND, unknown).await, "operation_unknown");
}

#[tokio::test]
async fn a_push_that_was_replaced_failed_and_says_by_what() {
    let fleet = Fleet::start().await;
    fleet.create_site("docs").await;
    // It holds everything up: it never says that it has staged.
    let _edge = Machine::join(&fleet, "fra1", MachineRole::Edge).await;
    let first = fleet.push("docs", &[("index.html", "one")]).await;
    let second = fleet.push("docs", &[("index.html", "two")]).await;
    let path = format!("/v1/operations/{}", first.id.as_str().replacen("rel_", "op_", 1));
    let failed: OperationView = fleet.get(&path).await;
    assert_eq!(failed.state, OperationState::Failed);
    let problem = failed.problem.unwrap();
    assert_eq!(problem.code, "release_expired");
    assert!(problem.detail.contains(second.id.as_str()), "{}", problem.detail);
}

#[tokio::test]
async fn the_page_of_the_api_asks_nobody_else_and_keeps_nothing() {
    let fleet = Fleet::start().await;
    for path in ["/", "/docs"] {
        let answer = fleet.http.get(format!("{}{path}", fleet.api)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let field = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        let policy = field("content-security-policy");
        assert!(policy.starts_with(
            "default-src 'none'; connect-src 'self'; img-src data:; script-src 'sha256-"
        ));
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(answer.headers().get("set-cookie").is_none());
        let page = answer.text().await.unwrap();
        for outside in ["http://", "https://", "localStorage", "document.cookie"] {
            assert!(!page.contains(outside), "{outside}");
        }
        // The only thing it links to is in the link itself.
        let links = page.matches("<link").count();
        assert_eq!(links, page.matches("<link rel=\"icon\" href=\"data:,\">").count());
    }
}
