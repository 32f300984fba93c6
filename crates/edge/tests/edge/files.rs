//! Files: conditions, ranges, encoded forms, methods.

use nigh_proto::{Timestamp, variants::ContentCoding};

use crate::fixture::{Fixture, Release, etag, noise};

const PAGE: &str = "<html>hello hello hello hello hello</html>";

fn site() -> Release {
    Release::new(1).file("index.html", PAGE).file("data.bin", noise(5000))
}

#[tokio::test]
async fn a_file_comes_with_all_that_a_cache_needs() {
    let edge = Fixture::serving(site()).start().await;
    let reply = edge.get("/", &[]).await;
    assert_eq!((reply.status, reply.text().as_str()), (200, PAGE));
    for (name, value) in [
        ("etag", etag(PAGE.as_bytes()).as_str()),
        ("content-type", "text/html; charset=utf-8"),
        ("content-length", &PAGE.len().to_string()),
        ("last-modified", "Sat, 31 Jan 2026 12:00:00 GMT"),
        ("vary", "accept-encoding"),
        ("accept-ranges", "bytes"),
        ("cache-status", "nigh-fra1; hit; detail=push"),
        ("cache-control", "public, max-age=0, must-revalidate"),
        ("server", "nigh"),
    ] {
        assert_eq!(reply.header(name), value, "{name}");
    }
    assert!(!reply.header("date").is_empty());
    assert_eq!(edge.get("/data.bin", &[]).await.header("vary"), "");
    edge.stop().await;
}

#[tokio::test]
async fn head_has_the_fields_of_get_and_no_body() {
    let edge = Fixture::serving(site()).start().await;
    for path in ["/", "/data.bin", "/missing"] {
        let (mut get, head) = (edge.get(path, &[]).await, edge.send("HEAD", path, &[]).await);
        assert!(head.body.is_empty(), "{path}");
        get.headers.retain(|(name, _)| name != "date");
        let headers: Vec<_> =
            head.headers.iter().filter(|(name, _)| name != "date").cloned().collect();
        assert_eq!((head.status, headers), (get.status, get.headers), "{path}");
    }
    edge.stop().await;
}

#[tokio::test]
async fn preconditions_follow_rfc_9110() {
    let edge = Fixture::serving(site()).start().await;
    let tag = etag(PAGE.as_bytes());
    let weak = format!("W/{tag}");
    let (same, before) = ("Sat, 31 Jan 2026 12:00:00 GMT", "Fri, 30 Jan 2026 12:00:00 GMT");
    for (name, value, status) in [
        ("If-None-Match", tag.as_str(), 304),
        ("If-None-Match", weak.as_str(), 304),
        ("If-None-Match", "*", 304),
        ("If-None-Match", "\"other\"", 200),
        ("If-Modified-Since", same, 304),
        ("If-Modified-Since", before, 200),
        ("If-Match", tag.as_str(), 200),
        ("If-Match", weak.as_str(), 412),
        ("If-Match", "\"other\"", 412),
        ("If-Unmodified-Since", before, 412),
        ("If-Unmodified-Since", same, 200),
    ] {
        let reply = edge.get("/", &[(name, value)]).await;
        assert_eq!(reply.status, status, "{name}: {value}");
        if status == 304 {
            assert!(reply.body.is_empty());
            assert_eq!(reply.header("etag"), tag);
            assert_eq!(reply.header("vary"), "accept-encoding");
            assert!(!reply.header("cache-control").is_empty());
        }
    }
    edge.stop().await;
}

#[tokio::test]
async fn ranges_of_small_and_large_files_are_exact() {
    let large = noise(3 << 20);
    let release = site().file("video.mp4", large.clone());
    let edge = Fixture::serving(release).start().await;
    for (path, bytes) in [("/data.bin", noise(5000)), ("/video.mp4", large)] {
        let reply = edge.get(path, &[("Range", "bytes=10-4009")]).await;
        assert_eq!(reply.status, 206, "{path}: {:?}", reply.headers);
        assert!(reply.body == bytes[10..4010], "{path}");
        let expected = format!("bytes 10-4009/{}", bytes.len());
        assert_eq!(reply.header("content-range"), expected);
        assert_eq!(reply.header("content-length"), "4000");

        let reply = edge.get(path, &[("Range", "bytes=0-0,2000-2009")]).await;
        assert_eq!(reply.status, 206);
        assert!(reply.header("content-type").starts_with("multipart/byteranges; boundary="));
        assert_eq!(reply.header("content-length"), reply.body.len().to_string());
        let part = &bytes[2000..2010];
        assert!(reply.body.windows(10).any(|window| window == part), "{path}");

        let reply = edge.get(path, &[("Range", "bytes=99999999-")]).await;
        assert_eq!(reply.status, 416);
        assert_eq!(reply.header("content-range"), format!("bytes */{}", bytes.len()));

        let whole = edge.get(path, &[("Range", "bytes=0-3"), ("If-Range", "\"other\"")]).await;
        assert_eq!(whole.status, 200);
        assert!(whole.body == bytes, "{path}");
        let part = edge.get(path, &[("Range", "bytes=0-3"), ("If-Range", &etag(&bytes))]).await;
        assert_eq!((part.status, part.body.len()), (206, 4));
    }
    edge.stop().await;
}

#[tokio::test]
async fn the_best_form_that_the_client_takes_is_sent() {
    let release = Release::new(1)
        .file("app.js", "a long script ".repeat(100))
        .variant("app.js", ContentCoding::Br, b"brotli bytes")
        .variant("app.js", ContentCoding::Gzip, b"longer gzip bytes");
    let edge = Fixture::serving(release).start().await;
    for (accepted, encoding, body) in [
        ("br, gzip", "br", "brotli bytes"),
        ("gzip", "gzip", "longer gzip bytes"),
        ("gzip;q=1, br;q=0.5", "gzip", "longer gzip bytes"),
        ("identity", "", ""),
        ("br;q=0", "", ""),
    ] {
        let reply = edge.get("/app.js", &[("Accept-Encoding", accepted)]).await;
        assert_eq!(reply.header("content-encoding"), encoding, "{accepted}");
        assert_eq!(reply.header("vary"), "accept-encoding");
        if !encoding.is_empty() {
            assert_eq!(reply.text(), body);
            assert_eq!(reply.header("etag"), etag(body.as_bytes()));
            assert_eq!(reply.header("content-length"), body.len().to_string());
        }
    }
    let range = [("Accept-Encoding", "br"), ("Range", "bytes=2-5")];
    let reply = edge.get("/app.js", &range).await;
    assert_eq!((reply.status, reply.text().as_str()), (206, "long"));
    assert_eq!(reply.header("content-encoding"), "");
    edge.stop().await;
}

#[tokio::test]
async fn the_stored_frame_serves_as_zstd_until_a_variant_is_made() {
    let text = "a long text that repeats itself ".repeat(200);
    let edge = Fixture::serving(Release::new(1).file("a.txt", text.clone())).start().await;
    for _from in ["disk", "memory"] {
        let reply = edge.get("/a.txt", &[("Accept-Encoding", "zstd, br")]).await;
        assert_eq!(reply.header("content-encoding"), "zstd");
        assert!(reply.body.len() < text.len() / 4);
        assert_eq!(reply.body[..4], [0x28, 0xb5, 0x2f, 0xfd], "a zstd frame begins with its magic");
        assert_ne!(reply.header("etag"), etag(text.as_bytes()));
    }
    assert_eq!(edge.get("/a.txt", &[]).await.text(), text);
    edge.stop().await;
}

#[tokio::test]
async fn methods_beside_get_head_and_options_are_refused_with_what_is_allowed() {
    let release = site().header("/*", "Access-Control-Allow-Origin", "*");
    let edge = Fixture::serving(release).start().await;
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE"] {
        let reply = edge.send(method, "/", &[("Content-Length", "0")]).await;
        assert_eq!((reply.status, reply.header("allow")), (405, "GET, HEAD, OPTIONS"), "{method}");
    }
    let reply = edge.send("OPTIONS", "/", &[]).await;
    assert_eq!((reply.status, reply.header("allow")), (204, "GET, HEAD, OPTIONS"));
    assert_eq!(reply.header("access-control-allow-origin"), "*");
    edge.stop().await;
}

#[tokio::test]
async fn immutable_files_of_an_earlier_release_stay_reachable_and_pages_do_not() {
    let old = Release::new(1)
        .file("assets/app.3f2a9c1b.js", "old script")
        .file("old.html", "old page")
        .file("plain.js", "no hash");
    let mut fixture = Fixture::new();
    fixture.list(&old, nigh_proto::state::ReleasePurpose::Serve);
    fixture.supersede(Timestamp::from_unix_ms(4_000_000_000_000));
    fixture.activate(&Release::new(2).file("index.html", PAGE).file("404.html", "nothing here"));
    let edge = fixture.start().await;
    let reply = edge.get("/assets/app.3f2a9c1b.js", &[]).await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "old script"));
    for path in ["/old", "/old.html", "/plain.js"] {
        let reply = edge.get(path, &[]).await;
        assert_eq!((reply.status, reply.text().as_str()), (404, "nothing here"), "{path}");
    }
    edge.stop().await;

    for release in &mut fixture.site().releases[1..] {
        let until = Timestamp::from_unix_ms(1);
        release.purpose = nigh_proto::state::ReleasePurpose::Grace { until };
    }
    fixture.write_state();
    let edge = fixture.start().await;
    assert_eq!(edge.get("/assets/app.3f2a9c1b.js", &[]).await.status, 404);
    edge.stop().await;
}
