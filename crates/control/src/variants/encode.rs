//! How is a content encoded, and is the result worth keeping?

use std::{
    io::{self, Write as _},
    sync::{Arc, Mutex, PoisonError, mpsc},
};

use nigh_proto::variants::ContentCoding;
use tokio::sync::oneshot;

/// A form must be smaller by a sixteenth, or decoding it costs a visitor more than it saves.
const GAIN_SHARE: usize = 16;
/// Contents below this get the slowest efforts.
const SMALL_BYTES: u64 = 256 << 10;
/// How far the threads step back: the least that is more than idle.
const NICE: i32 = 19;

/// How hard a pass tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Effort {
    /// Every coding, soon.
    Quick,
    /// Once more with the best brotli, for small contents.
    Best,
}

impl Effort {
    /// The quality of `coding` for a content of this size; `None`: not in this pass.
    pub(super) const fn of(self, coding: ContentCoding, size_bytes: u64) -> Option<u32> {
        let is_small = size_bytes < SMALL_BYTES;
        match (self, coding) {
            (Effort::Quick, ContentCoding::Br) => Some(5),
            (Effort::Quick, ContentCoding::Gzip) => Some(9),
            (Effort::Quick, ContentCoding::Zstd) if is_small => Some(19),
            (Effort::Quick, ContentCoding::Zstd) => Some(12),
            (Effort::Best, ContentCoding::Br) if is_small => Some(11),
            (Effort::Best, _) => None,
        }
    }
}

/// One form of a content, `None` when it was not worth it.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) coding: ContentCoding,
    pub(super) effort: u32,
    pub(super) bytes: Option<Vec<u8>>,
}

struct Job {
    raw: Vec<u8>,
    wanted: Vec<(ContentCoding, u32)>,
    done: oneshot::Sender<Vec<Encoded>>,
}

/// Threads of the lowest priority that encode. They end when the pool is dropped.
#[derive(Debug)]
pub(super) struct Pool(mpsc::SyncSender<Job>);

impl Pool {
    pub(super) fn new(threads: usize) -> Self {
        let (sender, jobs) = mpsc::sync_channel::<Job>(1);
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..threads {
            let jobs = Arc::clone(&jobs);
            let spawned =
                std::thread::Builder::new().name("variants".to_owned()).spawn(move || work(&jobs));
            if let Err(error) = spawned {
                tracing::warn!(%error, "a thread that encodes could not start");
            }
        }
        Pool(sender)
    }

    /// Every form that is wanted. Empty when no thread works any more.
    pub(super) async fn encode(
        &self,
        raw: Vec<u8>,
        wanted: Vec<(ContentCoding, u32)>,
    ) -> Vec<Encoded> {
        let (done, encoded) = oneshot::channel();
        let jobs = self.0.clone();
        let job = Job { raw, wanted, done };
        if crate::blobs::blocking(move || jobs.send(job)).await.is_err() {
            return Vec::new();
        }
        encoded.await.unwrap_or_default()
    }
}

fn work(jobs: &Mutex<mpsc::Receiver<Job>>) {
    // On Linux this is the priority of the thread, not of the process.
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::debug!(%error, "the priority of encoding stays normal");
    }
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { raw, wanted, done }) = job else { return };
        let encoded = wanted.into_iter().map(|(coding, effort)| {
            let bytes = encode(coding, effort, &raw).ok();
            let mut bytes = bytes.filter(|bytes| is_worth(bytes, &raw));
            // Encoders reserve for the worst case; a batch of thousands would hold all of that.
            bytes.iter_mut().for_each(Vec::shrink_to_fit);
            Encoded { coding, effort, bytes }
        });
        // Nobody waits for it when control stops.
        let _ = done.send(encoded.collect());
    }
}

/// The smallest brotli window that holds a content of `length`, as the logarithm of its bytes: the
/// encoder's tables grow with it (RFC 7932, section 9.1).
fn window_log(length: usize) -> i32 {
    let bits = usize::BITS - length.leading_zeros();
    bits.clamp(10, 22).cast_signed()
}

fn is_worth(bytes: &[u8], raw: &[u8]) -> bool {
    bytes.len() < raw.len() - raw.len() / GAIN_SHARE
}

fn encode(coding: ContentCoding, effort: u32, raw: &[u8]) -> io::Result<Vec<u8>> {
    match coding {
        ContentCoding::Br => {
            let mut bytes = Vec::new();
            let params = brotli::enc::BrotliEncoderParams {
                quality: effort.min(11).cast_signed(),
                size_hint: raw.len(),
                lgwin: window_log(raw.len()),
                ..Default::default()
            };
            brotli::BrotliCompress(&mut &raw[..], &mut bytes, &params)?;
            Ok(bytes)
        }
        ContentCoding::Zstd => {
            // Up to level 19 windows have at most the 8 MiB that browsers decode (RFC 9659,
            // section 3); this call knows the size, so small contents take little memory.
            zstd::bulk::compress(raw, effort.cast_signed())
        }
        ContentCoding::Gzip => {
            let level = flate2::Compression::new(effort.min(9));
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(raw)?;
            encoder.finish()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn decode(coding: ContentCoding, bytes: &[u8]) -> Vec<u8> {
        let mut raw = Vec::new();
        match coding {
            ContentCoding::Br => brotli::BrotliDecompress(&mut &bytes[..], &mut raw).unwrap(),
            ContentCoding::Zstd => raw = zstd::decode_all(bytes).unwrap(),
            ContentCoding::Gzip => {
                flate2::read::GzDecoder::new(bytes).read_to_end(&mut raw).map(drop).unwrap();
            }
        }
        raw
    }

    #[tokio::test]
    async fn every_form_decodes_to_the_content() {
        let raw = "<p>the same words again and again</p>".repeat(100).into_bytes();
        let pool = Pool::new(1);
        for effort in [Effort::Quick, Effort::Best] {
            let wanted: Vec<_> = ContentCoding::ALL
                .into_iter()
                .filter_map(|coding| Some((coding, effort.of(coding, raw.len() as u64)?)))
                .collect();
            let encoded = pool.encode(raw.clone(), wanted.clone()).await;
            assert_eq!(encoded.len(), wanted.len());
            for Encoded { coding, bytes, .. } in encoded {
                assert_eq!(decode(coding, &bytes.unwrap()), raw, "{coding}");
            }
        }
    }

    #[tokio::test]
    async fn what_does_not_shrink_is_not_kept() {
        let mut raw = vec![0; 2000];
        blake3::Hasher::new().finalize_xof().fill(&mut raw);
        let encoded = Pool::new(1).encode(raw, vec![(ContentCoding::Gzip, 9)]).await;
        assert!(encoded[0].bytes.is_none());
    }
}
