//! The release before is live again at once, and no bytes move.

use anyhow::Result;
use nigh_testkit::tree;
use nigh_tests::{
    Cdn,
    cdn::{SITE, folder},
};

#[tokio::test]
async fn the_release_before_or_any_other_is_live_again_without_an_upload() -> Result<()> {
    let cdn = Cdn::start().await?;
    let dir = folder(&[("index.html", "one")])?;
    let mut releases = Vec::new();
    for text in ["one", "two", "three"] {
        tree::write(dir.path(), "index.html", text.as_bytes())?;
        releases.push(cdn.push(dir.path()).await?.release);
    }
    let stored = cdn.fleet.client().status().await?.blobs_total;

    let back = cdn.person.json(&["rollback", "--site", SITE]).await?;
    assert_eq!(back["id"], releases[1].as_str());
    assert_eq!(back["state"], "active");
    for edge in cdn.edges() {
        assert_eq!(cdn.text(&edge, "/").await?, "two", "{edge}");
    }

    let short = &releases[0][releases[0].len() - 10..];
    let back = cdn.person.json(&["rollback", short, "--site", SITE]).await?;
    assert_eq!(back["id"], releases[0].as_str());
    for edge in cdn.edges() {
        assert_eq!(cdn.text(&edge, "/").await?, "one", "{edge}");
    }

    let forward = cdn.person.json(&["release", "activate", &releases[2], "--site", SITE]).await?;
    assert_eq!(forward["id"], releases[2].as_str());
    assert_eq!(cdn.text("nyc", "/").await?, "three");
    assert_eq!(cdn.fleet.client().status().await?.blobs_total, stored, "no bytes moved");
    cdn.fleet.stop().await
}

#[tokio::test]
async fn where_there_is_nothing_to_go_back_to_people_are_told() -> Result<()> {
    let cdn = Cdn::start().await?;
    let dir = folder(&[("index.html", "one")])?;
    cdn.person.run(&["rollback", "--site", SITE]).await?.expect(5).says(&[SITE]);
    cdn.push(dir.path()).await?;

    cdn.person.run(&["rollback", "--site", SITE]).await?.expect(5).says(&["was not rolled back"]);
    let unknown = ["rollback", "zzzzzzzzzz", "--site", SITE];
    cdn.person.run(&unknown).await?.expect(4).says(&["zzzzzzzzzz", "nigh release list"]);
    cdn.person.run(&["rollback", "--site", "dosc"]).await?.expect(4).says(&["dosc", SITE]);

    assert_eq!(cdn.text("fra", "/").await?, "one", "nothing is lost");
    cdn.fleet.stop().await
}
