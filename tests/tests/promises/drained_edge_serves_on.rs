//! An edge that an operator drains leaves the answers and goes on serving.

use anyhow::{Result, ensure};
use nigh_testkit::tree;
use nigh_tests::{Cdn, cdn::folder, eventually, patience::SOON};

const BERLIN: &str = "198.51.100.0/24";

async fn is_named(cdn: &Cdn, edge: &str, is_named: bool) -> Result<()> {
    let address = cdn.address(edge)?;
    eventually(format!("{edge} is named: {is_named}"), SOON, async || {
        let answers = cdn.answers(BERLIN).await?;
        ensure!(!answers.is_empty() && answers.contains(&address) == is_named, "{answers:?}");
        Ok(())
    })
    .await;
    Ok(())
}

#[tokio::test]
async fn a_drained_edge_gets_no_visitors_and_every_release() -> Result<()> {
    let cdn = Cdn::start().await?;
    let dir = folder(&[("index.html", "one")])?;
    cdn.push(dir.path()).await?;
    is_named(&cdn, "fra", true).await?;

    cdn.person.json(&["edge", "drain", "fra"]).await?;
    is_named(&cdn, "fra", false).await?;
    let list = cdn.person.run(&["edge", "list"]).await?.expect(0);
    assert!(list.stdout.contains("drained"), "{list}");
    tree::write(dir.path(), "index.html", b"two")?;
    assert_eq!(cdn.push(dir.path()).await?.live_on(), ["fra", "nyc"]);
    assert_eq!(cdn.text("fra", "/").await?, "two", "who still comes is served");
    is_named(&cdn, "fra", false).await?;

    cdn.person.json(&["edge", "undrain", "fra"]).await?;
    is_named(&cdn, "fra", true).await?;
    cdn.fleet.stop().await
}
