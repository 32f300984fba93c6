//! How does a large blob get into the bucket while its sender waits?
//!
//! Putting one may take longer than anyone waits for an answer. So it goes on by itself, and whoever
//! asks again finds it where it stands.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nigh_bucket::Content;
use nigh_proto::Digest;
use tokio::task::JoinHandle;

use super::Remote;
use crate::{
    blobs::{BlobError, blocking},
    store::PlaceRow,
};

/// How long one question waits.
const WAIT: Duration = Duration::from_secs(20);

type Put = JoinHandle<Result<(), BlobError>>;

/// Large blobs that are being put.
#[derive(Debug, Default)]
pub(crate) struct Large(Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<Option<Put>>>>>);

impl Large {
    fn place(&self, digest: Digest) -> Arc<tokio::sync::Mutex<Option<Put>>> {
        let mut puts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(puts.entry(digest).or_default())
    }

    /// Forgets a place that nobody else waits at.
    fn end(&self, digest: &Digest) {
        let mut puts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // This one's, and the map's own.
        if puts.get(digest).is_some_and(|place| Arc::strong_count(place) <= 2) {
            puts.remove(digest);
        }
    }
}

impl Remote {
    /// Begins to put a large blob that the folder has, or goes on waiting for it. `false` when it
    /// takes longer.
    pub(crate) async fn keep_large(self: &Arc<Self>, digest: Digest) -> Result<bool, BlobError> {
        let place = self.large.place(digest);
        let mut put = place.lock().await;
        if self.missing(&[digest]).await?.is_empty() {
            self.large.end(&digest);
            return Ok(true);
        }
        let handle = put.get_or_insert_with(|| {
            let remote = Arc::clone(self);
            tokio::spawn(async move { remote.put_large(digest).await })
        });
        let Ok(ended) = tokio::time::timeout(WAIT, handle).await else { return Ok(false) };
        *put = None;
        self.large.end(&digest);
        match ended {
            Ok(done) => done.map(|()| true),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down, and this task with it.
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// Puts a blob that has a file of its own.
    pub(super) async fn put_large(&self, digest: Digest) -> Result<(), BlobError> {
        let _turn = self.puts.acquire().await.expect("this semaphore is never closed");
        let folder = self.folder.clone();
        let (file, bytes) = blocking(move || folder.open_loose(&digest)).await?;
        let content = Content::File { file: Arc::new(file), bytes };
        let place = |object: &str| {
            let object = object.to_owned();
            vec![PlaceRow { digest, object, start: 0, stored_len: bytes, raw_len: bytes }]
        };
        self.put("blobs", &content, Some(digest), place).await.map(drop)
    }
}
