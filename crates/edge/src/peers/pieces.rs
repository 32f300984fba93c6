//! How does a large blob come in so that others can have its pieces at once?
//!
//! Its outline is asked of control and checked against the digest. Every piece is checked before it is
//! written, so damage is noticed where it comes from, and what is here is good for peers. Without an
//! outline, such as from a control that does not have the blob in its folder, it comes in as a whole
//! and is verified at its end.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read as _},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::BytesMut;
use futures_util::StreamExt as _;
use nigh_core::blob::{InsertError, Outline, PIECE_BYTES, Partial, Store};
use nigh_proto::Digest;
use tokio::time::timeout;

use super::arrivals::{Arrival, Arrivals};
use crate::{
    intake::{self, IntakeError, Source, blocking},
    load::Missing,
    source::BlobSource,
};

/// Smaller blobs are here before anyone could follow.
const OUTLINED_MIN: u64 = 4 << 20;
/// How long the outline of a blob is waited for: control reads all of it the first time.
const OUTLINE_TIMEOUT: Duration = Duration::from_secs(20);
/// Outlines that are remembered between two tries, of up to 2 MiB each.
const OUTLINES_MAX: usize = 8;

/// Takes in large blobs; cheap to clone.
#[derive(Clone)]
pub(crate) struct Pieces {
    store: Store,
    /// Who knows outlines.
    source: Source,
    arrivals: Arrivals,
    /// `None` for a blob that nobody knows the outline of.
    outlines: Arc<Mutex<HashMap<Digest, Option<Arc<Outline>>>>>,
}

impl std::fmt::Debug for Pieces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pieces")
    }
}

impl Pieces {
    pub(crate) fn new(store: Store, source: Source, arrivals: Arrivals) -> Self {
        Self { store, source, arrivals, outlines: Arc::default() }
    }

    /// Fetches a blob from `source`, going on where an earlier try ended.
    pub(crate) async fn fetch(
        &self,
        source: &dyn BlobSource,
        missing: Missing,
    ) -> Result<(), IntakeError> {
        let Some(outline) = self.outline(missing).await else {
            return intake::fetch_blob(&self.store, source, missing).await;
        };
        let fetched = self.follow(source, missing, &outline).await;
        if fetched.is_ok() {
            self.outlines().remove(&missing.digest);
        }
        fetched
    }

    async fn follow(
        &self,
        source: &dyn BlobSource,
        missing: Missing,
        outline: &Outline,
    ) -> Result<(), IntakeError> {
        let Missing { digest, size_bytes } = missing;
        let partial = self.begin(missing, outline).await?;
        let offset = partial.offset();
        let Some(file) = partial.reader()?.filter(|_| offset < size_bytes) else {
            return blocking(move || partial.finish()).await;
        };
        // Until it has its name, so that peers are never told that it is nowhere.
        let arrival = self.arrivals.begin(digest, size_bytes, file, offset);
        let stream = source.blob(&digest, offset).await?;
        let partial = append(partial, stream, outline, &arrival).await?;
        blocking(move || partial.finish()).await
    }

    /// What is here already, as far as it is the blob's own.
    async fn begin(&self, missing: Missing, outline: &Outline) -> Result<Partial, IntakeError> {
        let (store, outline) = (self.store.clone(), outline.clone());
        let Missing { digest, size_bytes } = missing;
        blocking(move || {
            let begin = || store.begin_aligned(digest, size_bytes, PIECE_BYTES);
            let partial = begin()?;
            let Some(file) = partial.reader()? else { return Ok(partial) };
            if are_pieces(file, partial.offset(), &outline).unwrap_or(false) {
                return Ok(partial);
            }
            partial.discard()?;
            begin()
        })
        .await
    }

    async fn outline(&self, missing: Missing) -> Option<Arc<Outline>> {
        let Missing { digest, size_bytes } = missing;
        if size_bytes < OUTLINED_MIN {
            return None;
        }
        if let Some(known) = self.outlines().get(&digest) {
            return known.clone();
        }
        let asked = timeout(OUTLINE_TIMEOUT, self.source.outline(&digest, size_bytes)).await;
        let outline = asked.ok().flatten().and_then(|list| {
            let parsed = Outline::parse(&list, &digest, size_bytes);
            if parsed.is_none() {
                tracing::warn!(%digest, "the outline of a blob is not its own and is not used");
            }
            parsed.map(Arc::new)
        });
        let mut outlines = self.outlines();
        if outlines.len() >= OUTLINES_MAX {
            outlines.clear();
        }
        outlines.insert(digest, outline.clone());
        outline
    }

    fn outlines(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Option<Arc<Outline>>>> {
        self.outlines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the first `bytes` of a file, some whole pieces or all of them, are the blob's.
fn are_pieces(mut file: File, bytes: u64, outline: &Outline) -> io::Result<bool> {
    let (mut piece, mut offset) = (Vec::new(), 0);
    while offset < bytes {
        let length = outline.piece_bytes(offset);
        piece.clear();
        file.by_ref().take(length).read_to_end(&mut piece)?;
        if !outline.is_piece(offset, &piece) {
            return Ok(false);
        }
        offset += length;
    }
    Ok(true)
}

/// Appends what comes, piece by piece; a piece that broke off is not kept.
async fn append(
    mut partial: Partial,
    mut stream: nigh_replica::ByteStream,
    outline: &Outline,
    arrival: &Arrival,
) -> Result<Partial, IntakeError> {
    let mut buffer = BytesMut::new();
    let size_bytes = partial.size_bytes();
    while let Some(bytes) = stream.next().await {
        buffer.extend_from_slice(&bytes?);
        while partial.offset() < size_bytes {
            let offset = partial.offset();
            let length = outline.piece_bytes(offset) as usize;
            if buffer.len() < length {
                break;
            }
            let piece = buffer.split_to(length).freeze();
            if !outline.is_piece(offset, &piece) {
                let (claimed, actual) = (arrival.digest(), Digest::of(&piece));
                return Err(InsertError::Mismatch { claimed, actual }.into());
            }
            partial = blocking(move || partial.append(&piece).map(|()| partial)).await?;
            arrival.verified(partial.offset());
        }
        if partial.offset() == size_bytes && !buffer.is_empty() {
            return Err(io::Error::other("more was sent than the blob has").into());
        }
    }
    if partial.offset() < size_bytes {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(partial)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use bytes::Bytes;
    use futures_util::stream;
    use nigh_replica::{ByteStream, FetchError};
    use tokio::sync::Notify;

    use super::*;
    use crate::source::{Fetching, Outlining};

    const SIZE: usize = (6 << 20) + 77;
    const PIECE: usize = PIECE_BYTES as usize;

    /// A source of one blob, which holds back what comes after `ready` bytes.
    struct Slow {
        sends: Vec<u8>,
        outline: Vec<u8>,
        ready: usize,
        rest: Arc<Notify>,
        /// From where it was asked last.
        asked: AtomicU64,
    }

    impl Slow {
        fn new(blob: &[u8], ready: usize) -> Arc<Self> {
            let outline = Outline::read(&mut &blob[..], blob.len() as u64).unwrap().unwrap();
            let (sends, rest, asked) = (blob.to_vec(), Arc::default(), AtomicU64::default());
            Arc::new(Self { sends, outline: outline.encode(), ready, rest, asked })
        }
    }

    impl BlobSource for Slow {
        fn pack<'a>(&'a self, _: &'a [Digest]) -> Fetching<'a> {
            Box::pin(async { Err(FetchError::NotJoined) })
        }

        fn blob<'a>(&'a self, _: &'a Digest, offset: u64) -> Fetching<'a> {
            self.asked.store(offset, Ordering::Relaxed);
            let start = offset as usize;
            let ready = self.ready.clamp(start, self.sends.len());
            let now = Bytes::copy_from_slice(&self.sends[start..ready]);
            let later = Bytes::copy_from_slice(&self.sends[ready..]);
            let rest = Arc::clone(&self.rest);
            let later = stream::once(async move {
                rest.notified().await;
                Ok(later)
            });
            let now = stream::iter([Ok(now)]);
            Box::pin(async move { Ok(ByteStream::new(now.chain(later))) })
        }

        fn outline<'a>(&'a self, _: &'a Digest, _: u64) -> Outlining<'a> {
            Box::pin(async { Some(self.outline.clone().into()) })
        }
    }

    fn blob() -> (Vec<u8>, Missing) {
        let bytes: Vec<u8> =
            (0..SIZE as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
        let missing = Missing { digest: Digest::of(&bytes), size_bytes: SIZE as u64 };
        (bytes, missing)
    }

    struct Fixture {
        store: Store,
        arrivals: Arrivals,
        _dir: tempfile::TempDir,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path()).unwrap();
            Self { store, arrivals: Arrivals::default(), _dir: dir }
        }

        /// Fetches from `source`, which also knows the outline.
        fn fetch(
            &self,
            source: &Arc<Slow>,
            missing: Missing,
        ) -> tokio::task::JoinHandle<Result<(), IntakeError>> {
            let pieces =
                Pieces::new(self.store.clone(), Arc::<Slow>::clone(source), self.arrivals.clone());
            let source = Arc::clone(source);
            tokio::spawn(async move { pieces.fetch(&*source, missing).await })
        }

        /// Ends when so much is here for others.
        async fn has(&self, digest: &Digest, bytes: usize) {
            while self.arrivals.get(digest).is_none_or(|one| one.verified() < bytes as u64) {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn pieces_are_there_for_others_before_the_blob_is_whole() {
        let (fixture, (bytes, missing)) = (Fixture::new(), blob());
        let source = Slow::new(&bytes, 3 * PIECE + 5);
        let fetching = fixture.fetch(&source, missing);
        fixture.has(&missing.digest, 3 * PIECE).await;
        let mut arriving = fixture.arrivals.get(&missing.digest).unwrap();
        assert_eq!(arriving.verified(), 3 * PIECE_BYTES, "what is not a whole piece is not told");
        source.rest.notify_one();
        let size_bytes = SIZE as u64;
        assert_eq!(arriving.verified_beyond(size_bytes - 1).await, Some(size_bytes));
        // Whoever follows reads on after the blob has its name.
        fetching.await.unwrap().unwrap();
        let mut all = vec![0; SIZE];
        std::os::unix::fs::FileExt::read_exact_at(arriving.file(), &mut all, 0).unwrap();
        assert_eq!(all, bytes);
        assert!(fixture.store.contains(&missing.digest));
        assert!(fixture.arrivals.get(&missing.digest).is_none());
    }

    #[tokio::test]
    async fn a_try_that_broke_off_goes_on_at_the_last_whole_piece() {
        let (fixture, (bytes, missing)) = (Fixture::new(), blob());
        let source = Slow::new(&bytes, 2 * PIECE + 100);
        let fetching = fixture.fetch(&source, missing);
        fixture.has(&missing.digest, 2 * PIECE).await;
        let mut arriving = fixture.arrivals.get(&missing.digest).unwrap();
        fetching.abort();
        assert!(fetching.await.unwrap_err().is_cancelled());
        assert_eq!(arriving.verified_beyond(2 * PIECE_BYTES).await, None, "no more arrives");
        let again = Slow::new(&bytes, SIZE);
        again.rest.notify_one();
        fixture.fetch(&again, missing).await.unwrap().unwrap();
        assert_eq!(again.asked.load(Ordering::Relaxed), 2 * PIECE_BYTES);
        assert!(fixture.store.contains(&missing.digest));
    }

    #[tokio::test]
    async fn a_damaged_piece_is_noticed_where_it_is_and_what_was_before_stays() {
        let (fixture, (bytes, missing)) = (Fixture::new(), blob());
        let mut damaged = Arc::into_inner(Slow::new(&bytes, SIZE)).unwrap();
        damaged.sends[PIECE + 9] ^= 4;
        let damaged = Arc::new(damaged);
        damaged.rest.notify_one();
        let error = fixture.fetch(&damaged, missing).await.unwrap().unwrap_err();
        assert!(matches!(error, IntakeError::Insert(InsertError::Mismatch { .. })), "{error}");
        let good = Slow::new(&bytes, SIZE);
        good.rest.notify_one();
        fixture.fetch(&good, missing).await.unwrap().unwrap();
        assert_eq!(good.asked.load(Ordering::Relaxed), PIECE_BYTES);
    }

    #[tokio::test]
    async fn damage_in_what_an_earlier_try_left_is_thrown_away() {
        let (fixture, (bytes, missing)) = (Fixture::new(), blob());
        let mut partial = fixture.store.begin(missing.digest, missing.size_bytes).unwrap();
        partial.append(&bytes[..PIECE]).unwrap();
        partial.append(&vec![0; PIECE]).unwrap();
        drop(partial);
        let source = Slow::new(&bytes, SIZE);
        source.rest.notify_one();
        fixture.fetch(&source, missing).await.unwrap().unwrap();
        assert_eq!(source.asked.load(Ordering::Relaxed), 0);
        assert!(fixture.store.verify(&missing.digest));
    }

    #[tokio::test]
    async fn with_an_outline_that_is_not_its_own_a_blob_comes_in_as_a_whole() {
        let (fixture, (bytes, missing)) = (Fixture::new(), blob());
        let mut source = Arc::into_inner(Slow::new(&bytes, SIZE)).unwrap();
        source.outline[3] ^= 1;
        let source = Arc::new(source);
        source.rest.notify_one();
        fixture.fetch(&source, missing).await.unwrap().unwrap();
        assert!(fixture.store.contains(&missing.digest));
    }
}
