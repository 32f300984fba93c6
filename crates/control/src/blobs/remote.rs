//! How do blobs get into the bucket, and back from it?
//!
//! The folder takes blobs in and verifies them as it always did; then they are put: many small ones
//! as one object, a pack in the very format that edges fetch, a large one as an object of its own. A
//! blob counts as stored when the bucket has said that the object is whole *and* the database knows
//! where the blob lies in it. Names of objects are used once, so nothing is ever replaced and two
//! controls that put the same blob only waste room: the database keeps the first place. An object
//! without a row is a leftover, which a collection removes.

mod fetch;
mod keep;
mod large;
mod lost;
mod names;
mod parts;
mod sweep;
#[cfg(test)]
mod tests;

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nigh_bucket::{Bucket, BucketConfig, Cause, ClaimError, OpenError};
use nigh_core::blob::Store as Folder;
use nigh_daemon::Clock;
use nigh_proto::{
    Digest, Timestamp,
    locations::{LocatedBlob, LocatedObject, Locations},
};
use tokio::sync::Semaphore;

use names::{folder_name, hex};

use super::{BlobError, Blobs, blocking};
use crate::{
    random::random,
    store::{PlaceRow, Store, StoreError},
};

use large::Large;
pub(crate) use sweep::Needed;

/// Objects that are put at once; a pack is in memory meanwhile.
const PUTS_MAX: usize = 3;
/// Objects that are fetched back at once, each in memory by its runs.
const GETS_MAX: usize = 3;

/// Why control cannot work with its bucket.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Claim(#[from] ClaimError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{path} cannot be used", path = path.display())]
    Folder { path: PathBuf, source: io::Error },
}

/// What an operator should know of the bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Why it cannot be used, as of the last try.
    pub(crate) failure: Option<String>,
    /// Blobs that the bucket had lost, since control started.
    pub(crate) lost_blobs: u64,
    /// Objects below the prefix that are not nigh's, as last seen.
    pub(crate) foreign_objects: u64,
    /// Blobs that a mirror does not have yet; `None` when the folder is a cache.
    pub(crate) unmirrored_blobs: Option<u64>,
}

/// The bucket behind the folder.
#[derive(Debug)]
pub(crate) struct Remote {
    bucket: Bucket,
    database: Store,
    folder: Folder,
    /// Tells the folder from those of other controls, for as long as it lasts.
    folder_name: String,
    clock: Clock,
    url_expires: Duration,
    /// Whether the bucket was seen to be this fleet's, and not seen to be anyone else's since.
    claimed: AtomicBool,
    puts: Semaphore,
    gets: Semaphore,
    large: Large,
    standing: Mutex<Standing>,
}

impl Remote {
    /// Connects to the bucket and sees whose it is. One that cannot be reached now is asked again
    /// before anything is put.
    pub(crate) async fn open(
        config: &BucketConfig,
        url_expires: Duration,
        database: Store,
        blobs: &Blobs,
        clock: Clock,
    ) -> Result<Arc<Self>, RemoteError> {
        let path = blobs.dir().join("folder-name");
        let named = path.clone();
        let folder_name = blocking(move || folder_name(&named)).await;
        let folder_name = folder_name.map_err(|source| RemoteError::Folder { path, source })?;
        let remote = Arc::new(Self {
            bucket: Bucket::open(config).await?,
            database,
            folder: blobs.store().clone(),
            folder_name,
            clock,
            url_expires,
            claimed: AtomicBool::new(false),
            puts: Semaphore::new(PUTS_MAX),
            gets: Semaphore::new(GETS_MAX),
            large: Large::default(),
            standing: Mutex::default(),
        });
        match remote.claim().await {
            Err(RemoteError::Claim(ClaimError::Bucket(error)))
                if error.cause.is_passing() || error.cause == Cause::Clock =>
            {
                tracing::warn!(%error, "the bucket cannot be used yet; pushes fail until it can");
            }
            claimed => claimed?,
        }
        Ok(remote)
    }

    /// Sees that the bucket is this fleet's, unless that was seen before.
    async fn claim(&self) -> Result<(), RemoteError> {
        if self.claimed.load(Ordering::Acquire) {
            return Ok(());
        }
        let fleet = self.fleet().await?;
        let has_blobs = self.database.bucket_usage().await?.0 > 0;
        self.bucket.claim(&fleet, has_blobs).await?;
        self.claimed.store(true, Ordering::Release);
        Ok(())
    }

    /// The name by which the bucket knows this fleet; made when it is first needed.
    async fn fleet(&self) -> Result<String, StoreError> {
        if let Some(fleet) = self.database.bucket_fleet().await? {
            return Ok(fleet);
        }
        let mut tx = self.database.begin().await?;
        tx.name_bucket_fleet(&hex(&random::<16>())).await?;
        tx.commit().await?;
        // Another control may have been first.
        Ok(self.database.bucket_fleet().await?.unwrap_or_default())
    }

    /// Whether the bucket can be used now, and is the right one.
    pub(crate) async fn check(&self) -> Result<(), RemoteError> {
        let checked = match self.claim().await {
            Ok(()) => {
                let fleet = self.fleet().await?;
                self.bucket.claim(&fleet, true).await.map(drop).map_err(RemoteError::from)
            }
            Err(error) => Err(error),
        };
        // Whoever wrote another marker means it: nothing is put there until that is mended.
        let is_foreign = |error: &RemoteError| match error {
            RemoteError::Claim(error) => !matches!(error, ClaimError::Bucket(_)),
            _ => false,
        };
        if checked.as_ref().is_err_and(is_foreign) {
            self.claimed.store(false, Ordering::Release);
        }
        let failure = checked.as_ref().err().map(|error| nigh_daemon::logging::causes(error));
        self.standing().failure = failure;
        checked
    }

    pub(crate) fn name(&self) -> &str {
        self.bucket.name()
    }

    pub(crate) fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of `digests` that are not in the bucket, each once, in their order.
    pub(crate) async fn missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        let places = self.database.places(digests).await?;
        let mut known: std::collections::HashSet<Digest> =
            places.iter().map(|place| place.digest).collect();
        Ok(digests.iter().filter(|digest| known.insert(**digest)).copied().collect())
    }

    pub(crate) async fn places(&self, digests: &[Digest]) -> Result<Vec<PlaceRow>, StoreError> {
        self.database.places(digests).await
    }

    /// Where those of `digests` are that the bucket has, with URLs that are good for a while.
    pub(crate) async fn locations(&self, digests: &[Digest]) -> Result<Locations, BlobError> {
        let mut places = self.database.places(digests).await?;
        places.sort_unstable_by(|a, b| (&a.object, a.start).cmp(&(&b.object, b.start)));
        let mut objects = Vec::new();
        for blobs in places.chunk_by(|a, b| a.object == b.object) {
            let key = blobs[0].object.clone();
            let url = self.bucket.url(&key, self.url_expires).await?;
            objects.push(LocatedObject { key, url, blobs: blobs.iter().map(located).collect() });
        }
        Ok(Locations { objects, ca_pem: self.bucket.ca_pem().map(str::to_owned) })
    }

    fn now(&self) -> Timestamp {
        self.clock.now().into()
    }

    /// A name in `folder` that no object has had.
    fn new_key(&self, folder: &str) -> String {
        format!("{folder}/{:012x}-{}", self.now().unix_ms().max(0), hex(&random::<8>()))
    }
}

fn located(place: &PlaceRow) -> LocatedBlob {
    let PlaceRow { digest, start, stored_len, raw_len, .. } = *place;
    LocatedBlob { digest, start, stored_len, raw_len }
}
