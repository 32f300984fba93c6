//! A preview has a host of its own, is no search engine's business, and goes when its time is over.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nigh_testkit::Visitor;
use nigh_tests::{
    Cdn, Pushed,
    cdn::{SITE, folder},
    eventually,
};

/// The host in `https://HOST:PORT/`.
fn host_of(pushed: &Pushed) -> Result<String> {
    let rest = pushed.url.strip_prefix("https://").context("previews are served over HTTPS")?;
    let end = rest.find([':', '/']).unwrap_or(rest.len());
    Ok(rest[..end].to_owned())
}

/// Waits until no edge shows the preview any more.
async fn is_gone(cdn: &Cdn, host: &str) -> Result<()> {
    for edge in cdn.edges() {
        let http = cdn.fleet.edge(&edge)?.addr("http")?;
        eventually(format!("{host} is gone from {edge}"), Duration::from_secs(15), async || {
            let status = match cdn.fleet.visitor(host, &edge)?.get("/").await {
                Ok(visit) => visit.status,
                // Nobody has a certificate for a host that is not there.
                Err(_) => Visitor::http(host, http)?.get("/").await?.status,
            };
            ensure!(matches!(status, 404 | 410 | 421), "{status}");
            Ok(())
        })
        .await;
    }
    Ok(())
}

#[tokio::test]
async fn a_preview_is_served_beside_the_site_until_it_expires() -> Result<()> {
    let cdn = Cdn::start().await?;
    let (live, next) = (folder(&[("index.html", "live")])?, folder(&[("index.html", "next")])?);
    cdn.push(live.path()).await?;

    let args = ["--preview", "--expires", "8s"];
    let preview = cdn.person.push_with(SITE, next.path(), &args).await?;

    assert_eq!(preview.state, "preview");
    let host = host_of(&preview)?;
    assert!(host.ends_with("--docs.nigh.test"), "{host}");
    for edge in cdn.edges() {
        let visit = cdn.fleet.visitor(&host, &edge)?.get("/").await?;
        assert_eq!((visit.status, visit.text().as_str()), (200, "next"), "{edge}");
        let robots = visit.header("x-robots-tag").unwrap_or_default();
        assert!(robots.contains("noindex"), "{robots}");
        let visit = cdn.visitor(&edge)?.get("/").await?;
        assert_eq!((visit.text().as_str(), visit.header("x-robots-tag")), ("live", None));
    }
    assert!(!cdn.fleet.question(&host, "A")?.ask().await?.data("A").is_empty());

    is_gone(&cdn, &host).await?;
    assert_eq!(cdn.text("fra", "/").await?, "live");
    eventually("control says so", Duration::from_secs(15), async || {
        let state = cdn.release(&preview.release).await?.state;
        ensure!(state.label() == "expired", "{}", state.label());
        Ok(())
    })
    .await;
    cdn.fleet.stop().await
}

#[tokio::test]
async fn a_preview_expires_with_control_gone() -> Result<()> {
    let mut cdn = Cdn::start().await?;
    let (live, next) = (folder(&[("index.html", "live")])?, folder(&[("index.html", "next")])?);
    cdn.push(live.path()).await?;
    let args = ["--preview=try", "--expires", "6s"];
    let preview = cdn.person.push_with(SITE, next.path(), &args).await?;
    let host = host_of(&preview)?;
    assert_eq!(host, "try--docs.nigh.test");
    assert_eq!(cdn.fleet.visitor(&host, "nyc")?.get("/").await?.text(), "next");

    cdn.fleet.control_mut().kill().await?;

    is_gone(&cdn, &host).await?;
    assert_eq!(cdn.text("nyc", "/").await?, "live");
    Ok(())
}
