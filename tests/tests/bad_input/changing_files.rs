//! A file that somebody else writes to while it is pushed.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::Result;
use nigh_testkit::tree::{self, SampleSite};
use nigh_tests::{
    Cdn,
    cdn::{SITE, fleet},
    vault,
};

/// What the file holds at any whole moment: one letter, so many times.
const SMALL_BYTES: usize = 200 << 10;
const LARGE_BYTES: usize = 3 << 20;
const ROUNDS: usize = 6;

/// Rewrites two files again and again until told to stop; then they are whole.
fn keep_writing(dir: &Path, is_over: &AtomicBool) {
    let letters = (b'a'..=b'z').cycle();
    for letter in letters {
        for (name, bytes) in [("small.txt", SMALL_BYTES), ("large.txt", LARGE_BYTES)] {
            fs::write(dir.join(name), vec![letter; bytes]).expect("the folder is there");
        }
        if is_over.load(Ordering::Relaxed) {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_changes_while_it_is_pushed_is_pushed_as_one_thing_or_not_at_all() -> Result<()>
{
    let cdn = Cdn::of(fleet(1)).await?;
    let dir = tempfile::tempdir()?;
    SampleSite::pages(20).write(dir.path())?;
    for (name, bytes) in [("small.txt", SMALL_BYTES), ("large.txt", LARGE_BYTES)] {
        tree::write(dir.path(), name, &vec![b'-'; bytes])?;
    }
    cdn.push(dir.path()).await?;
    let is_over = Arc::new(AtomicBool::new(false));
    let writer = {
        let (dir, is_over) = (dir.path().to_owned(), Arc::clone(&is_over));
        thread::spawn(move || keep_writing(&dir, &is_over))
    };

    let text = dir.path().to_string_lossy();
    for _ in 0..ROUNDS {
        let run = cdn.person.run(&["push", &text, "--site", SITE]).await?;
        match run.code {
            Some(0) => {}
            Some(_) => drop(run.expect(5).says(&["changed", ".txt", "try:"])),
            None => panic!("{run}"),
        }
        // Torn bytes may be what was in the file at that moment; under a digest they are its bytes.
        let visit = cdn.visitor("fra")?.get("/small.txt").await?;
        assert_eq!(visit.status, 200, "the site is up all the while");
    }
    is_over.store(true, Ordering::Relaxed);
    writer.join().expect("the writer ends in peace");

    cdn.push(dir.path()).await?;
    cdn.serves(dir.path()).await?;
    let stores = [vault::of_control(&cdn.fleet), vault::of_machine(&cdn.fleet, "fra")];
    let Cdn { mut fleet, .. } = cdn;
    fleet.machine_mut("fra")?.process.stop().await?;
    fleet.control_mut().stop().await?;
    for store in &stores {
        vault::verify(store)?;
    }
    Ok(())
}
