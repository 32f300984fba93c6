//! Nobody's change is lost, nobody is sent what they have, and a site holds what it may.

use nigh_proto::api::{ReleaseBegun, SiteView};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::fleet::{Fleet, expect, refused, release_of};

async fn tag_of(fleet: &Fleet, path: &str) -> String {
    let answer = fleet.request(Method::GET, path).send().await.unwrap();
    answer.headers()["etag"].to_str().unwrap().to_owned()
}

async fn change(fleet: &Fleet, tag: &str, change: &Value) -> Response {
    let request = fleet.request(Method::PATCH, "/v1/sites/docs").header("if-match", tag);
    request.json(change).send().await.unwrap()
}

#[tokio::test]
async fn a_change_of_what_has_changed_is_refused() {
    let fleet = Fleet::start().await;
    fleet.create_site("docs").await;
    let first = tag_of(&fleet, "/v1/sites/docs").await;
    let quota = json!({ "quotas": { "files_max": 2 } });
    let blind = fleet.request(Method::PATCH, "/v1/sites/docs").json(&quota).send().await.unwrap();
    assert_eq!(refused(StatusCode::PRECONDITION_REQUIRED, blind).await, "precondition_required");
    let site: SiteView = expect(StatusCode::OK, change(&fleet, &first, &quota).await).await;
    assert_eq!((site.quotas.files_max, site.quotas.bytes_max), (Some(2), None));
    let late = change(&fleet, &first, &json!({ "quotas": { "bytes_max": 5 } })).await;
    assert_eq!(refused(StatusCode::PRECONDITION_FAILED, late).await, "edited_meanwhile");

    // A push is no edit: the tag is another, and good for a change all the same.
    let second = tag_of(&fleet, "/v1/sites/docs").await;
    fleet.begin("docs", &[("index.html", "one")]).await;
    assert_ne!(tag_of(&fleet, "/v1/sites/docs").await, second);
    let unset = json!({ "quotas": { "files_max": null, "bytes_max": 9 } });
    let site: SiteView = expect(StatusCode::OK, change(&fleet, &second, &unset).await).await;
    assert_eq!((site.quotas.files_max, site.quotas.bytes_max), (None, Some(9)));
    let site: SiteView =
        expect(StatusCode::OK, change(&fleet, "*", &json!({ "quotas": null })).await).await;
    assert_eq!(site.quotas.bytes_max, None);

    fleet.post("/v1/sites/docs/hosts", &json!({ "host": "www.example.test" })).await;
    let gone = fleet.request(Method::DELETE, "/v1/sites/docs").header("if-match", second);
    let gone = gone.send().await.unwrap();
    assert_eq!(refused(StatusCode::PRECONDITION_FAILED, gone).await, "edited_meanwhile");
}

#[tokio::test]
async fn whoever_rolls_back_what_was_rolled_back_is_refused() {
    let fleet = Fleet::start().await;
    fleet.create_site("docs").await;
    let mut releases = Vec::new();
    for page in ["one", "two", "three"] {
        let release = fleet.push("docs", &[("index.html", page)]).await;
        releases.push(fleet.until_active(&release).await.id);
    }
    let of = |path: &str, tag: &str| fleet.request(Method::POST, path).header("if-match", tag);
    let back = async |tag: &str| {
        let request = of("/v1/sites/docs/rollback", tag).json(&json!({}));
        request.send().await.unwrap()
    };
    let active = async || {
        let site = fleet.request(Method::GET, "/v1/sites/docs").send().await.unwrap();
        expect::<SiteView>(StatusCode::OK, site).await.active.unwrap()
    };
    // Two people see the third, and both want the second.
    let seen = tag_of(&fleet, "/v1/sites/docs").await;
    assert_eq!(back(&seen).await.status(), StatusCode::OK);
    assert_eq!(
        refused(StatusCode::PRECONDITION_FAILED, back(&seen).await).await,
        "edited_meanwhile"
    );
    assert_eq!(active().await, releases[1]);
    // Who does not say what was seen undoes the rollback.
    assert_eq!(back("*").await.status(), StatusCode::OK);
    assert_eq!(active().await, releases[2]);

    let first = format!("/v1/sites/docs/releases/{}", releases[0]);
    let activate = format!("{first}/activate");
    let seen = tag_of(&fleet, &first).await;
    let wrong = of(&activate, &seen.replace("superseded", "staged")).send().await.unwrap();
    assert_eq!(refused(StatusCode::PRECONDITION_FAILED, wrong).await, "edited_meanwhile");
    assert_eq!(of(&activate, &seen).send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(active().await, releases[0]);

    let uncompared = of("/v1/sites/docs/hosts", "*").json(&json!({ "host": "www.example.test" }));
    let uncompared = uncompared.send().await.unwrap();
    assert_eq!(refused(StatusCode::BAD_REQUEST, uncompared).await, "header_invalid");
}

#[tokio::test]
async fn who_has_an_answer_is_not_sent_it_again() {
    let fleet = Fleet::start().await;
    fleet.create_site("docs").await;
    let lists = ["/v1/sites", "/v1/sites/docs", "/v1/sites/docs/hosts/docs.nigh.test"];
    for path in lists.into_iter().chain(["/v1/openapi.json", "/v1/machines"]) {
        let tag = tag_of(&fleet, path).await;
        let again = fleet.request(Method::GET, path).header("if-none-match", &tag);
        let again = again.send().await.unwrap();
        assert_eq!(
            (again.status(), again.headers()["etag"].to_str().unwrap()),
            (StatusCode::NOT_MODIFIED, tag.as_str())
        );
        assert!(again.bytes().await.unwrap().is_empty());
    }
    let tag = tag_of(&fleet, "/v1/sites").await;
    fleet.create_site("blog").await;
    let changed = fleet.request(Method::GET, "/v1/sites").header("if-none-match", tag);
    assert_eq!(changed.send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_site_holds_no_more_than_its_quotas() {
    let fleet = Fleet::start_with(
        |config| config.quotas.bytes_max = Some(10),
        nigh_daemon::Clock::system(),
    )
    .await;
    fleet.create_site("docs").await;
    let begin = async |files: &[(&str, &str)]| {
        fleet.post("/v1/sites/docs/releases", &release_of(files)).await
    };
    let large = begin(&[("a.html", "eleven byte")]).await;
    assert_eq!(refused(StatusCode::UNPROCESSABLE_ENTITY, large).await, "quota_exceeded");
    let begun: ReleaseBegun =
        expect(StatusCode::CREATED, begin(&[("a.html", "one"), ("b.html", "two")]).await).await;
    let quotas = json!({ "quotas": { "files_max": 1, "releases_max": 1 } });
    assert_eq!(change(&fleet, "*", &quotas).await.status(), StatusCode::OK);
    // What was begun before is measured again before it goes anywhere.
    fleet.upload(&["one", "two"]).await;
    let late = fleet.finalize("docs", &begun).await;
    assert_eq!(refused(StatusCode::UNPROCESSABLE_ENTITY, late).await, "quota_exceeded");
    let second = begin(&[("a.html", "one")]).await;
    let text = second.text().await.unwrap();
    assert!(text.contains("quota_exceeded") && text.contains("1 releases"), "{text}");
    for wrong in [json!({ "quotas": { "files_max": 0 } }), json!({ "quotas": { "files_max": -1 } })]
    {
        let status = change(&fleet, "*", &wrong).await.status();
        assert!(status == StatusCode::UNPROCESSABLE_ENTITY || status == StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn names_can_be_looked_for_and_pages_lead_on() {
    let fleet = Fleet::start().await;
    for name in ["docs", "docs-old", "blog"] {
        fleet.create_site(name).await;
    }
    let first = fleet.request(Method::GET, "/v1/sites?name=docs&limit=1").send().await.unwrap();
    let link = first.headers()["link"].to_str().unwrap().to_owned();
    let next = link.strip_prefix('<').unwrap().split('>').next().unwrap().to_owned();
    assert!(link.ends_with("rel=\"next\"") && next.starts_with("/v1/sites?name=docs&limit=1&"));
    let second = fleet.request(Method::GET, &next).send().await.unwrap();
    assert!(!second.headers().contains_key("link"));
    let second: nigh_proto::api::Page<SiteView> = expect(StatusCode::OK, second).await;
    assert_eq!(second.items[0].name.as_str(), "docs-old");
}
