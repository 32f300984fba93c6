//! A request that is sent again is done once.

use std::time::Duration;

use nigh_daemon::Clock;
use nigh_proto::api::{Page, TokenCreated, TokenView};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::fleet::{Fleet, expect, refused, release_of};

async fn post(fleet: &Fleet, path: &str, key: &str, body: &Value) -> Response {
    let request = fleet.request(reqwest::Method::POST, path).header("idempotency-key", key);
    request.json(body).send().await.unwrap()
}

#[tokio::test]
async fn the_same_key_gets_the_same_answer_though_control_restarts() {
    let fleet = Fleet::start().await;
    let new = json!({ "name": "ci", "scope": "read" });
    let first = post(&fleet, "/v1/tokens", "k1", &new).await;
    let first: TokenCreated = expect(StatusCode::CREATED, first).await;
    let fleet = fleet.restart().await;
    let again = post(&fleet, "/v1/tokens", "\"k1\"", &new).await;
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    assert_eq!(again.headers()["content-type"], "application/json");
    let again: TokenCreated = expect(StatusCode::CREATED, again).await;
    assert_eq!((again.secret, again.token.id), (first.secret.clone(), first.token.id));
    let tokens: Page<TokenView> = fleet.get("/v1/tokens?name=ci").await;
    assert_eq!(tokens.items.len(), 1);
    let database = match &fleet.database {
        Some(database) => database.run("SELECT answer FROM idempotency").unwrap().into_bytes(),
        None => ["control.db", "control.db-wal"]
            .iter()
            .filter_map(|name| std::fs::read(fleet.dir.path().join("state").join(name)).ok())
            .flatten()
            .collect(),
    };
    assert!(database.windows(8).any(|part| part == b"sealed1:"));
    let secret = first.secret.as_bytes();
    assert!(!database.windows(secret.len()).any(|part| part == secret), "it is kept sealed");
}

#[tokio::test]
async fn another_body_another_caller_and_another_route_are_told_apart() {
    let fleet = Fleet::start().await;
    let docs = json!({ "name": "docs" });
    assert_eq!(post(&fleet, "/v1/sites", "k", &docs).await.status(), StatusCode::CREATED);
    let other = post(&fleet, "/v1/sites", "k", &json!({ "name": "blog" })).await;
    assert_eq!(refused(StatusCode::UNPROCESSABLE_ENTITY, other).await, "idempotency_key_reused");
    let host = json!({ "host": "www.example.test" });
    let host = post(&fleet, "/v1/sites/docs/hosts", "k", &host).await;
    assert_eq!(host.status(), StatusCode::CREATED);
    let made = json!({ "name": "second", "scope": "admin" });
    let made: TokenCreated =
        expect(StatusCode::CREATED, post(&fleet, "/v1/tokens", "k", &made).await).await;
    let url = format!("{}/v1/sites", fleet.api);
    let second = fleet.http.post(url).bearer_auth(made.secret).header("idempotency-key", "k");
    let second = second.json(&docs).send().await.unwrap();
    assert_eq!(refused(StatusCode::CONFLICT, second).await, "site_taken");
    let wrong = post(&fleet, "/v1/sites", "a key", &docs).await;
    assert_eq!(refused(StatusCode::BAD_REQUEST, wrong).await, "idempotency_key_invalid");
}

#[tokio::test]
async fn what_was_refused_may_be_tried_again() {
    let fleet = Fleet::start().await;
    let host = json!({ "host": "www.example.test" });
    let early = post(&fleet, "/v1/sites/docs/hosts", "k", &host).await;
    assert_eq!(refused(StatusCode::NOT_FOUND, early).await, "site_unknown");
    fleet.create_site("docs").await;
    let late = post(&fleet, "/v1/sites/docs/hosts", "k", &host).await;
    assert_eq!(late.status(), StatusCode::CREATED);
}

/// Two at once: one is done, the other waits or is told to.
#[tokio::test]
async fn of_many_at_once_one_is_done() {
    let fleet = Fleet::start().await;
    fleet.create_site("docs").await;
    let release = serde_json::to_value(release_of(&[("index.html", "one")])).unwrap();
    let calls = (0..8).map(|_| post(&fleet, "/v1/sites/docs/releases", "k", &release));
    let answers = futures_util::future::join_all(calls).await;
    let mut made = 0;
    for answer in answers {
        match answer.status() {
            StatusCode::CREATED => {
                made += usize::from(!answer.headers().contains_key("idempotency-replayed"));
            }
            StatusCode::CONFLICT => {
                assert_eq!(answer.headers()["retry-after"], "1");
                assert_eq!(refused(StatusCode::CONFLICT, answer).await, "idempotency_running");
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!(made, 1);
    let site: nigh_proto::api::SiteView = fleet.get("/v1/sites/docs").await;
    assert_eq!(site.releases_total, 1);
}

#[tokio::test]
async fn a_key_is_forgotten_after_a_day() {
    let (clock, hand) = Clock::manual(std::time::SystemTime::now());
    let fleet = Fleet::start_with(|_| {}, clock).await;
    let new = json!({ "name": "ci", "scope": "read" });
    let first: TokenCreated =
        expect(StatusCode::CREATED, post(&fleet, "/v1/tokens", "k", &new).await).await;
    hand.advance(Duration::from_secs(25 * 60 * 60));
    let second: TokenCreated =
        expect(StatusCode::CREATED, post(&fleet, "/v1/tokens", "k", &new).await).await;
    assert_ne!(first.token.id, second.token.id);
}
