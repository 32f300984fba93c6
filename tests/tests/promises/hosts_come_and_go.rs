//! A site answers to every host that it was given, with a certificate, and to no other.

use anyhow::{Result, ensure};
use nigh_testkit::Visitor;
use nigh_tests::{
    Cdn,
    cdn::{SITE, folder},
    eventually,
    patience::SOON,
};

const HOST: &str = "www.example.org";

async fn plain_status(cdn: &Cdn, edge: &str) -> Result<u16> {
    let http = cdn.fleet.edge(edge)?.addr("http")?;
    Ok(Visitor::http(HOST, http)?.get("/").await?.status)
}

#[tokio::test]
async fn a_host_is_served_everywhere_once_it_is_added_and_nowhere_once_it_is_removed() -> Result<()>
{
    let cdn = Cdn::start().await?;
    let dir = folder(&[("index.html", "hello")])?;
    cdn.push(dir.path()).await?;
    for edge in cdn.edges() {
        assert_eq!(plain_status(&cdn, &edge).await?, 404, "{edge}");
    }

    cdn.person.json(&["host", "add", HOST, "--site", SITE]).await?;
    for edge in cdn.edges() {
        eventually(format!("{HOST} is served at {edge}"), SOON, async || {
            let visit = cdn.fleet.visitor(HOST, &edge)?.get("/").await?;
            ensure!(visit.text() == "hello", "{}", visit.status);
            Ok(())
        })
        .await;
    }

    cdn.person.json(&["host", "rm", HOST, "--site", SITE, "--yes"]).await?;
    for edge in cdn.edges() {
        eventually(format!("{HOST} is gone from {edge}"), SOON, async || {
            let status = plain_status(&cdn, &edge).await?;
            ensure!(status == 404, "{status}");
            Ok(())
        })
        .await;
        assert_eq!(cdn.text(&edge, "/").await?, "hello", "{edge}");
    }

    cdn.person.json(&["site", "delete", SITE, "--yes"]).await?;
    for edge in cdn.edges() {
        let http = cdn.fleet.edge(&edge)?.addr("http")?;
        eventually(format!("the site is gone from {edge}"), SOON, async || {
            let status = Visitor::http(&cdn.host(), http)?.get("/").await?.status;
            ensure!(status == 404, "{status}");
            Ok(())
        })
        .await;
    }
    let reply = cdn.fleet.question(&cdn.host(), "A")?.ask().await?;
    assert!(reply.answers.is_empty(), "{}", reply.text);
    cdn.fleet.stop().await
}
