//! A full disk refuses a push, on control as on an edge; what is live stays live.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use nigh_testkit::tree;
use nigh_tests::{
    Cdn,
    cdn::{SITE, fleet, folder, noise},
    eventually,
    patience::SOON,
};

/// A disk that can be filled: a small one of its own where mounting is allowed, or else the real one
/// with all of it reserved.
enum Disk {
    Small { mount: std::path::PathBuf },
    Reserved,
}

const SMALL_BYTES: u64 = 48 << 20;

impl Disk {
    fn under(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={SMALL_BYTES},mode=700"), "tmpfs"])
            .arg(dir)
            .output();
        let is_mounted = mount.is_ok_and(|output| output.status.success());
        Ok(if is_mounted { Disk::Small { mount: dir.to_owned() } } else { Disk::Reserved })
    }

    /// Leaves no room on the disk of `machine`.
    async fn fill(&self, cdn: &mut Cdn, machine: &str) -> Result<()> {
        match self {
            Disk::Small { mount } => {
                let ballast = fs::File::create(mount.join("ballast"))?;
                let free = SMALL_BYTES - used_bytes(mount)?;
                ballast.set_len(0)?;
                fs::write(mount.join("ballast"), vec![0; (free - free / 16) as usize])?;
                Ok(())
            }
            Disk::Reserved => {
                cdn.reconfigure(machine, &reserve(machine, 9_000_000_000_000_000)).await
            }
        }
    }

    /// Makes room again.
    async fn empty(&self, cdn: &mut Cdn, machine: &str) -> Result<()> {
        match self {
            Disk::Small { mount } => Ok(fs::remove_file(mount.join("ballast"))?),
            Disk::Reserved => cdn.reconfigure(machine, &reserve(machine, 1)).await,
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Disk::Small { mount } = self {
            let _ = Command::new("umount").arg("-l").arg(mount).status();
        }
    }
}

fn reserve(machine: &str, bytes: u64) -> String {
    let section = if machine == "control" { "blobs" } else { "storage" };
    format!("[{section}]\nreserve_bytes = {bytes}")
}

fn used_bytes(dir: &Path) -> Result<u64> {
    let output = Command::new("du").arg("-sB1").arg(dir).output()?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text.split_whitespace().next().context("du said nothing")?.parse()?)
}

#[tokio::test]
async fn a_full_control_refuses_a_push_and_goes_on() -> Result<()> {
    let state = tempfile::tempdir()?;
    let disk = Disk::under(&state.path().join("control"))?;
    let mut cdn = Cdn::of(fleet(2).keep_in(state.path())).await?;
    let dir = folder(&[("index.html", "one")])?;
    cdn.push(dir.path()).await?;

    disk.fill(&mut cdn, "control").await?;
    tree::write(dir.path(), "index.html", b"two")?;
    tree::write(dir.path(), "large.bin", &noise(1, 12 << 20))?;
    for file in 0..40 {
        tree::write(dir.path(), &format!("{file}.bin"), &noise(file + 2, 200 << 10))?;
    }
    let text = dir.path().to_string_lossy().into_owned();
    let run = cdn.person.run(&["push", &text, "--site", SITE]).await?.expect(1);
    let said = run.stderr.to_lowercase();
    assert!(said.contains("free") || said.contains("full") || said.contains("space"), "{run}");

    for edge in cdn.edges() {
        assert_eq!(cdn.text(&edge, "/").await?, "one", "{edge}");
    }
    cdn.fleet.client().status().await?;
    disk.empty(&mut cdn, "control").await?;
    cdn.push(dir.path()).await?;
    cdn.serves(dir.path()).await?;
    cdn.fleet.stop().await
}

#[tokio::test]
async fn a_full_edge_lags_and_says_why() -> Result<()> {
    let state = tempfile::tempdir()?;
    let disk = Disk::under(&state.path().join("nyc"))?;
    let deadline = "[sites]\nstage_deadline_ms = 1500";
    let mut cdn = Cdn::of(fleet(2).keep_in(state.path()).control_config(deadline)?).await?;
    let dir = folder(&[("index.html", "one")])?;
    cdn.push(dir.path()).await?;

    disk.fill(&mut cdn, "nyc").await?;
    cdn.fleet.all_current().await?;
    tree::write(dir.path(), "index.html", b"two")?;
    for file in 0..40 {
        tree::write(dir.path(), &format!("{file}.bin"), &noise(file + 2, 200 << 10))?;
    }
    let text = dir.path().to_string_lossy().into_owned();
    let run = cdn.person.run(&["push", &text, "--site", SITE, "--json"]).await?.expect(7);
    let release = run.json()?["release"].as_str().context("no release")?.to_owned();

    eventually("the release says why", SOON, async || {
        let show = ["release", "show", &release, "--site", SITE];
        let shown = cdn.person.run(&show).await?.expect(0).stdout.to_lowercase();
        let line = shown.lines().find(|line| line.contains("nyc")).context("no line of nyc")?;
        ensure!(line.contains("free") || line.contains("full") || line.contains("space"), "{line}");
        Ok(())
    })
    .await;
    assert_eq!(cdn.text("fra", "/").await?, "two");
    assert_eq!(cdn.text("nyc", "/").await?, "one");

    disk.empty(&mut cdn, "nyc").await?;
    cdn.shows("nyc", "/", "two").await;
    cdn.serves(dir.path()).await?;
    cdn.fleet.stop().await
}
