//! Which packs should go, and which should be packed anew?

use nigh_proto::pack::PackHead;

use super::builder::PackBuilder;

/// Packs smaller than this cost more in files and syncs than their bytes.
const SMALL_BYTES: u64 = 1 << 20;
/// So many small ones are worth the copying.
const SMALL_COUNT_MIN: usize = 16;
/// How large packs become when small ones are put together.
const MERGED_BYTES_MAX: u64 = 16 << 20;

/// What is left in a pack, wherever it lies, that may be collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackUse {
    pub id: u32,
    pub file_bytes: u64,
    pub live_blobs: usize,
    /// Stored bytes of the live blobs.
    pub live_bytes: u64,
    pub live_raw_bytes: u64,
}

impl PackUse {
    /// How long the pack would be with nothing but its live blobs.
    fn packed_bytes(&self) -> u64 {
        PackHead::head_bytes(self.live_blobs) as u64 + self.live_bytes
    }

    fn is_sparse(&self) -> bool {
        self.packed_bytes() * 2 < self.file_bytes
    }
}

/// What to do with packs; those that are in neither list stay.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Packs without a live blob.
    pub remove: Vec<u32>,
    /// Each group becomes one pack.
    pub rewrite: Vec<Vec<u32>>,
}

/// Packs that are less than half live are rewritten, and small ones when there are many.
pub fn plan(packs: &[PackUse]) -> Plan {
    let (empty, used): (Vec<_>, Vec<_>) = packs.iter().partition(|pack| pack.live_blobs == 0);
    let is_small = |pack: &PackUse| pack.packed_bytes() < SMALL_BYTES;
    let are_small_many = used.iter().filter(|pack| is_small(pack)).count() >= SMALL_COUNT_MIN;
    let rewritten =
        used.into_iter().filter(|pack| pack.is_sparse() || (are_small_many && is_small(pack)));
    Plan { remove: empty.iter().map(|pack| pack.id).collect(), rewrite: group(rewritten) }
}

/// Neighbours together, as far as one pack holds them.
fn group(packs: impl Iterator<Item = PackUse>) -> Vec<Vec<u32>> {
    let mut groups: Vec<Vec<u32>> = Vec::new();
    let (mut blobs, mut bytes, mut raw_bytes) = (0, 0, 0);
    for pack in packs {
        blobs += pack.live_blobs;
        bytes += pack.live_bytes;
        raw_bytes += pack.live_raw_bytes;
        let fits = blobs <= PackHead::MAX_BLOBS
            && bytes <= MERGED_BYTES_MAX
            && raw_bytes <= PackBuilder::RAW_BYTES_MAX;
        match groups.last_mut() {
            Some(group) if fits => group.push(pack.id),
            Some(_) | None => {
                groups.push(vec![pack.id]);
                (blobs, bytes, raw_bytes) = (pack.live_blobs, pack.live_bytes, pack.live_raw_bytes);
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn pack(id: u32, file_bytes: u64, live_blobs: usize, live_bytes: u64) -> PackUse {
        PackUse { id, file_bytes, live_blobs, live_bytes, live_raw_bytes: live_bytes }
    }

    #[test]
    fn empty_packs_go_sparse_ones_are_rewritten_and_the_rest_stays() {
        let packs = [
            pack(1, 8 * MIB, 0, 0),
            pack(2, 8 * MIB, 10, 3 * MIB),
            pack(3, 8 * MIB, 10, 5 * MIB),
            pack(4, 8 * MIB, 10, MIB),
        ];
        assert_eq!(plan(&packs), Plan { remove: vec![1], rewrite: vec![vec![2, 4]] });
    }

    #[test]
    fn a_pack_of_tiny_blobs_is_not_sparse_because_of_its_head() {
        let file_bytes = PackHead::head_bytes(100) as u64 + 100;
        assert_eq!(plan(&[pack(1, file_bytes, 100, 100)]), Plan::default());
    }

    #[test]
    fn small_packs_are_put_together_once_they_are_many() {
        let small = |id| pack(id, 1060, 1, 1000);
        let few: Vec<_> = (0..15).map(small).collect();
        assert_eq!(plan(&few), Plan::default());
        let many: Vec<_> = (0..16).map(small).collect();
        assert_eq!(plan(&many).rewrite, [(0..16).collect::<Vec<_>>()]);
    }

    #[test]
    fn a_group_fits_into_one_pack() {
        let packs: Vec<_> = (0..4).map(|id| pack(id, 32 * MIB, 10, 6 * MIB)).collect();
        assert_eq!(plan(&packs).rewrite, [vec![0, 1], vec![2, 3]]);
        let packs: Vec<_> = (0..4).map(|id| pack(id, 32 * MIB, 40_000, MIB)).collect();
        assert_eq!(plan(&packs).rewrite, [[0], [1], [2], [3]]);
    }
}
