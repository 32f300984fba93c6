//! Releases stay until somebody deletes them, and a live one cannot be deleted.

use anyhow::{Context, Result};
use nigh_testkit::tree;
use nigh_tests::{
    Cdn,
    cdn::{SITE, fleet, folder},
};
use serde_json::Value;

async fn ids(cdn: &Cdn) -> Result<Vec<String>> {
    let list = cdn.person.json(&["release", "list", "--site", SITE]).await?;
    let items = list["items"].as_array().context("no items")?;
    Ok(items.iter().filter_map(|item| item["id"].as_str().map(str::to_owned)).collect())
}

#[tokio::test]
async fn the_newest_stay_and_the_live_one_always_does() -> Result<()> {
    let cdn = Cdn::of(fleet(1).control_config("[sites]\nkeep_releases = 4")?).await?;
    let dir = folder(&[("index.html", "0")])?;
    let mut releases = Vec::new();
    for number in 0..4 {
        tree::write(dir.path(), "index.html", format!("{number}").as_bytes())?;
        let text = format!("number {number}");
        let pushed = cdn.person.push_with(SITE, dir.path(), &["--message", &text]).await?;
        releases.insert(0, pushed.release);
    }
    assert_eq!(ids(&cdn).await?, releases, "newest first");
    let shown = cdn.person.json(&["release", "show", &releases[1], "--site", SITE]).await?;
    assert_eq!(shown["message"], "number 2");

    let live = ["release", "delete", &releases[0], "--site", SITE, "--yes"];
    cdn.person.run(&live).await?.expect(5);
    cdn.person.json(&["rollback", &releases[3], "--site", SITE]).await?;
    cdn.person.json(&["release", "delete", &releases[1], "--site", SITE, "--yes"]).await?;
    let gone = ["release", "show", &releases[1], "--site", SITE];
    cdn.person.run(&gone).await?.expect(4);

    let pruned = cdn.person.json(&["release", "prune", "--keep", "1", "--site", SITE]).await?;
    assert_eq!(pruned["releases"], Value::from(vec![releases[2].as_str()]));
    assert_eq!(ids(&cdn).await?, [releases[0].as_str(), &releases[3]]);
    assert_eq!(cdn.text("fra", "/").await?, "0", "the oldest is live");
    cdn.fleet.stop().await
}
