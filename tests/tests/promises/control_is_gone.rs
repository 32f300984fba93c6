//! With control gone every site stays up, DNS goes on failing over, and machines start from disk.

use std::time::Duration;

use anyhow::{Result, ensure};
use nigh_testkit::tree::{self, SampleSite};
use nigh_tests::{Cdn, cdn::SITE, eventually, patience::SOON};

const BERLIN: &str = "198.51.100.0/24";

async fn is_named(cdn: &Cdn, edge: &str, is_named: bool, within: Duration) -> Result<()> {
    let address = cdn.address(edge)?;
    let what = format!("{edge} is {} the answers", if is_named { "in" } else { "out of" });
    eventually(what, within, async || {
        let answers = cdn.answers(BERLIN).await?;
        ensure!(!answers.is_empty() && answers.contains(&address) == is_named, "{answers:?}");
        Ok(())
    })
    .await;
    Ok(())
}

#[tokio::test]
async fn everything_but_pushing_goes_on_and_pushing_comes_back() -> Result<()> {
    let mut cdn = Cdn::start().await?;
    let dir = tempfile::tempdir()?;
    SampleSite::pages(30).write(dir.path())?;
    cdn.push(dir.path()).await?;

    cdn.fleet.control_mut().kill().await?;
    let text = dir.path().to_string_lossy().into_owned();
    let push = ["push", &text, "--site", SITE, "--timeout", "3s"];
    cdn.person.run(&push).await?.expect(9).says(&["cannot be reached", "NIGH_API_URL"]);

    cdn.serves(dir.path()).await?;
    is_named(&cdn, "fra", true, SOON).await?;
    cdn.kill("fra").await?;
    is_named(&cdn, "fra", false, SOON).await?;
    is_named(&cdn, "nyc", true, SOON).await?;

    cdn.kill("ns1").await?;
    cdn.restart("ns1").await?;
    is_named(&cdn, "fra", false, SOON).await?;
    cdn.restart("fra").await?;
    is_named(&cdn, "fra", true, SOON).await?;
    cdn.serves(dir.path()).await?;

    cdn.fleet.control_mut().start().await?;
    cdn.fleet.all_current().await?;
    tree::write(dir.path(), "index.html", b"after")?;
    assert_eq!(cdn.push(dir.path()).await?.live_on(), ["fra", "nyc"]);
    cdn.serves(dir.path()).await?;
    cdn.fleet.stop().await
}
