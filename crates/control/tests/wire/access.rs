//! What may a token do, how strong may another be that it makes, and how often may it ask?

use nigh_daemon::Clock;
use nigh_proto::api::{Page, Problem, SiteView, StatusView, TokenCreated, TokenView};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::fleet::{Fleet, expect, refused, release_of};

async fn token(fleet: &Fleet, new: Value) -> TokenCreated {
    expect(StatusCode::CREATED, fleet.post("/v1/tokens", &new).await).await
}

async fn call(fleet: &Fleet, secret: &str, method: Method, path: &str, body: Value) -> Response {
    let request = fleet.http.request(method, format!("{}{path}", fleet.api)).bearer_auth(secret);
    let request = if body.is_null() { request } else { request.json(&body) };
    request.send().await.unwrap()
}

#[tokio::test]
async fn a_verb_is_what_a_token_may_do_and_no_more() {
    let fleet = Fleet::start().await;
    fleet.create_site("docs").await;
    let pusher = json!({ "name": "ci", "verbs": ["releases:push"], "sites": ["docs"] });
    let pusher = token(&fleet, pusher).await;
    assert_eq!(pusher.token.scope, None);
    let release = serde_json::to_value(release_of(&[("index.html", "one")])).unwrap();
    let begun =
        call(&fleet, &pusher.secret, Method::POST, "/v1/sites/docs/releases", release).await;
    let begun: nigh_proto::api::ReleaseBegun = expect(StatusCode::CREATED, begun).await;
    fleet.upload(&["one"]).await;
    let finalize = format!("/v1/sites/docs/releases/{}/finalize", begun.release.id);
    let live = json!({ "activate": true });
    let no = call(&fleet, &pusher.secret, Method::POST, &finalize, live).await;
    assert_eq!(refused(StatusCode::FORBIDDEN, no).await, "not_allowed");
    let staged = json!({ "activate": false });
    let yes = call(&fleet, &pusher.secret, Method::POST, &finalize, staged).await;
    assert_eq!(yes.status(), StatusCode::ACCEPTED);
    for (method, path) in [
        (Method::GET, "/v1/sites/docs"),
        (Method::POST, "/v1/sites/docs/rollback"),
        (Method::DELETE, "/v1/sites/docs"),
    ] {
        let no = call(&fleet, &pusher.secret, method, path, Value::Null).await;
        assert_eq!(no.status(), StatusCode::FORBIDDEN, "{path}");
    }
}

#[tokio::test]
async fn no_token_makes_or_revokes_a_stronger_one() {
    let fleet = Fleet::start().await;
    fleet.create_site("docs").await;
    fleet.create_site("blog").await;
    let maker = json!({ "name": "maker", "verbs": ["tokens:write", "sites:read"],
        "sites": ["docs"], "expires_ms": 600_000 });
    let maker = token(&fleet, maker).await;
    let stronger = [
        json!({ "name": "x", "scope": "push", "sites": ["docs"], "expires_ms": 1000 }),
        json!({ "name": "x", "verbs": ["sites:read"], "sites": ["blog"], "expires_ms": 1000 }),
        json!({ "name": "x", "verbs": ["sites:read"], "sites": [], "expires_ms": 1000 }),
        json!({ "name": "x", "verbs": ["sites:read"], "sites": ["docs"] }),
        json!({ "name": "x", "verbs": ["sites:read"], "sites": ["docs"], "expires_ms": 700_000 }),
    ];
    for new in stronger {
        let no = call(&fleet, &maker.secret, Method::POST, "/v1/tokens", new.clone()).await;
        assert_eq!(refused(StatusCode::FORBIDDEN, no).await, "token_stronger", "{new}");
    }
    let weaker =
        json!({ "name": "y", "verbs": ["sites:read"], "sites": ["docs"], "expires_ms": 1000 });
    let yes = call(&fleet, &maker.secret, Method::POST, "/v1/tokens", weaker).await;
    let weaker: TokenCreated = expect(StatusCode::CREATED, yes).await;

    // It sees and revokes those of its own site, itself, and nobody stronger.
    let list = call(&fleet, &maker.secret, Method::GET, "/v1/tokens?limit=1", Value::Null).await;
    assert!(list.headers()["link"].to_str().unwrap().contains("limit=1&cursor="));
    let list: Page<TokenView> = expect(StatusCode::OK, list).await;
    assert_eq!(list.items[0].id, maker.token.id);
    let me: TokenView = fleet.get("/v1/whoami").await;
    for (id, status) in [
        (&me.id, StatusCode::NOT_FOUND),
        (&weaker.token.id, StatusCode::NO_CONTENT),
        (&maker.token.id, StatusCode::NO_CONTENT),
    ] {
        let path = format!("/v1/tokens/{id}");
        let done = call(&fleet, &maker.secret, Method::DELETE, &path, Value::Null).await;
        assert_eq!(done.status(), status);
    }
}

#[tokio::test]
async fn a_token_that_expires_does_not_keep_the_door_open() {
    let fleet = Fleet::start().await;
    let passing = json!({ "name": "passing", "scope": "admin", "expires_ms": 60_000 });
    token(&fleet, passing).await;
    let me: TokenView = fleet.get("/v1/whoami").await;
    let path = format!("/v1/tokens/{}", me.id);
    let no = fleet.request(Method::DELETE, &path).send().await.unwrap();
    assert_eq!(refused(StatusCode::CONFLICT, no).await, "last_admin");
    token(&fleet, json!({ "name": "lasting", "scope": "admin" })).await;
    let yes = fleet.request(Method::DELETE, &path).send().await.unwrap();
    assert_eq!(yes.status(), StatusCode::NO_CONTENT);
    let gone = fleet.request(Method::GET, "/v1/whoami").send().await.unwrap();
    assert_eq!(refused(StatusCode::UNAUTHORIZED, gone).await, "token_invalid");
}

async fn change(fleet: &Fleet, secret: &str, path: &str, tag: &str, body: Value) -> Response {
    let request = fleet.http.patch(format!("{}{path}", fleet.api)).bearer_auth(secret);
    request.header("if-match", tag).json(&body).send().await.unwrap()
}

#[tokio::test]
async fn a_token_is_renamed_ends_earlier_and_loses_what_it_may_do() {
    let fleet = Fleet::start().await;
    for site in ["docs", "blog"] {
        fleet.create_site(site).await;
    }
    let ci = json!({ "name": "ci", "scope": "push", "sites": ["docs", "blog"] });
    let ci = token(&fleet, ci).await;
    let path = format!("/v1/tokens/{}", ci.token.id);
    let blind = fleet.request(Method::PATCH, &path).json(&json!({})).send().await.unwrap();
    assert_eq!(refused(StatusCode::PRECONDITION_REQUIRED, blind).await, "precondition_required");
    let seen = fleet.request(Method::GET, &path).send().await.unwrap();
    let tag = seen.headers()["etag"].to_str().unwrap().to_owned();
    // To be used is no edit.
    call(&fleet, &ci.secret, Method::GET, "/v1/whoami", Value::Null).await;

    let less = json!({ "name": "ci of docs", "scope": null, "sites": ["docs"],
        "verbs": ["sites:read", "releases:push"], "expires_ms": 3_600_000 });
    let changed = change(&fleet, &fleet.token, &path, &tag, less).await;
    let changed: TokenView = expect(StatusCode::OK, changed).await;
    let seen = fleet.request(Method::GET, &path).send().await.unwrap();
    let next = seen.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!((changed.name.as_str(), changed.scope), ("ci of docs", None));
    assert_eq!(changed.verbs.to_string(), "sites:read releases:push");
    assert!(changed.expires_at.is_some() && changed.last_used_at.is_some());
    let shown: TokenView = fleet.get(&path).await;
    assert_eq!(shown, changed);
    for (path, status) in [("docs", StatusCode::OK), ("blog", StatusCode::FORBIDDEN)] {
        let path = format!("/v1/sites/{path}");
        let seen = call(&fleet, &ci.secret, Method::GET, &path, Value::Null).await;
        assert_eq!(seen.status(), status, "{path}");
    }

    // Whoever saw it before has not seen this.
    let late = change(&fleet, &fleet.token, &path, &tag, json!({ "name": "x" })).await;
    assert_eq!(refused(StatusCode::PRECONDITION_FAILED, late).await, "edited_meanwhile");
    for (body, pointer) in [
        (json!({ "scope": "push" }), "/scope"),
        (json!({ "verbs": ["audit:read"] }), "/verbs"),
        (json!({ "sites": ["docs", "blog"] }), "/sites"),
        (json!({ "sites": [] }), "/sites"),
    ] {
        let wider = change(&fleet, &fleet.token, &path, &next, body).await;
        let wider: Problem = expect(StatusCode::UNPROCESSABLE_ENTITY, wider).await;
        assert_eq!(
            (wider.code.as_str(), wider.errors[0].pointer.as_str()),
            ("token_wider", pointer)
        );
    }
    let nothing = change(&fleet, &fleet.token, &path, "*", json!({ "verbs": [] })).await;
    assert_eq!(refused(StatusCode::UNPROCESSABLE_ENTITY, nothing).await, "token_powerless");

    // With itself it may only end earlier; an administrator may let it end later.
    let longer = json!({ "expires_ms": 7_200_000 });
    let own = change(&fleet, &ci.secret, &path, &next, longer.clone()).await;
    assert_eq!(refused(StatusCode::FORBIDDEN, own).await, "token_stronger");
    let own = change(&fleet, &ci.secret, &path, &next, json!({ "expires_ms": 60_000 })).await;
    let sooner: TokenView = expect(StatusCode::OK, own).await;
    assert!(sooner.expires_at < changed.expires_at);
    let later = change(&fleet, &fleet.token, &path, "*", longer).await;
    let later: TokenView = expect(StatusCode::OK, later).await;
    assert!(later.expires_at > changed.expires_at);
    let audit: Value = fleet.get("/v1/audit?verb=token.change").await;
    assert_eq!(audit["items"].as_array().unwrap().len(), 3, "{audit}");
}

#[tokio::test]
async fn the_last_administrator_stays_one() {
    let fleet = Fleet::start().await;
    let me: TokenView = fleet.get("/v1/whoami").await;
    let path = format!("/v1/tokens/{}", me.id);
    for less in [json!({ "scope": "push" }), json!({ "expires_ms": 60_000 })] {
        let no = change(&fleet, &fleet.token, &path, "*", less).await;
        assert_eq!(refused(StatusCode::CONFLICT, no).await, "last_admin");
    }
    let renamed = change(&fleet, &fleet.token, &path, "*", json!({ "name": "root" })).await;
    assert_eq!(expect::<TokenView>(StatusCode::OK, renamed).await.name, "root");
}

#[tokio::test]
async fn a_token_for_a_site_learns_no_other_name() {
    let fleet = Fleet::start().await;
    for name in ["alpha", "beta", "docs", "zeta"] {
        fleet.create_site(name).await;
        let quota = json!({ "quotas": { "releases_max": 1 } });
        let path = format!("/v1/sites/{name}");
        let set = fleet.request(Method::PATCH, &path).header("if-match", "*").json(&quota);
        assert_eq!(set.send().await.unwrap().status(), StatusCode::OK);
        fleet.begin(name, &[("index.html", name)]).await;
    }
    let reader = token(&fleet, json!({ "name": "r", "scope": "read", "sites": ["docs", "zeta"] }));
    let reader = reader.await.secret;
    let status = call(&fleet, &reader, Method::GET, "/v1/status", Value::Null).await;
    let status: StatusView = expect(StatusCode::OK, status).await;
    assert_eq!((status.sites_total, status.releases_total), (2, 2));
    assert_eq!(status.warnings.len(), 2, "{:?}", status.warnings);
    let all: StatusView = fleet.get("/v1/status").await;
    assert_eq!(all.warnings.len(), 4);
    let page = call(&fleet, &reader, Method::GET, "/v1/sites?limit=1", Value::Null).await;
    let page: Page<SiteView> = expect(StatusCode::OK, page).await;
    assert_eq!(page.items[0].name.as_str(), "docs");
    let hex: String = b"docs".iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(page.next_cursor, Some(format!("c1{hex}")));
}

#[tokio::test]
async fn the_default_host_of_a_site_to_come_is_for_administrators() {
    let fleet = Fleet::start().await;
    fleet.create_site("docs").await;
    let pusher = token(&fleet, json!({ "name": "p", "scope": "push", "sites": ["docs"] })).await;
    let hosts = "/v1/sites/docs/hosts";
    let taken = json!({ "host": "blog.nigh.test" });
    let no = call(&fleet, &pusher.secret, Method::POST, hosts, taken.clone()).await;
    assert_eq!(refused(StatusCode::FORBIDDEN, no).await, "not_allowed");
    let deep = json!({ "host": "www.docs.nigh.test" });
    let yes = call(&fleet, &pusher.secret, Method::POST, hosts, deep).await;
    assert_eq!(yes.status(), StatusCode::CREATED);
    assert_eq!(fleet.post(hosts, &taken).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn who_guesses_is_slowed_down_and_who_knows_is_not() {
    let (clock, hand) = Clock::manual(std::time::SystemTime::now());
    let limit = |config: &mut nigh_control::ControlConfig| config.limits.failures_per_minute = 5;
    let fleet = Fleet::start_with(limit, clock).await;
    let made = token(&fleet, json!({ "name": "late", "scope": "read" })).await;
    let mut codes = Vec::new();
    for guess in 0..120 {
        let secret = format!("nigh_pat_{guess:064x}");
        let answer = call(&fleet, &secret, Method::GET, "/v1/whoami", Value::Null).await;
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            let wait: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
            assert!((1..=60).contains(&wait));
            assert!(
                answer.headers()["ratelimit"].to_str().unwrap().starts_with("\"failures\";r=0")
            );
        }
        let status = answer.status();
        codes.push(refused(status, answer).await);
    }
    assert!(codes[..5].iter().all(|code| code == "token_invalid"));
    assert!(codes[5..].iter().all(|code| code == "too_many_failures"));
    // From the same address: a token that was seen before is good throughout.
    let me = fleet.request(Method::GET, "/v1/whoami").send().await.unwrap();
    assert_eq!(me.status(), StatusCode::OK);
    // One that was not is, as soon as the guesses leave room for a look.
    let late = call(&fleet, &made.secret, Method::GET, "/v1/whoami", Value::Null).await;
    assert_eq!(late.status(), StatusCode::TOO_MANY_REQUESTS);
    hand.advance(std::time::Duration::from_secs(1));
    let late = call(&fleet, &made.secret, Method::GET, "/v1/whoami", Value::Null).await;
    assert_eq!(late.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_token_has_a_budget_and_is_told_what_is_left() {
    let (clock, hand) = Clock::manual(std::time::SystemTime::now());
    let limit = |config: &mut nigh_control::ControlConfig| config.limits.requests_per_minute = 3;
    let fleet = Fleet::start_with(limit, clock).await;
    for left in [2, 1, 0] {
        let answer = fleet.request(Method::GET, "/v1/whoami").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["ratelimit-policy"], "\"token\";q=3;w=60");
        let field = answer.headers()["ratelimit"].to_str().unwrap();
        assert!(field.starts_with(&format!("\"token\";r={left};t=")), "{field}");
    }
    let over = fleet.request(Method::GET, "/v1/whoami").send().await.unwrap();
    assert_eq!(over.headers()["retry-after"], "21");
    assert_eq!(refused(StatusCode::TOO_MANY_REQUESTS, over).await, "too_many_requests");
    hand.advance(std::time::Duration::from_secs(21));
    let again = fleet.request(Method::GET, "/v1/whoami").send().await.unwrap();
    assert_eq!(again.status(), StatusCode::OK);
}

#[tokio::test]
async fn the_last_use_of_a_token_is_known_at_once_and_after_a_restart() {
    let fleet = Fleet::start().await;
    let me: TokenView = fleet.get("/v1/whoami").await;
    let used_at = me.last_used_at.expect("now");
    let fleet = fleet.restart().await;
    let made = token(&fleet, json!({ "name": "other", "scope": "admin" })).await;
    let path = format!("/v1/tokens/{}", me.id);
    let seen = call(&fleet, &made.secret, Method::GET, &path, Value::Null).await;
    let seen: TokenView = expect(StatusCode::OK, seen).await;
    assert!(seen.last_used_at >= Some(used_at));
}
