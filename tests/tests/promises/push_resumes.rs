//! A push that was interrupted goes on where it stopped.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use nigh_testkit::tree;
use nigh_tests::{
    Cdn, Person,
    cdn::{SITE, fleet, noise},
    proxy::{Line, Proxy},
};
use rustix::process::Signal;

/// One blob that is far larger than a part of an upload.
const LARGE_BYTES: usize = 48 << 20;
/// The largest part, which a broken connection may cost.
const PART_BYTES: u64 = 16 << 20;
const MEBIBYTE: u64 = 1 << 20;

struct Upload {
    cdn: Cdn,
    proxy: Proxy,
    /// Somebody whose bytes go through the proxy.
    person: Person,
    dir: tempfile::TempDir,
}

/// A site that is about to be pushed over a line that holds after `hold_after` bytes.
async fn upload(hold_after: u64) -> Result<Upload> {
    let cdn = Cdn::of(fleet(1)).await?;
    let api = cdn.fleet.control().listeners().get("api").context("control has an API")?;
    let proxy = Proxy::to(api, Line::HoldAfter(hold_after)).await?;
    let person = cdn.person.with("NIGH_API_URL", proxy.api_url());
    Ok(Upload { cdn, proxy, person, dir: tempfile::tempdir()? })
}

impl Upload {
    fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn start(&self) -> Result<nigh_tests::person::Running> {
        self.person.start(&["push", &self.dir().to_string_lossy(), "--site", SITE, "--json"])
    }

    /// The push is repeated over a line that works; gives how many bytes control was sent.
    async fn repeat(&self) -> Result<u64> {
        self.proxy.set(Line::Open);
        let before = self.proxy.sent();
        let pushed = self.person.push(SITE, self.dir()).await?;
        assert_eq!(pushed.state, "active");
        self.cdn.serves(self.dir()).await?;
        Ok(self.proxy.sent() - before)
    }
}

fn large_file(dir: &Path) -> Result<()> {
    tree::write(dir, "index.html", b"<h1>a film</h1>")?;
    tree::write(dir, "film.mp4", &noise(5, LARGE_BYTES))
}

#[tokio::test]
async fn ctrl_c_within_a_large_file_costs_no_more_than_a_part() -> Result<()> {
    let hold_after = 26 * MEBIBYTE;
    let upload = upload(hold_after).await?;
    large_file(upload.dir())?;
    let running = upload.start()?;
    upload.proxy.has_sent(hold_after, Duration::from_secs(60)).await?;

    running.send(Signal::INT)?;
    let run = running.end().await?.expect(130);
    assert!(run.stderr.contains("repeat the command"), "{run}");
    let sent = upload.repeat().await?;

    assert!(sent < LARGE_BYTES as u64 - hold_after + PART_BYTES + MEBIBYTE, "{sent} were sent");
    upload.cdn.fleet.stop().await
}

#[tokio::test]
async fn sigkill_among_many_files_loses_only_packs_under_way() -> Result<()> {
    let (files, each) = (1500, 48 << 10);
    let hold_after = 56 * MEBIBYTE;
    let upload = upload(hold_after).await?;
    for file in 0..files {
        tree::write(upload.dir(), &format!("img/{file}.png"), &noise(file + 1, each))?;
    }
    let running = upload.start()?;
    upload.proxy.has_sent(hold_after, Duration::from_secs(60)).await?;

    running.send(Signal::KILL)?;
    assert_eq!(running.end().await?.code, None);
    let sent = upload.repeat().await?;

    let all = files * each as u64;
    assert!(sent < all - 16 * MEBIBYTE, "{sent} of {all} bytes were sent again");
    upload.cdn.fleet.stop().await
}

#[tokio::test]
async fn a_connection_that_is_cut_is_made_again() -> Result<()> {
    let upload = upload(u64::MAX).await?;
    large_file(upload.dir())?;
    let cut_after = 20 * MEBIBYTE;
    upload.proxy.set(Line::CutAfter(cut_after));
    let running = upload.start()?;
    upload.proxy.has_sent(cut_after, Duration::from_secs(60)).await?;
    upload.proxy.set(Line::Open);

    let run = running.end().await?;
    if run.code != Some(0) {
        // The line may have been down for longer than a person wants to wait.
        run.expect(9);
    }
    upload.repeat().await?;

    let all = LARGE_BYTES as u64 + PART_BYTES + 2 * MEBIBYTE;
    assert!(upload.proxy.sent() < all, "{} bytes were sent in all", upload.proxy.sent());
    upload.cdn.fleet.stop().await
}

#[tokio::test]
async fn control_may_restart_in_the_middle() -> Result<()> {
    let hold_after = 26 * MEBIBYTE;
    let mut upload = upload(hold_after).await?;
    large_file(upload.dir())?;
    let running = upload.start()?;
    upload.proxy.has_sent(hold_after, Duration::from_secs(60)).await?;

    upload.cdn.fleet.control_mut().kill().await?;
    upload.cdn.fleet.control_mut().start().await?;
    upload.proxy.set(Line::Open);
    let run = running.end().await?;
    if run.code != Some(0) {
        run.expect(9);
    }
    upload.repeat().await?;

    // At most the part that was under way is sent again.
    let all = LARGE_BYTES as u64 + PART_BYTES + 2 * MEBIBYTE;
    assert!(upload.proxy.sent() < all, "{} bytes were sent in all", upload.proxy.sent());
    upload.cdn.fleet.stop().await
}
