//! Who may do what?

use std::time::Duration;

use nigh_daemon::Clock;
use nigh_proto::api::{Page, Scope, SiteView, TokenCreated, TokenView};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::fleet::{Fleet, expect, refused};

async fn token(fleet: &Fleet, scope: Scope, sites: &[&str]) -> TokenCreated {
    let new = json!({ "name": "test", "scope": scope, "sites": sites, "expires_ms": 60_000 });
    expect(StatusCode::CREATED, fleet.post("/v1/tokens", &new).await).await
}

#[tokio::test]
async fn every_route_wants_a_token() {
    let fleet = Fleet::start().await;
    for path in ["/v1/status", "/v1/sites", "/v1/machines", "/v1/tokens", "/v1/whoami"] {
        let url = format!("{}{path}", fleet.api);
        let without = fleet.http.get(&url).send().await.unwrap();
        assert_eq!(refused(StatusCode::UNAUTHORIZED, without).await, "token_missing");
        for wrong in ["nigh_pat_x", &format!("nigh_pat_{}", "0".repeat(64)), "Bearer"] {
            let response = fleet.http.get(&url).bearer_auth(wrong).send().await.unwrap();
            assert_eq!(refused(StatusCode::UNAUTHORIZED, response).await, "token_invalid");
        }
    }
}

/// What each token may do: the method and path, then whether a reader, a pusher of `docs`, a pusher
/// of everything and an administrator may.
#[tokio::test]
async fn scopes_and_sites_are_kept_on_every_route() {
    let fleet = Fleet::start().await;
    fleet.create_site("docs").await;
    fleet.create_site("blog").await;
    let tokens = [
        token(&fleet, Scope::Read, &[]).await.secret,
        token(&fleet, Scope::Push, &["docs"]).await.secret,
        token(&fleet, Scope::Push, &[]).await.secret,
        fleet.token.clone(),
    ];
    let (no, yes) = (false, true);
    let table: &[(Method, &str, [bool; 4])] = &[
        (Method::GET, "/v1/status", [yes, yes, yes, yes]),
        (Method::GET, "/v1/whoami", [yes, yes, yes, yes]),
        (Method::GET, "/v1/machines", [yes, yes, yes, yes]),
        (Method::GET, "/v1/sites", [yes, yes, yes, yes]),
        (Method::GET, "/v1/sites/docs", [yes, yes, yes, yes]),
        (Method::GET, "/v1/sites/blog", [yes, no, yes, yes]),
        (Method::GET, "/v1/sites/blog/hosts", [yes, no, yes, yes]),
        (Method::GET, "/v1/sites/blog/releases", [yes, no, yes, yes]),
        (Method::POST, "/v1/sites", [no, no, no, yes]),
        (Method::POST, "/v1/sites/docs/hosts", [no, yes, yes, yes]),
        (Method::POST, "/v1/sites/blog/hosts", [no, no, yes, yes]),
        (Method::POST, "/v1/sites/blog/releases", [no, no, yes, yes]),
        (Method::POST, "/v1/sites/docs/rollback", [no, yes, yes, yes]),
        (Method::POST, "/v1/sites/docs/releases/prune", [no, yes, yes, yes]),
        (Method::POST, "/v1/packs", [no, yes, yes, yes]),
        (Method::GET, "/v1/tokens", [no, no, no, yes]),
        (Method::POST, "/v1/tokens", [no, no, no, yes]),
        (Method::POST, "/v1/join-tokens", [no, no, no, yes]),
        (Method::POST, "/v1/machines/fra1/drain", [no, no, no, yes]),
        (Method::DELETE, "/v1/machines/fra1", [no, no, no, yes]),
        (Method::DELETE, "/v1/sites/nothing", [no, no, no, yes]),
    ];
    for (method, path, allowed) in table {
        for (secret, may) in tokens.iter().zip(allowed) {
            let url = format!("{}{path}", fleet.api);
            let request = fleet.http.request(method.clone(), url).bearer_auth(secret);
            let body = body_for(method, path);
            let status = request.body(body).send().await.unwrap().status();
            let was_let_in = status != StatusCode::FORBIDDEN;
            assert_eq!(was_let_in, *may, "{method} {path} {} {status}", &secret[..12]);
        }
    }
}

/// A body that its route can read, so that only the right is in question.
fn body_for(method: &Method, path: &str) -> String {
    if *method != Method::POST {
        return String::new();
    }
    let body = match path {
        "/v1/sites" => json!({ "name": "other" }),
        "/v1/tokens" => json!({ "name": "", "scope": "read" }),
        "/v1/join-tokens" => json!({ "role": "edge", "name": "fra1" }),
        path if path.ends_with("hosts") => json!({ "host": "www.example.test" }),
        path if path.ends_with("prune") => json!({ "keep": 1 }),
        path if path.ends_with("releases") => json!({ "manifest": "", "rules": {} }),
        _ => json!({}),
    };
    body.to_string()
}

#[tokio::test]
async fn a_manifest_is_not_read_for_those_who_may_not_push() {
    let fleet = Fleet::start().await;
    fleet.create_site("docs").await;
    let reader = token(&fleet, Scope::Read, &[]).await.secret;
    let url = format!("{}/v1/sites/docs/releases", fleet.api);
    let refusal = fleet.http.post(url).bearer_auth(reader).body("not a manifest").send().await;
    assert_eq!(refused(StatusCode::FORBIDDEN, refusal.unwrap()).await, "not_allowed");
}

#[tokio::test]
async fn a_token_for_a_site_sees_that_site_only() {
    let fleet = Fleet::start().await;
    fleet.create_site("blog").await;
    fleet.create_site("docs").await;
    let made = token(&fleet, Scope::Read, &["docs"]).await;
    assert!(made.secret.starts_with("nigh_ci_"));
    let url = format!("{}/v1/sites", fleet.api);
    let list = fleet.http.get(url).bearer_auth(&made.secret).send().await.unwrap();
    let list: Page<SiteView> = expect(StatusCode::OK, list).await;
    assert_eq!(list.items.iter().map(|site| site.name.as_str()).collect::<Vec<_>>(), ["docs"]);
}

#[tokio::test]
async fn a_token_expires_and_can_be_revoked() {
    let (clock, hand) = Clock::manual(std::time::SystemTime::now());
    let fleet = Fleet::start_with(|_| {}, clock).await;
    let made = token(&fleet, Scope::Read, &[]).await;
    let who = || fleet.http.get(format!("{}/v1/whoami", fleet.api)).bearer_auth(&made.secret);
    let me: TokenView = expect(StatusCode::OK, who().send().await.unwrap()).await;
    assert_eq!(me.id, made.token.id);
    hand.advance(Duration::from_secs(61));
    let late = who().send().await.unwrap();
    assert_eq!(refused(StatusCode::UNAUTHORIZED, late).await, "token_expired");
    let path = format!("/v1/tokens/{}", made.token.id);
    let gone = fleet.request(Method::DELETE, &path).send().await.unwrap();
    assert_eq!(gone.status(), StatusCode::NO_CONTENT);
    let revoked = who().send().await.unwrap();
    assert_eq!(refused(StatusCode::UNAUTHORIZED, revoked).await, "token_invalid");
}

#[tokio::test]
async fn the_last_administrator_cannot_be_locked_out() {
    let fleet = Fleet::start().await;
    let me: TokenView = fleet.get("/v1/whoami").await;
    let path = format!("/v1/tokens/{}", me.id);
    let refusal = fleet.request(Method::DELETE, &path).send().await.unwrap();
    assert_eq!(refused(StatusCode::CONFLICT, refusal).await, "last_admin");
}
