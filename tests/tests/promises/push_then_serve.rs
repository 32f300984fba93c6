//! A folder that is pushed is served by every edge, as browsers, caches and `curl` expect.

use anyhow::Result;
use nigh_testkit::tree::{self, SampleSite};
use nigh_tests::{
    Cdn,
    cdn::{fleet, folder},
    curl::Curl,
};

#[tokio::test]
async fn every_file_comes_back_from_every_edge() -> Result<()> {
    let cdn = Cdn::of(fleet(3)).await?;
    let dir = tempfile::tempdir()?;
    SampleSite::pages(60).write(dir.path())?;
    tree::write(dir.path(), ".well-known/security.txt", b"Contact: mailto:a@nigh.test\n")?;
    tree::write(dir.path(), "with space/ü & 100%.txt", "ü".as_bytes())?;
    tree::write(dir.path(), "empty.txt", b"")?;

    let pushed = cdn.push(dir.path()).await?;

    assert_eq!(pushed.state, "active");
    assert_eq!(pushed.live_on(), ["fra", "nyc", "sin"]);
    assert_eq!((pushed.files_total, pushed.files_reused), (63, 0));
    assert!(pushed.bytes_sent > 0, "{}", pushed.json);
    assert_eq!(cdn.active().await?.to_string(), pushed.release);
    cdn.serves(dir.path()).await?;
    cdn.fleet.stop().await
}

const SITE: &[(&str, &str)] = &[
    ("index.html", "<h1>front</h1>"),
    ("about.html", "<h1>about</h1>"),
    ("docs/index.html", "<h1>docs</h1>"),
    ("404.html", "<h1>nothing here</h1>"),
    ("docs/404.html", "<h1>no such document</h1>"),
    ("assets/app.3f2a9c1b.js", "console.log(1)"),
    ("digits.txt", "0123456789"),
    (
        "_redirects",
        "/old /about 301\n/blog/* /posts/:splat 302\n/item/:id /items/:id?from=item 308\n\
         /about /never 301\n/gone / 410\n/up /docs/ 301!\n",
    ),
    (
        "_headers",
        "/*\n  X-Frame-Options: DENY\n/assets/*\n  Cache-Control: public, max-age=31536000, immutable\n",
    ),
];

#[tokio::test]
async fn answers_are_what_http_clients_expect() -> Result<()> {
    let cdn = Cdn::of(fleet(1)).await?;
    let dir = folder(SITE)?;
    tree::write(dir.path(), "long.txt", &b"0123456789".repeat(300))?;
    cdn.push(dir.path()).await?;
    let curl = Curl::at(&cdn, "fra")?;

    both_versions_of_http(&curl).await?;
    plain_http_leads_to_https(&curl).await?;
    preconditions(&curl).await?;
    ranges(&curl).await?;
    pages_have_one_url(&curl).await?;
    missing_pages(&curl).await?;
    redirect_rules(&curl).await?;
    header_rules(&curl).await?;
    methods(&curl).await?;
    what_is_nobodys_business(&curl).await?;
    cdn.fleet.stop().await
}

async fn both_versions_of_http(curl: &Curl) -> Result<()> {
    for (option, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let answer = curl.get("/", &[option]).await?;
        assert_eq!((answer.status, answer.version.as_str()), (200, version));
        assert_eq!(answer.text(), "<h1>front</h1>");
        assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(answer.header("content-length"), Some("14"));
        assert!(answer.header("cache-status").is_some_and(|value| value.contains("hit")));
    }
    Ok(())
}

async fn plain_http_leads_to_https(curl: &Curl) -> Result<()> {
    let answer = curl.get_plain("/docs/?a=b&c", &[]).await?;
    assert!(matches!(answer.status, 301 | 308), "{}", answer.status);
    let location = format!("{}/docs/?a=b&c", curl.origin());
    assert_eq!(answer.header("location"), Some(location.as_str()));
    Ok(())
}

async fn preconditions(curl: &Curl) -> Result<()> {
    let whole = curl.get("/digits.txt", &[]).await?;
    let etag = whole.header("etag").expect("every file has an entity tag").to_owned();
    assert!(etag.starts_with('"'), "strong: {etag}");
    let same = curl.get("/digits.txt", &["-H", &format!("If-None-Match: \"x\", {etag}")]).await?;
    assert_eq!((same.status, same.body.len()), (304, 0));
    for name in ["etag", "cache-control", "vary", "x-frame-options"] {
        assert_eq!(same.header(name), whole.header(name), "{name}");
    }
    let other = curl.get("/digits.txt", &["-H", "If-None-Match: \"x\""]).await?;
    assert_eq!(other.status, 200);
    let failed = curl.get("/digits.txt", &["-H", "If-Match: \"x\""]).await?;
    assert_eq!(failed.status, 412);
    Ok(())
}

async fn ranges(curl: &Curl) -> Result<()> {
    for (range, status, body, content_range) in [
        ("bytes=0-3", 206, "0123", Some("bytes 0-3/10")),
        ("bytes=-2", 206, "89", Some("bytes 8-9/10")),
        ("bytes=8-99", 206, "89", Some("bytes 8-9/10")),
        ("bytes=10-", 416, "", Some("bytes */10")),
        ("lines=1-2", 200, "0123456789", None),
    ] {
        let answer = curl.get("/digits.txt", &["-H", &format!("Range: {range}")]).await?;
        assert_eq!(answer.status, status, "{range}");
        assert_eq!(answer.header("content-range"), content_range, "{range}");
        assert!(status == 416 || answer.text() == body, "{range}: {}", answer.text());
    }
    // Far apart: ranges that lie close together may be sent as one.
    let several = curl.get("/long.txt", &["-H", "Range: bytes=0-1,2000-2001"]).await?;
    assert_eq!(several.status, 206);
    let media_type = several.header("content-type").unwrap_or_default();
    assert!(media_type.starts_with("multipart/byteranges; boundary="), "{media_type}");
    let text = several.text();
    assert!(text.contains("bytes 0-1/3000") && text.contains("bytes 2000-2001/3000"), "{text}");
    Ok(())
}

async fn pages_have_one_url(curl: &Curl) -> Result<()> {
    for (path, location) in [
        ("/index.html?q=1", "/?q=1"),
        ("/about.html", "/about"),
        ("/docs", "/docs/"),
        ("/docs/index.html", "/docs/"),
    ] {
        let answer = curl.get(path, &[]).await?;
        assert_eq!((answer.status, answer.header("location")), (308, Some(location)), "{path}");
    }
    assert_eq!(curl.get("/about", &[]).await?.text(), "<h1>about</h1>");
    Ok(())
}

async fn missing_pages(curl: &Curl) -> Result<()> {
    for (path, page) in [
        ("/nope", "<h1>nothing here</h1>"),
        ("/docs/nope", "<h1>no such document</h1>"),
        ("/docs/a/b/c.png", "<h1>no such document</h1>"),
    ] {
        let answer = curl.get(path, &[]).await?;
        assert_eq!((answer.status, answer.text().as_str()), (404, page), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
    }
    Ok(())
}

async fn redirect_rules(curl: &Curl) -> Result<()> {
    for (path, status, location) in [
        ("/old", 301, Some("/about")),
        ("/old/?x=1", 301, Some("/about?x=1")),
        ("/blog/2024/one", 302, Some("/posts/2024/one")),
        ("/item/7", 308, Some("/items/7?from=item")),
        ("/up", 301, Some("/docs/")),
        // A file that exists wins over a rule without force.
        ("/about", 200, None),
        ("/gone", 410, None),
    ] {
        let answer = curl.get(path, &[]).await?;
        assert_eq!((answer.status, answer.header("location")), (status, location), "{path}");
    }
    Ok(())
}

async fn header_rules(curl: &Curl) -> Result<()> {
    let asset = curl.get("/assets/app.3f2a9c1b.js", &[]).await?;
    assert_eq!(asset.header("cache-control"), Some("public, max-age=31536000, immutable"));
    let page = curl.get("/", &[]).await?;
    assert!(page.header("cache-control").is_some_and(|value| value.contains("must-revalidate")));
    for answer in [asset, page] {
        assert_eq!(answer.header("x-frame-options"), Some("DENY"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    Ok(())
}

async fn methods(curl: &Curl) -> Result<()> {
    let (get, head) =
        (curl.get("/digits.txt", &[]).await?, curl.get("/digits.txt", &["-I"]).await?);
    assert_eq!(head.status, 200);
    for name in ["content-length", "content-type", "etag", "cache-control", "accept-ranges"] {
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
    assert_eq!(head.header("content-length"), Some("10"));
    let options = curl.get("/digits.txt", &["-X", "OPTIONS"]).await?;
    assert!(options.header("allow").is_some_and(|allow| allow.contains("GET")), "{options:?}");
    let post = curl.get("/digits.txt", &["-d", "x"]).await?;
    assert_eq!(post.status, 405);
    assert!(post.header("allow").is_some_and(|allow| allow.contains("HEAD")), "{post:?}");
    Ok(())
}

async fn what_is_nobodys_business(curl: &Curl) -> Result<()> {
    for path in ["/_redirects", "/_headers", "/../../etc/passwd", "/%2e%2e/x", "/a%2fb", "/a%00"] {
        let answer = curl.get(path, &[]).await?;
        assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.status);
    }
    let stranger = curl.clone().of_host("other.example").get_plain("/", &[]).await?;
    assert_eq!(stranger.status, 404);
    Ok(())
}
