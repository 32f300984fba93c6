//! Who loaded a page before a release still gets the files that it names; the page itself is new at once.

use std::time::Duration;

use anyhow::{Result, ensure};
use nigh_tests::{
    Cdn,
    cdn::{fleet, folder},
    eventually,
};

const BEFORE: &[(&str, &str)] = &[
    ("index.html", "<script src=/assets/app.3f2a9c1b.js>"),
    ("old.html", "old"),
    ("assets/app.3f2a9c1b.js", "one"),
    ("forever/logo.svg", "<svg/>"),
    ("data.json", "1"),
    ("_headers", "/forever/*\n  Cache-Control: public, max-age=31536000, immutable\n"),
];
const AFTER: &[(&str, &str)] =
    &[("index.html", "<script src=/assets/app.77aa00b1.js>"), ("assets/app.77aa00b1.js", "two")];

#[tokio::test]
async fn hashed_and_immutable_files_outlive_their_release_and_pages_do_not() -> Result<()> {
    let mut cdn = Cdn::of(fleet(2).control_config("[sites]\ngrace_ms = 8000")?).await?;
    let (before, after) = (folder(BEFORE)?, folder(AFTER)?);
    cdn.push(before.path()).await?;
    cdn.push(after.path()).await?;

    for restarted in [false, true] {
        if restarted {
            cdn.kill("nyc").await?;
            cdn.restart("nyc").await?;
        }
        for edge in cdn.edges() {
            let visitor = cdn.visitor(&edge)?;
            for (path, status) in [
                ("/assets/app.3f2a9c1b.js", 200),
                ("/forever/logo.svg", 200),
                ("/old", 404),
                ("/old.html", 404),
                ("/data.json", 404),
                ("/assets/app.77aa00b1.js", 200),
            ] {
                let visit = visitor.get(path).await?;
                assert_eq!(visit.status, status, "{path} at {edge}, restarted: {restarted}");
            }
            assert!(cdn.text(&edge, "/").await?.contains("77aa00b1"), "{edge}");
        }
    }

    for edge in cdn.edges() {
        eventually(format!("the time is over at {edge}"), Duration::from_secs(20), async || {
            let visit = cdn.visitor(&edge)?.get("/assets/app.3f2a9c1b.js").await?;
            ensure!(visit.status == 404, "{}", visit.status);
            Ok(())
        })
        .await;
    }
    cdn.fleet.stop().await
}
