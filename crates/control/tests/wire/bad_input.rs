//! What is wrong is said clearly, and nothing is lost.

use nigh_proto::{
    Digest,
    api::{ReleaseBegun, ReleaseState},
};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::fleet::{Fleet, expect, pack_of, refused, release_of};

#[tokio::test]
async fn unknown_routes_and_wrong_methods_are_problems() {
    let fleet = Fleet::start().await;
    let unknown = fleet.request(Method::GET, "/v2/sites").send().await.unwrap();
    assert_eq!(refused(StatusCode::NOT_FOUND, unknown).await, "route_unknown");
    let wrong = fleet.request(Method::PATCH, "/v1/sites").send().await.unwrap();
    assert_eq!(refused(StatusCode::METHOD_NOT_ALLOWED, wrong).await, "method_not_allowed");
    let name = fleet.request(Method::GET, "/v1/sites/Not_a_name").send().await.unwrap();
    assert_eq!(refused(StatusCode::NOT_FOUND, name).await, "name_invalid");
    let query = fleet.request(Method::GET, "/v1/sites?limit=x").send().await.unwrap();
    assert_eq!(refused(StatusCode::BAD_REQUEST, query).await, "query_invalid");
    let cursor = fleet.request(Method::GET, "/v1/sites?cursor=x").send().await.unwrap();
    assert_eq!(refused(StatusCode::BAD_REQUEST, cursor).await, "cursor_invalid");
}

#[tokio::test]
async fn parameters_are_those_of_the_route() {
    let fleet = Fleet::start().await;
    for query in ["limits=1", "limit=1&limit=2", "limit=99999999999", "name=%00", "name=%ff"] {
        let path = format!("/v1/sites?{query}");
        let asked = fleet.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(refused(StatusCode::BAD_REQUEST, asked).await, "query_invalid", "{query}");
        // A stranger learns nothing of parameters.
        let asked = fleet.http.get(format!("{}{path}", fleet.api)).send().await.unwrap();
        assert_eq!(refused(StatusCode::UNAUTHORIZED, asked).await, "token_missing", "{query}");
    }
    // Also where only a stream has a use for it.
    let list = fleet.request(Method::GET, "/v1/events").header("last-event-id", "x");
    let list = list.send().await.unwrap();
    assert_eq!(refused(StatusCode::BAD_REQUEST, list).await, "header_invalid");
    let head = fleet.request(Method::HEAD, "/v1/sites?limit=x").send().await.unwrap();
    assert_eq!(head.status(), StatusCode::BAD_REQUEST);
    let wrong = fleet.request(Method::PATCH, "/v1/sites?x=1").send().await.unwrap();
    let mut allowed: Vec<&str> = wrong.headers()["allow"].to_str().unwrap().split(',').collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "POST"]);
    assert_eq!(refused(StatusCode::METHOD_NOT_ALLOWED, wrong).await, "method_not_allowed");
}

#[tokio::test]
async fn garbage_instead_of_json_is_refused() {
    let fleet = Fleet::start().await;
    for body in ["", "{", "[]", "null", "{\"name\": 5}", "{\"name\": \"a\", \"nme\": 1}", "\u{0}"] {
        let response = fleet.request(Method::POST, "/v1/sites").body(body).send().await.unwrap();
        assert_eq!(refused(StatusCode::BAD_REQUEST, response).await, "body_invalid", "{body}");
    }
    let long = format!("{{\"name\": \"{}\"}}", "a".repeat(300_000));
    let response = fleet.request(Method::POST, "/v1/sites").body(long).send().await.unwrap();
    assert_eq!(refused(StatusCode::PAYLOAD_TOO_LARGE, response).await, "body_too_large");
}

#[tokio::test]
async fn names_are_taken_once() {
    let fleet = Fleet::start().await;
    fleet.create_site("docs").await;
    let again = fleet.post("/v1/sites", &json!({ "name": "docs" })).await;
    assert_eq!(refused(StatusCode::CONFLICT, again).await, "site_taken");
    let other = json!({ "name": "blog", "hosts": ["docs.nigh.test"] });
    let other = fleet.post("/v1/sites", &other).await;
    assert_eq!(refused(StatusCode::CONFLICT, other).await, "host_taken");
    let absent = fleet.request(Method::GET, "/v1/sites/blog").send().await.unwrap();
    assert_eq!(refused(StatusCode::NOT_FOUND, absent).await, "site_unknown");
    let kept = json!({ "host": "new--docs.nigh.test" });
    let kept = fleet.post("/v1/sites/docs/hosts", &kept).await;
    assert_eq!(refused(StatusCode::UNPROCESSABLE_ENTITY, kept).await, "host_reserved");
    let own = fleet.post("/v1/sites/docs/hosts", &json!({ "host": "LocalHost" })).await;
    assert_eq!(refused(StatusCode::UNPROCESSABLE_ENTITY, own).await, "host_reserved");
    let default = "/v1/sites/docs/hosts/docs.nigh.test";
    let default = fleet.request(Method::DELETE, default).send().await.unwrap();
    assert_eq!(refused(StatusCode::CONFLICT, default).await, "host_default");
}

#[tokio::test]
async fn manifests_and_rules_are_checked_before_anything_is_kept() {
    let fleet = Fleet::start().await;
    fleet.create_site("docs").await;
    let good = release_of(&[("index.html", "one")]);
    let path = "/v1/sites/docs/releases";
    let mut bad = good.clone();
    bad.manifest = bad.manifest.replace("index.html", "../index.html");
    let code = refused(StatusCode::UNPROCESSABLE_ENTITY, fleet.post(path, &bad).await).await;
    assert_eq!(code, "manifest_invalid");
    let rules = json!({ "redirects": [{ "from": "/a", "to": "//b", "status": 301 }] });
    let bad = json!({ "manifest": good.manifest, "rules": rules });
    let code = refused(StatusCode::UNPROCESSABLE_ENTITY, fleet.post(path, &bad).await).await;
    assert_eq!(code, "rules_invalid");
    let empty = release_of(&[]);
    let code = refused(StatusCode::UNPROCESSABLE_ENTITY, fleet.post(path, &empty).await).await;
    assert_eq!(code, "manifest_empty");
    let site: nigh_proto::api::SiteView = fleet.get("/v1/sites/docs").await;
    assert_eq!(site.releases_total, 0);
}

#[tokio::test]
async fn a_body_may_be_zstd_and_may_not_expand_without_end() {
    let fleet = Fleet::start().await;
    fleet.create_site("docs").await;
    let send = |body: Vec<u8>| {
        fleet
            .request(Method::POST, "/v1/sites/docs/releases")
            .header("content-encoding", "zstd")
            .body(body)
            .send()
    };
    let good = serde_json::to_vec(&release_of(&[("index.html", "one")])).unwrap();
    let good = zstd::encode_all(&good[..], 3).unwrap();
    let cut = send(good[..good.len() / 2].to_vec()).await.unwrap();
    assert_eq!(refused(StatusCode::BAD_REQUEST, cut).await, "body_broken");
    let _: ReleaseBegun = expect(StatusCode::CREATED, send(good).await.unwrap()).await;
    let zeros = std::io::Read::take(std::io::repeat(b' '), 300 << 20);
    let bomb = zstd::encode_all(zeros, 3).unwrap();
    let bomb = send(bomb).await.unwrap();
    assert_eq!(refused(StatusCode::PAYLOAD_TOO_LARGE, bomb).await, "body_too_large");
    let gzip = fleet
        .request(Method::POST, "/v1/sites/docs/releases")
        .header("content-encoding", "gzip")
        .body("x")
        .send();
    let code = refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, gzip.await.unwrap()).await;
    assert_eq!(code, "encoding_unknown");
}

#[tokio::test]
async fn a_release_with_missing_blobs_is_not_finalized() {
    let fleet = Fleet::start().await;
    fleet.create_site("docs").await;
    let begun = fleet.begin("docs", &[("a.html", "one"), ("b.html", "two")]).await;
    fleet.upload(&["one"]).await;
    let early = fleet.finalize("docs", &begun).await;
    assert_eq!(refused(StatusCode::CONFLICT, early).await, "release_incomplete");
    fleet.upload(&["two"]).await;
    let view = expect(StatusCode::ACCEPTED, fleet.finalize("docs", &begun).await).await;
    fleet.follow(&view, |view| view.state == ReleaseState::Active).await;
    let again = fleet.finalize("docs", &begun).await;
    assert_eq!(again.status(), StatusCode::ACCEPTED, "finalizing twice is a success");
}

#[tokio::test]
async fn a_manifest_that_lies_about_a_size_is_found_out() {
    let fleet = Fleet::start().await;
    fleet.create_site("docs").await;
    let mut new = release_of(&[("index.html", "one")]);
    new.manifest = new.manifest.replace(" 3 - ", " 4 - ");
    let begun = fleet.post("/v1/sites/docs/releases", &new).await;
    let begun: ReleaseBegun = expect(StatusCode::CREATED, begun).await;
    fleet.upload(&["one"]).await;
    let lie = fleet.finalize("docs", &begun).await;
    assert_eq!(refused(StatusCode::UNPROCESSABLE_ENTITY, lie).await, "size_mismatch");
}

#[tokio::test]
async fn a_pack_that_is_cut_damaged_or_not_one_is_refused() {
    let fleet = Fleet::start().await;
    let send = |body: Vec<u8>| fleet.request(Method::POST, "/v1/packs").body(body).send();
    let good = pack_of(&["some content"]);
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for (body, code) in [
        (good[..good.len() - 1].to_vec(), "pack_invalid"),
        (b"not a pack at all, though long enough".to_vec(), "pack_invalid"),
        (flipped, "digest_mismatch"),
    ] {
        let refusal = send(body).await.unwrap();
        assert_eq!(refused(StatusCode::UNPROCESSABLE_ENTITY, refusal).await, code);
    }
    let digest = Digest::of(b"some content");
    let head = fleet.request(Method::HEAD, &format!("/v1/blobs/{digest}")).send().await.unwrap();
    assert_eq!(head.status(), StatusCode::NOT_FOUND);
    assert_eq!(send(good).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_blob_must_be_what_its_digest_says() {
    let fleet = Fleet::start().await;
    let path = format!("/v1/blobs/{}", Digest::of(b"one"));
    let wrong = fleet.request(Method::PUT, &path).body("two").send().await.unwrap();
    assert_eq!(refused(StatusCode::UNPROCESSABLE_ENTITY, wrong).await, "digest_mismatch");
    let right = fleet.request(Method::PUT, &path).body("one").send().await.unwrap();
    assert_eq!(right.status(), StatusCode::CREATED);
    let nobody = fleet.request(Method::PUT, "/v1/blobs/xyz").body("one").send().await.unwrap();
    assert_eq!(refused(StatusCode::NOT_FOUND, nobody).await, "name_invalid");
}

#[tokio::test]
async fn the_api_describes_itself() {
    let fleet = Fleet::start().await;
    let document: serde_json::Value = fleet.get("/v1/openapi.json").await;
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    for path in ["/v1/sites/{site}/releases/{release}/finalize", "/v1/packs", "/v1/tokens/{id}"] {
        assert!(paths.contains_key(path), "{path}");
    }
}
