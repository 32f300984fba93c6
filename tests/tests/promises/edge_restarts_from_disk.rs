//! An edge needs nobody to start: what it served before, it serves again.

use anyhow::Result;
use nigh_testkit::tree::SampleSite;
use nigh_tests::{Cdn, cdn::fleet};

#[tokio::test]
async fn an_edge_that_lost_power_serves_from_its_own_disk() -> Result<()> {
    let mut cdn = Cdn::of(fleet(1)).await?;
    let dir = tempfile::tempdir()?;
    SampleSite::pages(40).write(dir.path())?;
    let pushed = cdn.push(dir.path()).await?;
    let etag = |visit: nigh_testkit::Visit| visit.header("etag").map(str::to_owned);
    let before = etag(cdn.visitor("fra")?.get("/").await?);
    cdn.fleet.control_mut().kill().await?;

    for _ in 0..3 {
        cdn.kill("fra").await?;
        cdn.restart("fra").await?;
        // Ready means ready: the very first request is answered.
        let first = cdn.visitor("fra")?.get("/").await?;
        assert_eq!(first.status, 200);
        assert_eq!(etag(first), before);
        cdn.serves(dir.path()).await?;
    }

    cdn.fleet.control_mut().start().await?;
    cdn.fleet.all_current().await?;
    assert_eq!(cdn.active().await?.to_string(), pushed.release);
    cdn.fleet.stop().await
}
