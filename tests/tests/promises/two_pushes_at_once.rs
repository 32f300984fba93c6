//! Two people push to one site at the same time: one of them is live, whole, and both know.

use anyhow::Result;
use nigh_testkit::tree::{self, SampleSite};
use nigh_tests::{Cdn, Person, cdn::SITE};

const ROUNDS: u64 = 6;

#[tokio::test]
async fn the_site_is_one_of_the_two_and_never_a_mixture() -> Result<()> {
    let cdn = Cdn::start().await?;
    let people = [Person::of(&cdn.fleet)?, Person::of(&cdn.fleet)?];
    let folders = [tempfile::tempdir()?, tempfile::tempdir()?];
    for round in 0..ROUNDS {
        for (index, folder) in (0..).zip(&folders) {
            SampleSite { seed: 10 + 2 * round + index, files: 20, page_bytes: 4096 }
                .write(folder.path())?;
            tree::write(folder.path(), "who.txt", format!("{index} of {round}").as_bytes())?;
        }
        let texts = folders.each_ref().map(|folder| folder.path().to_string_lossy().into_owned());
        let [first, second] = texts.each_ref().map(|dir| ["push", dir, "--site", SITE, "--json"]);
        let (first, second) = tokio::join!(people[0].run(&first), people[1].run(&second));

        let runs = [first?, second?];
        for run in &runs {
            assert!(matches!(run.code, Some(0 | 5)), "{run}");
            if run.code == Some(5) {
                assert!(run.stderr.contains("replaced by"), "{run}");
            }
        }
        assert!(runs.iter().any(|run| run.code == Some(0)), "{}\n{}", runs[0], runs[1]);
        let winner = cdn.text("fra", "/who.txt").await?;
        let winner = usize::from(winner.starts_with('1'));
        assert_eq!(runs[winner].code, Some(0), "live, and told that it is not: {}", runs[winner]);
        cdn.serves(folders[winner].path()).await?;
    }
    cdn.fleet.stop().await
}
