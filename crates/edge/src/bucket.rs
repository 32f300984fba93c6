//! Can blobs come straight from the bucket, past control?
//!
//! When control keeps its blobs in one it says so, and tells on request where blobs lie. They are
//! fetched in few requests, made into a pack as control would send it, and verified as always. What
//! the bucket refuses, has lost or damaged comes from control instead; a bucket that fails is left
//! alone for a while.

use std::{
    collections::HashMap,
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use nigh_core::blob::StoredBody;
use nigh_proto::{
    Digest,
    locations::{COMPLAINTS_MAX, LocatedBlob, LocatedObject, Locations, Run, runs},
    pack::{PackHead, PackedBlob, StoredCoding},
};
use nigh_replica::{ByteStream, FetchError, ObjectError, Replica};

use crate::source::{BlobSource, Counting, Fetching, Outlining};

/// How long a bucket that failed is left alone, doubled up to [`AVOID_MAX`].
const AVOID_FIRST: Duration = Duration::from_secs(5);
const AVOID_MAX: Duration = Duration::from_secs(5 * 60);
/// A blob that is asked for again so soon after it came was not what it should be.
const AGAIN: Duration = Duration::from_secs(60);
/// How many blobs are remembered to have come.
const CAME_MAX: usize = 65_536;

/// The bucket where it can be used, control otherwise.
#[derive(Clone)]
pub(crate) struct BucketFirst {
    replica: Replica,
    counting: Counting,
    memory: Arc<Mutex<Memory>>,
}

/// What was learned of the bucket.
#[derive(Debug, Default)]
struct Memory {
    avoid_until: Option<Instant>,
    avoid_for: Duration,
    /// Blobs that came, when, and from which object.
    came: HashMap<Digest, (Instant, Arc<str>)>,
    /// Objects that were gone or damaged, until control is told.
    complaints: Vec<String>,
}

impl Memory {
    fn is_avoided(&self, now: Instant) -> bool {
        self.avoid_until.is_some_and(|until| now < until)
    }

    /// The bucket failed: it is left alone, each time longer.
    fn avoid(&mut self, now: Instant) {
        self.avoid_for = (self.avoid_for * 2).clamp(AVOID_FIRST, AVOID_MAX);
        self.avoid_until = Some(now + self.avoid_for);
    }

    fn complain(&mut self, key: &str) {
        let is_new = !self.complaints.iter().any(|known| known == key);
        if is_new && self.complaints.len() < COMPLAINTS_MAX {
            self.complaints.push(key.to_owned());
        }
    }

    fn came(&mut self, digests: &[Digest], key: &Arc<str>, now: Instant) {
        (self.avoid_until, self.avoid_for) = (None, Duration::ZERO);
        if self.came.len() + digests.len() > CAME_MAX {
            self.came.retain(|_, (at, _)| now.saturating_duration_since(*at) < AGAIN);
        }
        if self.came.len() + digests.len() <= CAME_MAX {
            self.came.extend(digests.iter().map(|digest| (*digest, (now, Arc::clone(key)))));
        }
    }

    /// Whether one of `digests` came a moment ago; then its object is complained about.
    fn comes_again(&mut self, digests: &[Digest], now: Instant) -> bool {
        let mut again = false;
        for digest in digests {
            let Some((at, key)) = self.came.remove(digest) else { continue };
            if now.saturating_duration_since(at) < AGAIN {
                self.complain(&key);
                again = true;
            }
        }
        again
    }
}

impl BucketFirst {
    pub(crate) fn new(replica: Replica, counting: Counting) -> Self {
        Self { replica, counting, memory: Arc::default() }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the bucket has `digests`; `None` when control is to be asked for them.
    async fn locate(&self, digests: &[Digest]) -> Option<Locations> {
        let now = Instant::now();
        let (comes_again, complaints) = {
            let mut memory = self.memory();
            if !self.replica.has_bucket() || memory.is_avoided(now) {
                return None;
            }
            (memory.comes_again(digests, now), std::mem::take(&mut memory.complaints))
        };
        if comes_again {
            // Control has to be told even when this is not fetched from the bucket.
            let _ = self.replica.locate(&[], complaints).await;
            return None;
        }
        match self.replica.locate(digests, complaints).await {
            Ok(locations) => locations.filter(|found| !found.objects.is_empty()),
            Err(error) => {
                tracing::debug!(%error, "control did not say where blobs are");
                None
            }
        }
    }

    /// Notes why an object was not read.
    fn failed(&self, key: &str, error: &ObjectError) {
        tracing::info!(
            error = nigh_daemon::logging::causes(error),
            "blobs come from control, not from the bucket"
        );
        let mut memory = self.memory();
        match error {
            ObjectError::Missing | ObjectError::Garbled => memory.complain(key),
            ObjectError::Denied { .. }
            | ObjectError::Failed { .. }
            | ObjectError::Unreachable(_)
            | ObjectError::Setup(_) => memory.avoid(Instant::now()),
        }
    }

    /// A pack of those of `digests` that the bucket has.
    async fn pack_from_bucket(&self, digests: &[Digest]) -> Option<ByteStream> {
        let Locations { objects, ca_pem } = self.locate(digests).await?;
        let requests = requests(objects)?;
        let head = PackHead { blobs: requests.iter().flat_map(Request::packed).collect() };
        if head.bodies_bytes() > PackHead::MAX_BODIES_BYTES {
            return None;
        }
        let mut requests = requests.into_iter();
        // The first is begun before anything is promised, so that control can still be asked.
        let first = requests.next()?;
        let begun = match self.read(&first, ca_pem.as_deref()).await {
            Ok(bytes) => bytes,
            Err(error) => {
                self.failed(&first.key, &error);
                return None;
            }
        };
        let source = self.clone();
        let begun = stream::iter([(first, begun)]);
        let rest = stream::iter(requests).then(move |request| {
            let (source, ca_pem) = (source.clone(), ca_pem.clone());
            async move {
                let read = source.read(&request, ca_pem.as_deref()).await;
                let body = read.unwrap_or_else(|error| {
                    source.failed(&request.key, &error);
                    let broken = io::Error::other(error);
                    ByteStream::new(stream::iter([Err(broken)]))
                });
                (request, body)
            }
        });
        let memory = Arc::clone(&self.memory);
        let bodies = begun
            .chain(rest)
            .flat_map(move |(request, body)| bodies(Arc::clone(&memory), request, body));
        let head = stream::iter([Ok(Bytes::from(head.encode()))]);
        Some(ByteStream::new(head.chain(bodies)))
    }

    async fn read(
        &self,
        request: &Request,
        ca_pem: Option<&str>,
    ) -> Result<ByteStream, ObjectError> {
        let range = request.run.start..request.run.end;
        self.replica.read_object(&request.url, ca_pem, range).await
    }

    /// The raw bytes of one blob from `offset` on.
    async fn blob_from_bucket(&self, digest: &Digest, offset: u64) -> Option<ByteStream> {
        let Locations { objects, ca_pem } = self.locate(std::slice::from_ref(digest)).await?;
        let object = objects.into_iter().next()?;
        let blob = *object.blobs.first().filter(|blob| blob.digest == *digest)?;
        let is_small = blob.is_small();
        let start = if is_small { blob.start } else { blob.start.checked_add(offset)? };
        if start >= blob.end() {
            return None;
        }
        let run = Run { start, end: blob.end(), blobs: vec![blob] };
        let request = Request { key: object.key.as_str().into(), url: object.url.into(), run };
        let read = match self.read(&request, ca_pem.as_deref()).await {
            Ok(body) => body,
            Err(error) => {
                self.failed(&request.key, &error);
                return None;
            }
        };
        if !is_small {
            return Some(ByteStream::new(bodies(Arc::clone(&self.memory), request, read)));
        }
        match read.try_collect::<Vec<Bytes>>().await {
            Ok(pieces) => match raw(&blob, pieces.concat()) {
                Some(raw) => {
                    let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(raw.len());
                    let rest = Bytes::from(raw).slice(offset..);
                    Some(ByteStream::new(stream::iter([Ok(rest)])))
                }
                None => {
                    self.failed(&request.key, &ObjectError::Garbled);
                    None
                }
            },
            Err(error) => {
                self.failed(&request.key, &ObjectError::Unreachable(error.into()));
                None
            }
        }
    }
}

/// The bodies that a request is for, without what lies between them.
fn bodies(
    memory: Arc<Mutex<Memory>>,
    request: Request,
    body: ByteStream,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let digests: Vec<Digest> = request.run.blobs.iter().map(|blob| blob.digest).collect();
    let mut cut = Cut { at: request.run.start, blobs: request.run.blobs };
    let pieces = body.map_ok(move |piece| stream::iter(cut.wanted(&piece).into_iter().map(Ok)));
    // Reached only when nothing broke before it: an error ends what reads this.
    let end = stream::once(async move {
        let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.came(&digests, &request.key, Instant::now());
        Ok(Bytes::new())
    });
    pieces.try_flatten().chain(end)
}

/// One request to the bucket.
#[derive(Clone, Debug)]
struct Request {
    key: Arc<str>,
    url: Arc<str>,
    run: Run,
}

impl Request {
    /// How the blobs of the run are listed in a pack.
    fn packed(&self) -> impl Iterator<Item = PackedBlob> + '_ {
        self.run.blobs.iter().filter_map(packed)
    }
}

/// The requests that bring all small blobs of `objects`; `None` when there is none.
fn requests(objects: Vec<LocatedObject>) -> Option<Vec<Request>> {
    let mut requests = Vec::new();
    for LocatedObject { key, url, blobs } in objects {
        let (key, url): (Arc<str>, Arc<str>) = (key.into(), url.into());
        let small = blobs.into_iter().filter(|blob| packed(blob).is_some()).collect();
        let runs = runs(small).into_iter().filter(|run| run.end > run.start);
        requests.extend(runs.map(|run| Request {
            key: Arc::clone(&key),
            url: Arc::clone(&url),
            run,
        }));
    }
    (!requests.is_empty()).then_some(requests)
}

/// `None` for a blob that no pack may have.
fn packed(blob: &LocatedBlob) -> Option<PackedBlob> {
    if !blob.is_small() || blob.end() == u64::MAX {
        return None;
    }
    let (stored_len, raw_len) =
        (u32::try_from(blob.stored_len).ok()?, u32::try_from(blob.raw_len).ok()?);
    let coding = if stored_len == raw_len { StoredCoding::Identity } else { StoredCoding::Zstd };
    Some(PackedBlob { digest: blob.digest, coding, stored_len, raw_len })
}

/// The raw bytes of a small blob whose body is `bytes`, if they are its own.
fn raw(blob: &LocatedBlob, bytes: Vec<u8>) -> Option<Vec<u8>> {
    let PackedBlob { digest, coding, raw_len, .. } = packed(blob)?;
    StoredBody { digest, coding, raw_len, bytes }.into_raw().ok()
}

/// Takes bodies out of a run that goes by in pieces.
#[derive(Debug)]
struct Cut {
    /// Where in the object the next piece begins.
    at: u64,
    /// What is still to come, in order.
    blobs: Vec<LocatedBlob>,
}

impl Cut {
    /// What of the next piece belongs to a blob.
    fn wanted(&mut self, piece: &Bytes) -> Vec<Bytes> {
        let (begin, end) = (self.at, self.at + piece.len() as u64);
        self.at = end;
        let passed = self.blobs.iter().take_while(|blob| blob.end() <= begin).count();
        self.blobs.drain(..passed);
        let here = self.blobs.iter().take_while(|blob| blob.start < end);
        let within = |at: u64| usize::try_from(at.clamp(begin, end) - begin).unwrap_or(0);
        here.map(|blob| piece.slice(within(blob.start)..within(blob.end())))
            .filter(|bytes| !bytes.is_empty())
            .collect()
    }
}

impl BlobSource for BucketFirst {
    fn pack<'a>(&'a self, digests: &'a [Digest]) -> Fetching<'a> {
        Box::pin(async move {
            match self.pack_from_bucket(digests).await {
                Some(pack) => Ok::<_, FetchError>(self.counting.count(pack, "bucket")),
                None => {
                    let pack = self.replica.fetch_pack(digests).await?;
                    Ok(self.counting.count(pack, "control"))
                }
            }
        })
    }

    fn blob<'a>(&'a self, digest: &'a Digest, offset: u64) -> Fetching<'a> {
        Box::pin(async move {
            match self.blob_from_bucket(digest, offset).await {
                Some(blob) => Ok::<_, FetchError>(self.counting.count(blob, "bucket")),
                None => {
                    let blob = self.replica.fetch_blob(digest, offset).await?;
                    Ok(self.counting.count(blob, "control"))
                }
            }
        })
    }

    fn outline<'a>(&'a self, digest: &'a Digest, size_bytes: u64) -> Outlining<'a> {
        self.replica.outline(digest, size_bytes)
    }
}

impl fmt::Debug for BucketFirst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BucketFirst")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn blob(seed: u64, start: u64, length: u64) -> LocatedBlob {
        let digest = Digest::of(&seed.to_le_bytes());
        LocatedBlob { digest, start, stored_len: length, raw_len: length }
    }

    proptest! {
        #[test]
        fn however_a_run_is_cut_its_bodies_come_out_whole_and_in_order(
            lengths in proptest::collection::vec((0u64..50, 0u64..20), 1..20),
            pieces in proptest::collection::vec(1usize..40, 1..60),
        ) {
            let (mut at, mut blobs) = (100, Vec::new());
            for (seed, (length, gap)) in lengths.into_iter().enumerate() {
                blobs.push(blob(seed as u64, at, length));
                at += length + gap;
            }
            let end = blobs.last().unwrap().end();
            let object: Bytes = (100..end).map(|at| at as u8).collect::<Vec<u8>>().into();
            let expected: Vec<u8> =
                blobs.iter().flat_map(|blob| (blob.start..blob.end()).map(|at| at as u8)).collect();
            let mut cut = Cut { at: 100, blobs };
            let (mut got, mut sent) = (Vec::new(), 0);
            for length in pieces.iter().cycle() {
                if sent == object.len() {
                    break;
                }
                let piece = object.slice(sent..(sent + length).min(object.len()));
                sent += piece.len();
                cut.wanted(&piece).iter().for_each(|bytes| got.extend_from_slice(bytes));
            }
            prop_assert_eq!(got, expected);
        }

        #[test]
        fn whatever_control_says_no_request_is_empty_and_no_pack_is_wrong(
            places in proptest::collection::vec((any::<u64>(), any::<u64>(), any::<u64>()), 0..20),
        ) {
            let blobs: Vec<_> = places
                .iter()
                .enumerate()
                .map(|(seed, &(start, stored_len, raw_len))| LocatedBlob {
                    stored_len, raw_len, ..blob(seed as u64, start, 0)
                })
                .collect();
            let object = LocatedObject { key: "packs/a".to_owned(), url: String::new(), blobs };
            for request in requests(vec![object]).unwrap_or_default() {
                prop_assert!(request.run.start < request.run.end);
                prop_assert_eq!(request.packed().count(), request.run.blobs.len());
            }
        }
    }

    #[test]
    fn a_blob_that_is_asked_for_again_at_once_is_a_complaint() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        let (one, key) = (Digest::of(b"one"), Arc::from("packs/a"));
        assert!(!memory.comes_again(&[one], now));
        memory.came(&[one], &key, now);
        assert!(memory.comes_again(&[one], now + Duration::from_secs(1)));
        assert_eq!(memory.complaints, ["packs/a"]);
        memory.came(&[one], &key, now);
        assert!(!memory.comes_again(&[one], now + AGAIN), "it may have been collected since");
    }

    #[test]
    fn a_bucket_that_fails_is_left_alone_longer_each_time_until_it_works() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        memory.avoid(now);
        assert!(memory.is_avoided(now) && !memory.is_avoided(now + AVOID_FIRST));
        memory.avoid(now);
        assert!(memory.is_avoided(now + AVOID_FIRST));
        (0..20).for_each(|_| memory.avoid(now));
        assert!(!memory.is_avoided(now + AVOID_MAX));
        memory.came(&[], &Arc::from("packs/a"), now);
        assert!(!memory.is_avoided(now));
    }

    #[test]
    fn complaints_are_few_and_different() {
        let mut memory = Memory::default();
        (0..100).for_each(|number| memory.complain(&format!("packs/{}", number / 2)));
        assert_eq!(memory.complaints.len(), COMPLAINTS_MAX);
    }
}
