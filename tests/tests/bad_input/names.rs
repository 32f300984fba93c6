//! Names of sites and hosts that are taken, wrong or unknown.

use anyhow::Result;
use nigh_tests::{
    Cdn,
    cdn::{SITE, fleet, folder},
};

#[tokio::test]
async fn names_that_are_taken_wrong_or_unknown_are_refused_with_a_way_out() -> Result<()> {
    let cdn = Cdn::of(fleet(1)).await?;
    let dir = folder(&[("index.html", "live")])?;
    cdn.push(dir.path()).await?;
    let text = dir.path().to_string_lossy();
    cdn.person.json(&["site", "create", "blog"]).await?;
    cdn.person.json(&["host", "add", "www.example.org", "--site", SITE]).await?;

    for (line, code, words) in [
        (&["site", "create", SITE][..], 5, &[SITE, "already"][..]),
        (&["host", "add", "www.example.org", "--site", "blog"], 5, &["www.example.org"]),
        (&["host", "add", "docs.nigh.test", "--site", "blog"], 5, &["docs.nigh.test"]),
        (&["push", &text, "--site", "dosc"], 4, &["dosc", "did you mean docs"]),
        (&["site", "show", "dosc"], 4, &["dosc", "did you mean docs"]),
        (&["host", "rm", "no.example.org", "--site", SITE, "--yes"], 4, &["no.example.org"]),
        (&["release", "show", "nothing", "--site", SITE], 4, &["nothing"]),
        (&["edge", "drain", "fraa"], 4, &["fraa", "did you mean fra"]),
        (&["psuh"], 2, &["push"]),
    ] {
        cdn.person.run(line).await?.expect(code).says(words);
    }
    for name in ["Docs", "-docs", "a_b", "", "a.b", &"a".repeat(64)] {
        let run = cdn.person.run(&["site", "create", "--", name]).await?;
        assert!(matches!(run.code, Some(2 | 6)), "{name:?}: {run}");
    }
    let nobody = cdn.person.with("NIGH_TOKEN", "");
    nobody.run(&["push", &text, "--site", SITE]).await?.expect(3).says(&["NIGH_TOKEN"]);
    let astray = cdn.person.with("NIGH_API_URL", "https://127.0.0.1:1");
    astray.run(&["status", "--timeout", "2s"]).await?.expect(9).says(&["127.0.0.1:1"]);

    assert_eq!(cdn.text("fra", "/").await?, "live", "nothing is lost");
    cdn.fleet.stop().await
}
