//! Visitors are sent elsewhere within three seconds when an edge dies or hangs.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nigh_tests::{Cdn, cdn::folder, eventually, patience::SOON};

/// The promise, from the death of an edge to the first answer without it.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(3);
const BERLIN: &str = "198.51.100.0/24";

async fn answers_become(
    cdn: &Cdn,
    what: &str,
    within: Duration,
    fits: impl Fn(&[String]) -> bool,
) -> Duration {
    let start = Instant::now();
    eventually(what, within, async || {
        let answers = cdn.answers(BERLIN).await?;
        ensure!(fits(&answers), "{answers:?}");
        Ok(())
    })
    .await;
    start.elapsed()
}

#[tokio::test]
async fn an_edge_that_was_killed_or_hangs_leaves_the_answers_and_comes_back() -> Result<()> {
    let mut cdn = Cdn::start().await?;
    let dir = folder(&[("index.html", "hello")])?;
    cdn.push(dir.path()).await?;
    let (fra, nyc) = (cdn.address("fra")?, cdn.address("nyc")?);
    answers_become(&cdn, "Berlin is near fra", SOON, |found| found.contains(&fra)).await;

    cdn.kill("fra").await?;
    let only_nyc = |found: &[String]| found == [nyc.clone()];
    answers_become(&cdn, "fra, killed, is forgotten", FORGOTTEN_WITHIN, only_nyc).await;
    cdn.restart("fra").await?;
    answers_become(&cdn, "fra is back", SOON, |found| found.contains(&fra)).await;

    cdn.fleet.edge("fra")?.process.pause()?;
    answers_become(&cdn, "fra, hanging, is forgotten", FORGOTTEN_WITHIN, only_nyc).await;
    cdn.fleet.edge("fra")?.process.resume()?;
    answers_become(&cdn, "fra is back", SOON, |found| found.contains(&fra)).await;
    cdn.fleet.stop().await
}

#[tokio::test]
async fn when_every_edge_seems_down_answers_are_as_if_all_were_up() -> Result<()> {
    let mut cdn = Cdn::start().await?;
    let dir = folder(&[("index.html", "hello")])?;
    cdn.push(dir.path()).await?;
    let (fra, nyc) = (cdn.address("fra")?, cdn.address("nyc")?);
    cdn.kill("fra").await?;
    answers_become(&cdn, "only nyc is up", SOON, |found| found == [nyc.clone()]).await;

    cdn.kill("nyc").await?;

    // A wrong address beats none: an edge that only DNS cannot reach still serves.
    answers_become(&cdn, "Berlin is near fra", SOON, |found| found.contains(&fra)).await;
    let question = cdn.fleet.question(&cdn.host(), "A")?.seen_from("192.0.2.0/24");
    assert!(question.ask().await?.data("A").contains(&nyc.as_str()), "New York is near nyc");
    Ok(())
}
