//! What does an edge do when control has lost blobs?
//!
//! It gives those that it has, as they are stored, at the lowest hurry: visitors come first, and
//! control asks again for whatever did not arrive.

use std::io::{Read as _, Seek as _, SeekFrom};

use bytes::Bytes;
use nigh_core::blob::Store;
use nigh_proto::{Digest, api::UPLOAD_PART_MAX_BYTES, pack::PackHead};
use nigh_replica::{FetchError, Replica};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

/// Stored bytes of one pack; it is held in memory.
const PACK_BYTES: u64 = 4 << 20;
/// Bytes of one part of a large blob; held in memory too.
const PART_BYTES: u64 = 4 << 20;
const _: () = assert!(PART_BYTES <= UPLOAD_PART_MAX_BYTES);

#[derive(Debug, thiserror::Error)]
enum GiveError {
    #[error("control did not take blobs")]
    Control(#[from] FetchError),
    #[error("a blob could not be read")]
    Read(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Blobs that go out together, or one by itself.
#[derive(Debug, PartialEq, Eq)]
enum Gift {
    Pack(Vec<Digest>),
    Large(Digest),
}

/// Gives whatever control asks for, until the edge stops.
pub(crate) async fn run(store: Store, replica: Replica, stopping: CancellationToken) {
    let mut wanted = replica.wanted();
    loop {
        let digests = wanted.borrow_and_update().clone();
        if !digests.is_empty() {
            let given = stopping.run_until_cancelled(give_all(&store, &replica, &digests)).await;
            if let Some(Err(error)) = given {
                let error = nigh_daemon::logging::causes(&error);
                tracing::warn!(error, "blobs that control asked for were not all given");
            }
        }
        match stopping.run_until_cancelled(wanted.changed()).await {
            Some(Ok(())) => {}
            Some(Err(_)) | None => return,
        }
    }
}

async fn give_all(store: &Store, replica: &Replica, wanted: &[Digest]) -> Result<(), GiveError> {
    for gift in gifts(store, wanted) {
        match gift {
            Gift::Pack(digests) => replica.give_pack(pack(store, digests).await?).await?,
            Gift::Large(digest) => give_large(store, replica, digest).await?,
        }
    }
    Ok(())
}

/// What is here of `wanted`, cut into what goes out at once.
fn gifts(store: &Store, wanted: &[Digest]) -> Vec<Gift> {
    let (mut gifts, mut pack, mut pack_bytes) = (Vec::new(), Vec::new(), 0);
    for digest in wanted {
        let Some(stat) = store.stat(digest) else { continue };
        if stat.is_loose {
            gifts.push(Gift::Large(*digest));
            continue;
        }
        let is_full =
            pack_bytes + stat.stored_len > PACK_BYTES || pack.len() == PackHead::MAX_BLOBS;
        if is_full && !pack.is_empty() {
            gifts.push(Gift::Pack(std::mem::take(&mut pack)));
            pack_bytes = 0;
        }
        pack.push(*digest);
        pack_bytes += stat.stored_len;
    }
    if !pack.is_empty() {
        gifts.push(Gift::Pack(pack));
    }
    gifts
}

async fn pack(store: &Store, digests: Vec<Digest>) -> Result<Bytes, GiveError> {
    let store = store.clone();
    blocking(move || {
        let mut pack = Vec::new();
        store.write_pack(&digests, &mut pack)?;
        Ok(pack.into())
    })
    .await
}

async fn give_large(store: &Store, replica: &Replica, digest: Digest) -> Result<(), GiveError> {
    let opened = store.clone();
    let (mut file, size_bytes) = blocking(move || Ok(opened.open_loose(&digest)?)).await?;
    let mut offset = 0;
    while offset < size_bytes {
        let length = PART_BYTES.min(size_bytes - offset);
        let (read, part) = blocking(move || {
            let mut part = vec![0; usize::try_from(length)?];
            file.seek(SeekFrom::Start(offset))?;
            file.read_exact(&mut part)?;
            Ok((file, Bytes::from(part)))
        })
        .await?;
        file = read;
        replica.give_part(&digest, size_bytes, offset, part).await?;
        offset += length;
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
) -> Result<T, GiveError> {
    let done = spawn_blocking(work).await.map_err(|error| GiveError::Read(error.into()))?;
    done.map_err(GiveError::Read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_here_is_left_out_and_packs_stay_small() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        // Bytes that do not compress, of a megabyte each.
        let blob = |seed: u32| {
            let hashed = |place: u32| *Digest::of(&(seed << 16 | place).to_be_bytes()).as_bytes();
            (0..1 << 15).flat_map(hashed).collect::<Vec<u8>>()
        };
        let blobs: Vec<Vec<u8>> = (0..6).map(blob).collect();
        let digests = store.insert_many(&blobs).unwrap();
        let mut wanted = digests.clone();
        wanted.push(Digest::of(b"elsewhere"));
        let gifts = gifts(&store, &wanted);
        let packs: Vec<usize> = gifts
            .iter()
            .map(|gift| match gift {
                Gift::Pack(digests) => digests.len(),
                Gift::Large(_) => panic!("none is large"),
            })
            .collect();
        assert_eq!(packs.iter().sum::<usize>(), 6);
        assert!(packs.len() > 1, "{packs:?}");
    }
}
