//! A real process that is killed at any moment of its work, over and over on one store.

use std::{
    collections::HashSet,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nigh_proto::Digest;

use super::{Fixture, noise, pack, text};
use crate::blob::{Store, StoreOptions};

const DIR: &str = "NIGH_TEST_KILLED_STORE";
const FIRST: &str = "NIGH_TEST_KILLED_FIRST";
const ROUNDS: u64 = 25;

/// The blobs of one step; only the first, and every large one, is live.
fn batch(step: u64) -> Vec<Vec<u8>> {
    (0..6).map(|blob| text(step * 10 + blob, 2000)).collect()
}

fn large(step: u64) -> Vec<u8> {
    noise(step, (1 << 20) + 1 + step as usize)
}

fn live(steps: u64) -> HashSet<Digest> {
    (0..steps).map(|step| Digest::of(&batch(step)[0])).collect()
}

/// One step of the process that is killed; all of it is durable when this returns.
fn step(store: &Store, step: u64) {
    store.insert_pack(&pack(&batch(step))[..]).unwrap();
    if step.is_multiple_of(5) {
        let raw = large(step);
        let mut partial = store.begin(Digest::of(&raw), raw.len() as u64).unwrap();
        let offset = partial.offset() as usize;
        raw[offset..].chunks(100_000).for_each(|bytes| partial.append(bytes).unwrap());
        partial.finish().unwrap();
    }
    if step.is_multiple_of(3) {
        let is_large = |digest: &Digest| store.stat(digest).is_some_and(|stat| stat.is_loose);
        let live = live(step + 1);
        let is_live = |digest: &Digest| live.contains(digest) || is_large(digest);
        let collected = store.collect(&is_live, Duration::ZERO).unwrap();
        assert!(collected.corrupt.is_empty());
    }
}

/// Not a test of its own: what the killed process runs, which does not end by itself.
#[test]
#[ignore = "runs as the child of `a_process_that_is_killed_at_any_moment_loses_nothing`"]
fn work_until_killed() {
    let (Some(dir), Ok(first)) = (std::env::var_os(DIR), std::env::var(FIRST)) else {
        return;
    };
    let options = StoreOptions { reserve_bytes: Some(0), ..StoreOptions::default() };
    let store = Store::open_with(Path::new(&dir), options).unwrap();
    let mut out = std::io::stdout();
    for number in first.parse().unwrap().. {
        step(&store, number);
        writeln!(out, "\ndone {number}").unwrap();
        out.flush().unwrap();
    }
}

fn spawn(dir: &Path, first: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            concat!(module_path!(), "::work_until_killed").split_once("::").unwrap().1,
        ])
        .args(["--ignored", "--nocapture"])
        .env(DIR, dir)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Lets a process work from step `first` on, kills it after a number of steps and returns how many
/// steps are known to be done.
fn kill_after(dir: &Path, first: u64, steps: u64) -> u64 {
    let mut child = spawn(dir, first);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut done = first;
    let numbers = lines.map_while(Result::ok);
    for number in numbers.filter_map(|line| line.strip_prefix("done ")?.parse::<u64>().ok()) {
        done = number + 1;
        if done == first + steps {
            child.kill().unwrap();
        }
    }
    let status = child.wait().unwrap();
    assert_eq!(status.code(), None, "the child ended by itself after step {done}");
    done
}

#[test]
fn a_process_that_is_killed_at_any_moment_loses_nothing() {
    let mut fixture = Fixture::new();
    let mut done = 0;
    for round in 0..ROUNDS {
        fixture.store = None;
        // Steps differ in what they do, so the kill meets inserts, uploads and collections.
        done = kill_after(fixture.root(), done, 1 + round % 7);
        let store = fixture.reopen();
        assert!(store.digests().iter().all(|digest| store.verify(digest)), "round {round}");
        let large = (0..done).step_by(5).map(|step| Digest::of(&large(step)));
        let promised: Vec<_> = live(done).into_iter().chain(large).collect();
        assert_eq!(store.missing(&promised), [], "round {round}, {done} steps");
        assert!(fixture.files("tmp").is_empty() && fixture.files("quarantine").is_empty());
    }
    println!("{done} steps were done in {ROUNDS} processes");
}
