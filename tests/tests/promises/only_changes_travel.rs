//! What control and the edges have already is not sent again.

use std::{fs, path::Path};

use anyhow::Result;
use nigh_testkit::tree::{self, SampleSite};
use nigh_tests::{
    Cdn,
    cdn::{SITE, fleet},
    proxy::{Line, Proxy},
    vault,
};

/// How much a push may send besides blobs: the manifest, the rules, and what HTTP and TLS add.
const OVERHEAD_BYTES: u64 = 48 << 10;

fn size_of(files: &[impl AsRef<Path>]) -> Result<u64> {
    files.iter().map(|path| Ok(fs::metadata(path.as_ref())?.len())).sum()
}

#[tokio::test]
async fn a_push_sends_what_changed_and_nothing_else() -> Result<()> {
    let cdn = Cdn::of(fleet(1)).await?;
    let proxy = Proxy::to(cdn.fleet.control().listeners().get("api").unwrap(), Line::Open).await?;
    let person = cdn.person.with("NIGH_API_URL", proxy.api_url());
    let dir = tempfile::tempdir()?;
    SampleSite { seed: 7, files: 80, page_bytes: 16 << 10 }.write(dir.path())?;
    let first = person.push(SITE, dir.path()).await?;
    assert_eq!((first.files_total, first.files_new), (80, 80));

    one_file_is_changed(&cdn, &person, &proxy, dir.path()).await?;
    nothing_is_changed(&person, &proxy, dir.path()).await?;
    a_file_is_renamed(&cdn, &person, dir.path()).await?;
    cdn.fleet.stop().await
}

async fn one_file_is_changed(
    cdn: &Cdn,
    person: &nigh_tests::Person,
    proxy: &Proxy,
    dir: &Path,
) -> Result<()> {
    let edge = vault::of_machine(&cdn.fleet, "fra");
    let (sent, on_edge) = (proxy.sent(), size_of(&vault::files(&edge)?)?);
    tree::write(dir, "docs/0/page-1.html", b"<h1>changed</h1>")?;

    let pushed = person.push(SITE, dir).await?;

    assert_eq!((pushed.files_total, pushed.files_new, pushed.files_reused), (80, 1, 79));
    assert!((1..1024).contains(&pushed.bytes_sent), "{}", pushed.json);
    assert!(proxy.sent() - sent < OVERHEAD_BYTES, "{} bytes were sent", proxy.sent() - sent);
    let grown = size_of(&vault::files(&edge)?)?.saturating_sub(on_edge);
    assert!(grown < OVERHEAD_BYTES, "the edge fetched {grown} bytes");
    assert_eq!(cdn.text("fra", "/docs/0/page-1").await?, "<h1>changed</h1>");
    Ok(())
}

async fn nothing_is_changed(person: &nigh_tests::Person, proxy: &Proxy, dir: &Path) -> Result<()> {
    let (before, sent) = (person.push(SITE, dir).await?, proxy.sent());
    let text = dir.to_string_lossy();

    let again = person.push(SITE, dir).await?;
    let told = person.run(&["push", &text, "--site", SITE]).await?.expect(0);

    assert_eq!((again.files_new, again.bytes_sent), (0, 0));
    assert_eq!(again.release, before.release, "no release is made of nothing");
    let said = format!("{}{}", told.stdout, told.stderr).to_lowercase();
    assert!(said.contains("nothing changed"), "{told}");
    assert!(proxy.sent() - sent < 2 * OVERHEAD_BYTES, "{} bytes were sent", proxy.sent() - sent);
    Ok(())
}

async fn a_file_is_renamed(cdn: &Cdn, person: &nigh_tests::Person, dir: &Path) -> Result<()> {
    fs::rename(dir.join("docs/0/page-2.html"), dir.join("docs/0/page-two.html"))?;

    let pushed = person.push(SITE, dir).await?;

    assert_eq!((pushed.files_new, pushed.bytes_sent), (0, 0), "{}", pushed.json);
    assert!(cdn.text("fra", "/docs/0/page-two").await?.contains("Page 2"));
    assert_eq!(cdn.visitor("fra")?.get("/docs/0/page-2").await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn a_dry_run_tells_what_would_travel_and_sends_nothing() -> Result<()> {
    let cdn = Cdn::of(fleet(1)).await?;
    let dir = tempfile::tempdir()?;
    SampleSite::pages(12).write(dir.path())?;
    let live = cdn.push(dir.path()).await?;
    tree::write(dir.path(), "new.txt", b"new")?;
    fs::remove_file(dir.path().join("docs/0/page-3.html"))?;

    let text = dir.path().to_string_lossy();
    let run = cdn.person.run(&["push", &text, "--site", SITE, "--dry-run"]).await?.expect(0);

    assert!(run.stdout.contains("new.txt") && run.stdout.contains("page-3.html"), "{run}");
    assert_eq!(cdn.active().await?.to_string(), live.release);
    assert_eq!(cdn.fleet.client().releases(&cdn.site(), None).await?.len(), 1);
    cdn.fleet.stop().await
}
