//! A control that lost its disk is itself again with a backup, and edges give back what they hold.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use nigh_testkit::{
    postgres::DatabaseKind,
    tree::{self, SampleSite},
};
use nigh_tests::{
    Cdn,
    cdn::{SITE, fleet, noise},
    eventually,
    patience::SOON,
};

/// What a control without its disk still has: the configuration and a copy of the key.
struct Lost {
    backup: PathBuf,
    key: Vec<u8>,
}

impl Lost {
    /// Backs control up, stops it and takes its whole state folder away.
    async fn lose(cdn: &mut Cdn, backup: PathBuf, flags: &[&str]) -> Result<Self> {
        let file = backup.to_string_lossy().into_owned();
        let mut line = vec!["backup", &*file, "--json"];
        line.extend(flags);
        let written = cdn.person.run(&line).await?.expect(0).json()?;
        ensure!(written["rows"].as_u64().is_some_and(|rows| rows > 5), "{written}");
        let dir = cdn.fleet.control_dir();
        let key = fs::read(dir.join("secret.key")).context("control's key")?;
        // Whoever visits or administers has a copy of the CA.
        let ca = fs::read(cdn.fleet.ca_file())?;
        cdn.fleet.control_mut().kill().await?;
        fs::remove_dir_all(&dir)?;
        fs::create_dir(&dir)?;
        fs::write(cdn.fleet.ca_file(), ca)?;
        Ok(Self { backup, key })
    }

    async fn restore(&self, cdn: &mut Cdn) -> Result<()> {
        let dir = cdn.fleet.control_dir();
        fs::write(dir.join("secret.key"), &self.key)?;
        let config = cdn.fleet.dir().join("config/control.toml");
        let (backup, config) = (self.backup.to_string_lossy(), config.to_string_lossy());
        let line = ["restore", &*backup, "--config", &*config];
        let restored = cdn.person.run(&line).await?.expect(0);
        ensure!(restored.stdout.contains("restored"), "{restored}");
        // A second time there is something to lose.
        cdn.person.run(&line).await?.expect(1).says(&["in use"]);
        cdn.fleet.control_mut().start().await?;
        cdn.fleet.all_current().await
    }
}

/// Control holds every blob again that its releases need.
async fn is_refilled(cdn: &Cdn) {
    eventually("control has all blobs back", SOON, async || {
        let status = cdn.fleet.client().status().await?;
        let missing = status.warnings.iter().find(|warning| warning.contains("missing"));
        ensure!(missing.is_none(), "{missing:?}");
        ensure!(status.blobs_total > 30, "{} blobs", status.blobs_total);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn edges_give_back_the_blobs_of_a_control_that_was_restored_without() -> Result<()> {
    let mut cdn = Cdn::of(fleet(2).database(DatabaseKind::Sqlite)).await?;
    let (dir, safe) = (tempfile::tempdir()?, tempfile::tempdir()?);
    SampleSite::pages(30).write(dir.path())?;
    // Several packs, and a blob that travels by itself.
    tree::write(dir.path(), "game.patch", &noise(7, 9 << 20))?;
    let before = cdn.push(dir.path()).await?;
    tree::write(dir.path(), "index.html", b"after")?;
    cdn.push(dir.path()).await?;

    let lost = Lost::lose(&mut cdn, safe.path().join("control.nigh"), &["--no-blobs"]).await?;
    cdn.serves(dir.path()).await?;
    lost.restore(&mut cdn).await?;
    is_refilled(&cdn).await;
    cdn.serves(dir.path()).await?;

    // Nothing has to be sent again, and what was live before can be.
    tree::write(dir.path(), "index.html", b"once more")?;
    let pushed = cdn.push(dir.path()).await?;
    ensure!(pushed.bytes_sent < 1 << 20, "{} bytes were sent again", pushed.bytes_sent);
    cdn.serves(dir.path()).await?;
    let site = ["rollback", &before.release, "--site", SITE];
    cdn.person.run(&site).await?.expect(0);
    let edges = cdn.edges();
    for edge in &edges {
        eventually(format!("{edge} is back"), SOON, async || {
            let text = cdn.text(edge, "/").await?;
            ensure!(text != "once more" && text != "after", "it shows {text:?}");
            Ok(())
        })
        .await;
    }
    cdn.fleet.stop().await
}

#[tokio::test]
async fn a_backup_made_while_pushes_go_on_is_a_whole_control() -> Result<()> {
    let mut cdn = Cdn::of(fleet(1).database(DatabaseKind::Sqlite)).await?;
    let (dir, safe) = (tempfile::tempdir()?, tempfile::tempdir()?);
    SampleSite::pages(30).write(dir.path())?;
    cdn.push(dir.path()).await?;
    let pushes = async {
        for number in 0..5 {
            tree::write(dir.path(), "index.html", format!("push {number}").as_bytes())?;
            cdn.push(dir.path()).await?;
        }
        anyhow::Ok(())
    };
    let backups = async {
        for number in 0..4 {
            let file = safe.path().join(format!("{number}.nigh"));
            let line = ["backup", &*file.to_string_lossy()];
            let written = cdn.person.run(&line).await?.expect(0);
            ensure!(written.stdout.contains("secret.key"), "{written}");
        }
        anyhow::Ok(())
    };
    tokio::try_join!(pushes, backups)?;
    let mode = {
        use std::os::unix::fs::PermissionsExt as _;
        fs::metadata(safe.path().join("0.nigh"))?.permissions().mode() & 0o777
    };
    ensure!(mode == 0o600, "a backup is for its owner only, and not {mode:o}");

    let lost = Lost::lose(&mut cdn, safe.path().join("last.nigh"), &[]).await?;
    lost.restore(&mut cdn).await?;
    is_refilled(&cdn).await;
    cdn.shows("fra", "/", "push 4").await;
    tree::write(dir.path(), "index.html", b"after")?;
    cdn.push(dir.path()).await?;
    cdn.serves(dir.path()).await?;
    cdn.fleet.stop().await
}
