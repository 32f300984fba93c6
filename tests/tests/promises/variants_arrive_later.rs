//! Encoded forms are made in the background: a release never waits for one, and then they are served.

use anyhow::{Context, Result, ensure};
use nigh_testkit::tree;
use nigh_tests::{
    Cdn,
    cdn::{fleet, folder},
    curl::Curl,
    eventually,
    patience::SOON,
};

#[tokio::test]
async fn a_release_is_live_at_once_and_smaller_later() -> Result<()> {
    let cdn = Cdn::of(fleet(1)).await?;
    let script = "export const words = ['edge', 'near', 'visitor'];\n".repeat(4000);
    let dir = folder(&[("index.html", "<h1>hi</h1>"), ("app.js", &script)])?;
    cdn.push(dir.path()).await?;
    let curl = Curl::at(&cdn, "fra")?;

    let plain = curl.get("/app.js", &[]).await?;
    assert_eq!((plain.status, plain.header("content-encoding")), (200, None));
    assert_eq!(plain.header("vary"), Some("accept-encoding"));
    assert_eq!(plain.text(), script);

    let mut etags = vec![plain.header("etag").context("an entity tag")?.to_owned()];
    for coding in ["gzip", "zstd", "br"] {
        let field = format!("Accept-Encoding: {coding}");
        let answer = eventually(format!("{coding} is served"), SOON, async || {
            let answer = curl.get("/app.js", &["-H", &field]).await?;
            let found = answer.header("content-encoding");
            ensure!(found == Some(coding), "{found:?}");
            Ok(answer)
        })
        .await;
        assert!(answer.body.len() < script.len() / 10, "{coding}: {} bytes", answer.body.len());
        assert_eq!(answer.header("vary"), Some("accept-encoding"));
        let decoded = curl.get("/app.js", &["--compressed", "-H", &field]).await?;
        assert_eq!(decoded.text(), script, "{coding}");
        etags.push(answer.header("etag").context("an entity tag")?.to_owned());
        let etag = format!("If-None-Match: {}", etags[etags.len() - 1]);
        assert_eq!(curl.get("/app.js", &["-H", &field, "-H", &etag]).await?.status, 304);
    }
    etags.sort_unstable();
    etags.dedup();
    assert_eq!(etags.len(), 4, "every form has an entity tag of its own: {etags:?}");
    let refused = curl.get("/app.js", &["-H", "Accept-Encoding: br;q=0, *;q=0.5"]).await?;
    assert_ne!(refused.header("content-encoding"), Some("br"));

    old_content_keeps_its_forms(&cdn, &curl, dir.path(), &script).await?;
    cdn.fleet.stop().await
}

/// A new release has the encoded forms of old content from the first request on, under whatever name.
async fn old_content_keeps_its_forms(
    cdn: &Cdn,
    curl: &Curl,
    dir: &std::path::Path,
    script: &str,
) -> Result<()> {
    tree::write(dir, "copy.js", script.as_bytes())?;
    tree::write(dir, "index.html", b"<h1>again</h1>")?;
    cdn.push(dir).await?;
    for path in ["/app.js", "/copy.js"] {
        let answer = curl.get(path, &["-H", "Accept-Encoding: br"]).await?;
        assert_eq!(answer.header("content-encoding"), Some("br"), "{path}");
    }
    Ok(())
}
