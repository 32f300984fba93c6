//! Bytes that rot on an edge's disk are never served, and are whole again afterwards.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use nigh_proto::pack::PackHead;
use nigh_testkit::tree::{self, SampleSite};
use nigh_tests::{
    Cdn,
    cdn::{fleet, noise},
    eventually,
    patience::SOON,
    vault,
};

/// Turns over a byte in the middle of every body of a pack, and of a large blob.
fn damage(file: &Path) -> Result<usize> {
    let mut bytes = fs::read(file)?;
    let mut places = Vec::new();
    if file.extension().is_some_and(|extension| extension == "pack") {
        let head = PackHead::parse(&bytes)?;
        let mut body = PackHead::head_bytes(head.blobs.len());
        for blob in &head.blobs {
            let length = blob.stored_len as usize;
            places.extend((length > 0).then_some(body + length / 2));
            body += length;
        }
    } else if file.extension().is_none() {
        places.push(bytes.len() / 2);
    }
    for &place in &places {
        *bytes.get_mut(place).context("the file is shorter than it says")? ^= 0x40;
    }
    fs::write(file, &bytes)?;
    Ok(places.len())
}

#[tokio::test]
async fn every_file_is_served_right_from_a_disk_that_rots() -> Result<()> {
    let mut cdn = Cdn::of(fleet(1)).await?;
    let dir = tempfile::tempdir()?;
    SampleSite::pages(40).write(dir.path())?;
    tree::write(dir.path(), "film.mp4", &noise(3, 5 << 20))?;
    cdn.push(dir.path()).await?;
    let store = vault::of_machine(&cdn.fleet, "fra");

    cdn.kill("fra").await?;
    let mut damaged = 0;
    for file in vault::files(&store)? {
        damaged += damage(&file)?;
    }
    assert!(damaged > 40, "only {damaged} blobs were there");
    ensure!(vault::verify(&store).is_err(), "the damage is not seen");
    cdn.restart("fra").await?;

    // The manifest is damaged too: until it is whole there may be no answer, but never a wrong one.
    let film = tree::contents(dir.path())?["film.mp4"];
    eventually("the film is whole again", SOON, async || {
        let visit = cdn.visitor("fra")?.get("/film.mp4").await?;
        ensure!(visit.status == 200, "{}", visit.status);
        assert_eq!(nigh_proto::Digest::of(&visit.body), film, "wrong bytes were served");
        Ok(())
    })
    .await;
    eventually("every file is right", SOON, async || cdn.serves(dir.path()).await).await;

    cdn.kill("fra").await?;
    vault::verify(&store)?;
    cdn.restart("fra").await?;
    cdn.serves(dir.path()).await
}
