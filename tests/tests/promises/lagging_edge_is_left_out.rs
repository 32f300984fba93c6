//! An edge that has not caught up with a site serves the release before, and DNS sends nobody there.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nigh_proto::api::NewSite;
use nigh_testkit::tree;
use nigh_tests::{
    Cdn, Run,
    cdn::{SITE, fleet, folder},
    eventually,
    patience::SOON,
    proxy::{Line, Proxy},
};

const NEW_YORK: &str = "192.0.2.0/24";

async fn push(cdn: &Cdn, dir: &std::path::Path) -> Result<Run> {
    cdn.person.run(&["push", &dir.to_string_lossy(), "--site", SITE, "--json"]).await
}

/// Whether New York is sent to nyc for `host`.
async fn names_nyc(cdn: &Cdn, host: &str) -> Result<bool> {
    let reply = cdn.fleet.question(host, "A")?.seen_from(NEW_YORK).ask().await?;
    let answers = reply.data("A");
    ensure!(!answers.is_empty(), "{}", reply.text);
    Ok(answers.contains(&cdn.address("nyc")?.as_str()))
}

async fn becomes_named(cdn: &Cdn, is_named: bool) {
    eventually(format!("nyc is named: {is_named}"), SOON, async || {
        ensure!(names_nyc(cdn, &cdn.host()).await? == is_named, "not yet");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn an_edge_that_control_cannot_reach_is_left_out_until_it_has_caught_up() -> Result<()> {
    let deadline = "[sites]\nstage_deadline_ms = 1000";
    let mut cdn = Cdn::of(fleet(2).control_config(deadline)?).await?;
    let machines = cdn.fleet.control().listeners().get("machines").context("control's port")?;
    let proxy = Proxy::to(machines, Line::Open).await?;
    cdn.reconfigure("nyc", &format!("[control]\nurl = \"{}\"", proxy.api_url())).await?;
    cdn.fleet.all_current().await?;
    let dir = folder(&[("index.html", "one")])?;
    cdn.push(dir.path()).await?;
    let blog = NewSite { name: "blog".parse()?, hosts: Vec::new() };
    cdn.fleet.client().create_site(&blog).await?;
    cdn.person.push("blog", dir.path()).await?;
    becomes_named(&cdn, true).await;

    proxy.set(Line::CutAfter(0));
    tree::write(dir.path(), "index.html", b"two")?;
    let run = push(&cdn, dir.path()).await?.expect(7);
    assert_eq!(run.json()?["state"], "active");

    becomes_named(&cdn, false).await;
    assert_eq!(cdn.text("fra", "/").await?, "two");
    assert_eq!(cdn.text("nyc", "/").await?, "one", "it serves what it has");
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        assert!(!names_nyc(&cdn, &cdn.host()).await?, "nyc lags and is named");
    }
    assert!(names_nyc(&cdn, "blog.nigh.test").await?, "the other site is up to date there");

    proxy.set(Line::Open);
    eventually("nyc is named again, once it serves the release", SOON, async || {
        ensure!(names_nyc(&cdn, &cdn.host()).await?, "not yet");
        assert_eq!(cdn.text("nyc", "/").await?, "two", "named before it had caught up");
        Ok(())
    })
    .await;
    cdn.fleet.stop().await
}

#[tokio::test]
async fn an_edge_that_was_away_catches_up_when_it_is_back() -> Result<()> {
    let deadline = "[sites]\nstage_deadline_ms = 1000";
    let mut cdn = Cdn::of(fleet(2).control_config(deadline)?).await?;
    let dir = folder(&[("index.html", "one")])?;
    cdn.push(dir.path()).await?;
    cdn.kill("nyc").await?;

    tree::write(dir.path(), "index.html", b"two")?;
    let run = push(&cdn, dir.path()).await?.expect(7).says(&["nyc"]);

    let pushed = nigh_tests::Pushed::read(run.json()?)?;
    assert_eq!(pushed.live_on(), ["fra"]);
    becomes_named(&cdn, false).await;
    cdn.restart("nyc").await?;
    cdn.shows("nyc", "/", "two").await;
    becomes_named(&cdn, true).await;
    cdn.fleet.stop().await
}

#[tokio::test]
async fn an_edge_that_hangs_does_not_hold_up_a_push_for_longer_than_the_deadline() -> Result<()> {
    let deadline = "[sites]\nstage_deadline_ms = 1000";
    let cdn = Cdn::of(fleet(2).control_config(deadline)?).await?;
    let dir = folder(&[("index.html", "one")])?;
    cdn.push(dir.path()).await?;
    cdn.fleet.edge("nyc")?.process.pause()?;

    tree::write(dir.path(), "index.html", b"two")?;
    let text = dir.path().to_string_lossy();
    let push = cdn.person.start(&["push", &text, "--site", SITE, "--json"])?;
    cdn.shows("fra", "/", "two").await;
    push.end().await?.expect(7);

    becomes_named(&cdn, false).await;
    cdn.fleet.edge("nyc")?.process.resume()?;
    cdn.shows("nyc", "/", "two").await;
    becomes_named(&cdn, true).await;
    cdn.fleet.stop().await
}

#[tokio::test]
async fn a_release_that_no_edge_can_stage_waits_and_the_site_stays_as_it_was() -> Result<()> {
    let deadline = "[sites]\nstage_deadline_ms = 500";
    let cdn = Cdn::of(fleet(1).control_config(deadline)?).await?;
    let dir = folder(&[("index.html", "one")])?;
    let before = cdn.push(dir.path()).await?.release;
    cdn.fleet.edge("fra")?.process.pause()?;

    tree::write(dir.path(), "index.html", b"two")?;
    let text = dir.path().to_string_lossy();
    let push = ["push", &text, "--site", SITE, "--timeout", "3s"];
    let run = cdn.person.run(&push).await?.expect(8);
    assert!(run.stdout.contains("follow it: nigh release show"), "{run}");
    assert_eq!(cdn.active().await?.to_string(), before, "nobody could serve the new one");

    cdn.fleet.edge("fra")?.process.resume()?;
    cdn.shows("fra", "/", "two").await;
    cdn.fleet.stop().await
}
