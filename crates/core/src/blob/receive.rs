//! Are these bodies, as they come in, the blobs that their pack lists?
//!
//! Bodies are read and checked in batches of a few MiB, each batch by several threads, so that
//! memory does not grow with the pack and the name of a wrong blob never exists.

use std::{
    io::Read,
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use nigh_proto::pack::PackedBlob;

use super::{
    codec::Decoder,
    error::{FileError, InsertError},
    heads::receive_error,
};

/// Stored bytes that are held at once, one more body aside.
const BATCH_BYTES: u64 = 4 << 20;
/// Less than this is checked before another thread would have started.
const THREAD_BYTES_MIN: u64 = 128 << 10;

/// One blob of a pack that is being received.
#[derive(Clone, Copy, Debug)]
pub(super) struct Incoming {
    pub(super) blob: PackedBlob,
    /// Whether the store has it already, so that its body is passed over.
    pub(super) is_present: bool,
}

/// Reads the bodies of `blobs` and hands those that are new to `write`, checked, in order.
pub(super) fn receive(
    reader: &mut impl Read,
    blobs: &[Incoming],
    threads: usize,
    mut write: impl FnMut(&[u8]) -> Result<(), FileError>,
) -> Result<(), ReceiveError> {
    let mut bodies = Vec::new();
    for batch in batches(blobs) {
        let blobs = &blobs[batch];
        let length = blobs.iter().map(|incoming| incoming.blob.stored_len as usize).sum();
        bodies.resize(length, 0);
        reader.read_exact(&mut bodies).map_err(receive_error)?;
        let claims = claims(blobs, &bodies);
        verify_all(&claims, threads)?;
        if claims.len() == blobs.len() {
            write(&bodies)?;
        } else {
            claims.iter().try_for_each(|claim| write(claim.body))?;
        }
    }
    expect_end(reader)?;
    Ok(())
}

/// Why bodies were not received: the sender's fault, or the disk's.
#[derive(Debug)]
pub(super) enum ReceiveError {
    Bodies(InsertError),
    Write(FileError),
}

impl From<InsertError> for ReceiveError {
    fn from(error: InsertError) -> Self {
        ReceiveError::Bodies(error)
    }
}

impl From<FileError> for ReceiveError {
    fn from(error: FileError) -> Self {
        ReceiveError::Write(error)
    }
}

/// A body that still has to be the blob that it is said to be.
#[derive(Clone, Copy, Debug)]
struct Claim<'a> {
    blob: PackedBlob,
    body: &'a [u8],
}

/// Those blobs of a batch that are new, with their bodies.
fn claims<'a>(blobs: &[Incoming], mut bodies: &'a [u8]) -> Vec<Claim<'a>> {
    let mut claims = Vec::with_capacity(blobs.len());
    for &Incoming { blob, is_present } in blobs {
        let (body, rest) = bodies.split_at(blob.stored_len as usize);
        bodies = rest;
        if !is_present {
            claims.push(Claim { blob, body });
        }
    }
    claims
}

/// Ranges of neighbours whose bodies are read at once.
fn batches(blobs: &[Incoming]) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut start = 0;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let count = blobs[start..]
            .iter()
            .take_while(|incoming| {
                let is_open = bytes < BATCH_BYTES;
                bytes += u64::from(incoming.blob.stored_len);
                is_open
            })
            .count();
        let batch = start..start + count;
        start = batch.end;
        (!batch.is_empty()).then_some(batch)
    })
}

/// Checks every claim; the error is that of the first wrong one.
fn verify_all(claims: &[Claim<'_>], threads: usize) -> Result<(), InsertError> {
    let raw_bytes: u64 = claims.iter().map(|claim| u64::from(claim.blob.raw_len)).sum();
    let worth_threads = usize::try_from(raw_bytes / THREAD_BYTES_MIN).unwrap_or(threads);
    let next = AtomicUsize::new(0);
    let first_wrong = thread::scope(|scope| {
        // A machine out of threads checks more slowly; this one does what no helper does.
        let spawn = |_| thread::Builder::new().spawn_scoped(scope, || verify_some(claims, &next));
        let helpers: Vec<_> = (1..threads.min(worth_threads)).flat_map(spawn).collect();
        let own = verify_some(claims, &next);
        let joined = helpers.into_iter().map(|helper| helper.join().expect("checks do not panic"));
        joined.chain([own]).flatten().min_by_key(|(position, _)| *position)
    });
    first_wrong.map_or(Ok(()), |(_, error)| Err(error))
}

/// Checks claims until none is left or one is wrong.
fn verify_some(claims: &[Claim<'_>], next: &AtomicUsize) -> Option<(usize, InsertError)> {
    let mut decoder = Decoder::default();
    loop {
        let position = next.fetch_add(1, Ordering::Relaxed);
        let claim = claims.get(position)?;
        if let Err(error) = decoder.verify(&claim.blob, claim.body) {
            return Some((position, error));
        }
    }
}

fn expect_end(reader: &mut impl Read) -> Result<(), InsertError> {
    match reader.take(1).read_to_end(&mut Vec::new()).map_err(receive_error)? {
        0 => Ok(()),
        _ => Err(InsertError::Trailing),
    }
}

#[cfg(test)]
mod tests {
    use nigh_proto::{Digest, pack::StoredCoding};

    use super::*;

    fn incoming(stored_len: u32) -> Incoming {
        let (digest, coding) = (Digest::of(b""), StoredCoding::Identity);
        let blob = PackedBlob { digest, coding, stored_len, raw_len: stored_len };
        Incoming { blob, is_present: false }
    }

    #[test]
    fn batches_hold_a_few_mib_and_miss_nothing() {
        let blobs: Vec<_> = (0..20).map(|_| incoming(1 << 20)).chain([incoming(0)]).collect();
        let batches: Vec<_> = batches(&blobs).collect();
        assert_eq!(batches, [0..4, 4..8, 8..12, 12..16, 16..20, 20..21]);
        assert_eq!(super::batches(&[]).count(), 0);
    }

    #[test]
    fn the_first_wrong_body_is_named_however_many_threads_look() {
        let raw: Vec<Vec<u8>> = (0..200u8).map(|seed| vec![seed; 10_000]).collect();
        let claims: Vec<_> = raw
            .iter()
            .enumerate()
            .map(|(position, body)| {
                let digest = Digest::of(if position % 50 == 49 { b"wrong" } else { body });
                let blob = PackedBlob { digest, ..incoming(10_000).blob };
                Claim { blob, body }
            })
            .collect();
        for threads in [1, 2, 7] {
            let error = verify_all(&claims, threads).unwrap_err();
            let actual = Digest::of(&raw[49]);
            assert!(matches!(error, InsertError::Mismatch { actual: a, .. } if a == actual));
        }
    }
}
