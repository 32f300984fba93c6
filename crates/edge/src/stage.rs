//! How does one release get onto this disk?
//!
//! One task per release: documents, then blobs, then variants, each as soon as the ones before are
//! here, repeated until done. Releases of one site take turns, since a later one mostly needs what an
//! earlier one is fetching.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use nigh_core::blob::Store;
use nigh_daemon::logging::causes;
use nigh_proto::{Digest, ReleaseId, pack::PackHead, state::ReleaseRef};
use tokio::{
    sync::{Mutex, Semaphore, mpsc},
    task::spawn_blocking,
    time::sleep,
};

use crate::{
    intake::{self, IntakeError, Source},
    load::{self, Documents, Form, LoadError, Loaded, Looked, Missing, Wanted},
    peers::FanOut,
};

/// The raw bytes of one pack: with a few in flight, little is lost when a connection breaks.
const PACK_RAW_BYTES: u64 = 16 << 20;
/// Requests for blobs in flight, over all releases.
const FETCHES_MAX: usize = 3;
/// Releases that are read and built at the same time, so that visitors keep a core.
const LOOKS_MAX: usize = 2;
const WAIT_FIRST: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(5);

/// What a task says about its release.
#[derive(Debug)]
pub(crate) enum Progress {
    Missing(u64),
    Failed(String),
    /// In memory; complete unless the loaded release says otherwise.
    Loaded(Box<Loaded>),
    /// Nothing is left to do for it as it is wanted now.
    Done,
}

/// A release and what became of it.
pub(crate) type Event = (ReleaseId, Progress);

/// What all staging shares; cheap to clone.
#[derive(Clone)]
pub(crate) struct Stage {
    pub(crate) store: Store,
    pub(crate) source: Source,
    pub(crate) events: mpsc::Sender<Event>,
    fan_out: FanOut,
    fetches: Arc<Semaphore>,
    looks: Arc<Semaphore>,
}

#[derive(Debug, thiserror::Error)]
enum StageError {
    #[error(transparent)]
    Intake(#[from] IntakeError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("the edge is stopping")]
    Stopping,
}

impl Stage {
    pub(crate) fn new(
        store: Store,
        source: Source,
        fan_out: FanOut,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let (fetches, looks) = (Semaphore::new(FETCHES_MAX), Semaphore::new(LOOKS_MAX));
        let (fetches, looks) = (Arc::new(fetches), Arc::new(looks));
        Stage { store, source, events, fan_out, fetches, looks }
    }

    /// Works until the release is here as it is wanted. `turn` is its site's.
    pub(crate) async fn run(self, wanted: Wanted, turn: Arc<Mutex<()>>) {
        let mut wait = WAIT_FIRST;
        loop {
            let attempt = {
                let _turn = turn.lock().await;
                self.attempt(&wanted).await
            };
            match attempt {
                Ok(()) => return self.say(&wanted, Progress::Done).await,
                Err(StageError::Stopping) => return,
                Err(error) => {
                    let error = causes(&error);
                    tracing::warn!(release = %wanted.reference.id, error, "not staged; trying again");
                    self.say(&wanted, Progress::Failed(error)).await;
                }
            }
            sleep(wait).await;
            wait = (wait * 2).min(WAIT_MAX);
        }
    }

    async fn attempt(&self, wanted: &Wanted) -> Result<(), StageError> {
        let mut looked = self.look(&wanted.reference, wanted.form).await?;
        let loaded = loop {
            looked = match looked {
                Looked::NoDocuments(documents) => {
                    self.fetch_documents(&documents).await?;
                    self.look(&wanted.reference, wanted.form).await?
                }
                Looked::Incomplete(missing, documents) => {
                    self.fetch_all(wanted, missing).await?;
                    self.assemble(wanted, documents).await?
                }
                Looked::Found(loaded) => break loaded,
            }
        };
        let has_variants = loaded.variants == wanted.reference.variants;
        self.say(wanted, Progress::Loaded(loaded)).await;
        if has_variants { Ok(()) } else { self.add_variants(wanted).await }
    }

    async fn add_variants(&self, wanted: &Wanted) -> Result<(), StageError> {
        let Some(digest) = wanted.reference.variants else { return Ok(()) };
        if !self.store.contains(&digest) {
            self.fetch_documents(&[digest]).await?;
        }
        let missing = self.missing_variants(digest).await?;
        self.fetch(wanted, missing, |_| {}).await?;
        let looked = self.look(&wanted.reference, wanted.form).await?;
        if let Looked::Found(loaded) = looked {
            self.say(wanted, Progress::Loaded(loaded)).await;
        }
        Ok(())
    }

    /// Reads and builds on a thread that may block.
    pub(crate) async fn look_now(&self, wanted: &Wanted) -> Option<Result<Looked, LoadError>> {
        let (store, reference, form) = (self.store.clone(), wanted.reference.clone(), wanted.form);
        spawn_blocking(move || load::look(&store, &reference, form, true)).await.ok()
    }

    async fn look(&self, reference: &ReleaseRef, form: Form) -> Result<Looked, StageError> {
        let _turn = self.looks.acquire().await.map_err(|_| StageError::Stopping)?;
        let (store, reference) = (self.store.clone(), reference.clone());
        let looked = spawn_blocking(move || load::look(&store, &reference, form, false));
        Ok(looked.await.map_err(|_| StageError::Stopping)??)
    }

    /// Goes on with documents that were read before the blobs were fetched.
    async fn assemble(
        &self,
        wanted: &Wanted,
        documents: Box<Documents>,
    ) -> Result<Looked, StageError> {
        let _turn = self.looks.acquire().await.map_err(|_| StageError::Stopping)?;
        let (store, reference, form) = (self.store.clone(), wanted.reference.clone(), wanted.form);
        let assembled =
            spawn_blocking(move || load::assemble(&store, &reference, form, documents, false));
        assembled.await.map_err(|_| StageError::Stopping)
    }

    async fn missing_variants(&self, digest: Digest) -> Result<Vec<Missing>, StageError> {
        let store = self.store.clone();
        let missing = spawn_blocking(move || {
            let index = load::variant_index(&store, &digest)?;
            let absent = index.variants().iter().filter(|one| !store.contains(&one.digest));
            let missing = |one: &nigh_proto::variants::Variant| Missing {
                digest: one.digest,
                size_bytes: one.size_bytes,
            };
            Ok::<_, LoadError>(absent.map(missing).collect())
        });
        Ok(missing.await.map_err(|_| StageError::Stopping)??)
    }

    async fn fetch_documents(&self, digests: &[Digest]) -> Result<(), StageError> {
        let fetch = |digest: Digest| async move {
            let _turn = self.fetches.acquire().await.map_err(|_| IntakeError::Stopping)?;
            intake::fetch_document(&self.store, &*self.source, &digest).await
        };
        for fetched in futures_util::future::join_all(digests.iter().copied().map(fetch)).await {
            fetched?;
        }
        Ok(())
    }

    async fn fetch_all(&self, wanted: &Wanted, missing: Vec<Missing>) -> Result<(), StageError> {
        self.say(wanted, Progress::Missing(missing.len() as u64)).await;
        let (id, events) = (&wanted.reference.id, &self.events);
        // A full queue loses only a step of the progress that is shown.
        let tell = |left: u64| drop(events.try_send((id.clone(), Progress::Missing(left))));
        Ok(self.fetch(wanted, missing, tell).await?)
    }

    /// Fetches from peers where they are the way, and from control what they do not have.
    async fn fetch(
        &self,
        wanted: &Wanted,
        mut missing: Vec<Missing>,
        tell: impl Fn(u64),
    ) -> Result<(), IntakeError> {
        let Some(mut way) = self.fan_out.way(&wanted.reference.id, &missing) else {
            return self.fetch_from_control(missing, &tell).await;
        };
        loop {
            self.fan_out.draw(&mut way, &mut missing, &self.fetches, &tell).await;
            if missing.is_empty() {
                return Ok(());
            }
            let part = split_part(&mut missing);
            let left = missing.len() as u64;
            self.fetch_from_control(part, &|of_part| tell(left + of_part)).await?;
        }
    }

    /// Fetches as much as comes, and returns the first error only then.
    async fn fetch_from_control(
        &self,
        missing: Vec<Missing>,
        tell: &impl Fn(u64),
    ) -> Result<(), IntakeError> {
        let mut left = missing.len() as u64;
        let jobs = batches(missing);
        let mut running =
            stream::iter(jobs.into_iter().map(|job| self.work(job))).buffer_unordered(FETCHES_MAX);
        let mut first_error = None;
        while let Some((count, fetched)) = running.next().await {
            match fetched {
                Ok(()) => {
                    left = left.saturating_sub(count);
                    tell(left);
                }
                Err(error) => drop(first_error.get_or_insert(error)),
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    async fn work(&self, job: Job) -> (u64, Result<(), IntakeError>) {
        let Ok(_turn) = self.fetches.acquire().await else {
            return (0, Err(IntakeError::Stopping));
        };
        match job {
            Job::Pack(digests) => {
                let fetched = intake::fetch_pack(&self.store, &*self.source, &digests).await;
                (digests.len() as u64, fetched.map(drop))
            }
            Job::Large(missing) => (1, self.fan_out.fetch_large(&*self.source, missing).await),
        }
    }

    async fn say(&self, wanted: &Wanted, progress: Progress) {
        // Nobody listens only when the edge is stopping.
        let _ = self.events.send((wanted.reference.id.clone(), progress)).await;
    }
}

/// One request.
#[derive(Debug, PartialEq)]
enum Job {
    Pack(Vec<Digest>),
    Large(Missing),
}

/// The first blobs, as many as one request may be for.
fn split_part(missing: &mut Vec<Missing>) -> Vec<Missing> {
    let mut bytes = 0;
    let count = missing.iter().take(PackHead::MAX_BLOBS).take_while(|one| {
        let is_first = bytes == 0;
        bytes += one.size_bytes.max(1);
        is_first || bytes <= PACK_RAW_BYTES
    });
    let count = count.count();
    missing.drain(..count).collect()
}

/// Small blobs together, large ones alone.
fn batches(missing: Vec<Missing>) -> Vec<Job> {
    let mut jobs = Vec::new();
    let (mut pack, mut bytes) = (Vec::new(), 0);
    for one in missing {
        if one.size_bytes > u64::from(PackHead::MAX_BLOB_BYTES) {
            jobs.push(Job::Large(one));
            continue;
        }
        let is_full = bytes + one.size_bytes > PACK_RAW_BYTES || pack.len() == PackHead::MAX_BLOBS;
        if is_full && !pack.is_empty() {
            jobs.push(Job::Pack(std::mem::take(&mut pack)));
            bytes = 0;
        }
        bytes += one.size_bytes;
        pack.push(one.digest);
    }
    if !pack.is_empty() {
        jobs.push(Job::Pack(pack));
    }
    jobs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_blob_is_asked_for_once_and_no_pack_is_too_large(
            sizes in proptest::collection::vec(0u64..3 << 20, 0..100),
        ) {
            let missing: Vec<Missing> = sizes
                .iter()
                .enumerate()
                .map(|(number, &size_bytes)| Missing { digest: Digest::of(&number.to_le_bytes()), size_bytes })
                .collect();
            let size = |digest: &Digest| missing.iter().find(|one| one.digest == *digest).unwrap().size_bytes;
            let mut asked = Vec::new();
            for job in batches(missing.clone()) {
                match job {
                    Job::Large(one) => {
                        prop_assert!(one.size_bytes > 1 << 20);
                        asked.push(one.digest);
                    }
                    Job::Pack(digests) => {
                        prop_assert!(digests.iter().map(size).sum::<u64>() <= PACK_RAW_BYTES);
                        asked.extend(digests);
                    }
                }
            }
            asked.sort();
            let mut all: Vec<_> = missing.iter().map(|one| one.digest).collect();
            all.sort();
            prop_assert_eq!(asked, all);
        }
    }
}
