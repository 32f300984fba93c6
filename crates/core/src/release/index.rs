//! Which row is the file at this path? On the way of every request, so without allocating.
//!
//! All paths lie in one text, sorted; rows are found by open addressing. A key may come in
//! two parts (`about` and `.html`), so that asking for a neighbour builds no string.

use nigh_proto::Digest;

/// A file's place in its release.
pub(crate) type RowId = u32;

/// What is kept of one file, in 64 bytes.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) digest: Digest,
    pub(crate) size_bytes: u64,
    path_at: u32,
    path_len: u16,
    /// Whether it is a page with a URL of its own (see `html`).
    pub(crate) is_html: bool,
    /// Whether its type is worth encoding.
    pub(crate) is_compressible: bool,
    /// Into the release's media types.
    pub(crate) content_type: u32,
    /// Into the release's field sets.
    pub(crate) fields: u32,
}

/// Every file that is served, sorted by path.
#[derive(Clone, Debug)]
pub(crate) struct PathIndex {
    paths: String,
    pub(crate) rows: Vec<Row>,
    /// Places at the hashes of their paths. A power of two, at most half full.
    slots: Vec<Slot>,
    seed: u64,
}

/// A row, and the upper half of its hash: a neighbour is passed over without a look at its path.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    tag: u32,
    /// Plus one; 0 is empty.
    row: u32,
}

impl PathIndex {
    /// An index to be filled by [`push`](Self::push) and then [sealed](Self::seal). Where paths
    /// lie depends on `seed`, which who pushes does not choose.
    pub(crate) fn with_capacity(rows: usize, path_bytes: usize, seed: u64) -> Self {
        PathIndex {
            paths: String::with_capacity(path_bytes),
            rows: Vec::with_capacity(rows),
            slots: Vec::new(),
            seed,
        }
    }

    /// Adds the file at `path`, which is larger than all before.
    pub(crate) fn push(&mut self, path: &str, digest: Digest, size_bytes: u64, content_type: u32) {
        let path_at = u32::try_from(self.paths.len())
            .expect("a manifest has at most 1,000,000 paths of 1024 bytes");
        self.paths.push_str(path);
        self.rows.push(Row {
            digest,
            size_bytes,
            path_at,
            path_len: path.len() as u16,
            is_html: false,
            is_compressible: false,
            content_type,
            fields: 0,
        });
    }

    /// Makes every pushed path findable.
    pub(crate) fn seal(&mut self) {
        self.slots = vec![Slot::default(); (self.rows.len() * 2).next_power_of_two()];
        let mask = self.slots.len() - 1;
        for row in 0..self.rows.len() as RowId {
            let hash = hash(self.seed, self.path(row), "");
            let mut slot = hash as usize & mask;
            while self.slots[slot].row != 0 {
                slot = (slot + 1) & mask;
            }
            self.slots[slot] = Slot { tag: (hash >> 32) as u32, row: row + 1 };
        }
    }

    /// The path of a row.
    pub(crate) fn path(&self, row: RowId) -> &str {
        let Row { path_at, path_len, .. } = self.rows[row as usize];
        &self.paths[path_at as usize..path_at as usize + usize::from(path_len)]
    }

    /// The file at `start` followed by `end`.
    pub(crate) fn find(&self, start: &str, end: &str) -> Option<RowId> {
        let len = start.len() + end.len();
        if len > nigh_proto::SitePath::MAX_BYTES || self.slots.is_empty() {
            return None;
        }
        let mask = self.slots.len() - 1;
        let hash = hash(self.seed, start, end);
        let mut slot = hash as usize & mask;
        loop {
            let Slot { tag, row } = self.slots[slot];
            let row = row.checked_sub(1)?;
            if tag == (hash >> 32) as u32 {
                let path = self.path(row);
                if path.len() == len && path.starts_with(start) && path.ends_with(end) {
                    return Some(row);
                }
            }
            slot = (slot + 1) & mask;
        }
    }

    /// Bytes of memory held.
    pub(crate) fn size_bytes(&self) -> usize {
        self.paths.capacity()
            + self.rows.capacity() * size_of::<Row>()
            + self.slots.capacity() * size_of::<Slot>()
    }
}

/// Eight bytes at a time over both parts as if they were one.
fn hash(seed: u64, start: &str, end: &str) -> u64 {
    let mut state = Mixer { state: seed, word: 0, filled: 0 };
    state.write(start.as_bytes());
    state.write(end.as_bytes());
    state.finish(start.len() + end.len())
}

/// A multiply-and-fold hash of a stream whose cuts do not matter.
struct Mixer {
    state: u64,
    word: u64,
    filled: u32,
}

impl Mixer {
    fn write(&mut self, mut bytes: &[u8]) {
        while self.filled != 0 || bytes.len() < 8 {
            let Some((byte, rest)) = bytes.split_first() else { return };
            self.word |= u64::from(*byte) << (8 * self.filled);
            self.filled += 1;
            bytes = rest;
            if self.filled == 8 {
                self.mix(self.word);
                (self.word, self.filled) = (0, 0);
            }
        }
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.mix(u64::from_le_bytes(word.try_into().expect("eight bytes")));
        }
        for byte in words.remainder() {
            self.word |= u64::from(*byte) << (8 * self.filled);
            self.filled += 1;
        }
    }

    const fn mix(&mut self, word: u64) {
        let product = ((self.state ^ word) as u128) * 0x9e37_79b9_7f4a_7c15;
        self.state = (product >> 64) as u64 ^ product as u64;
    }

    fn finish(mut self, len: usize) -> u64 {
        self.mix(self.word);
        self.mix(len as u64);
        self.state
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn index(paths: &std::collections::BTreeSet<String>, seed: u64) -> PathIndex {
        let mut index = PathIndex::with_capacity(paths.len(), 0, seed);
        for path in paths {
            index.push(path, Digest::of(path.as_bytes()), path.len() as u64, 0);
        }
        index.seal();
        index
    }

    #[test]
    fn a_row_is_one_cache_line() {
        assert!(size_of::<Row>() <= 64);
    }

    #[test]
    fn an_empty_release_has_no_file() {
        assert_eq!(index(&Default::default(), 1).find("", ""), None);
    }

    proptest! {
        #[test]
        fn every_file_and_no_other_is_found_however_its_path_is_cut(
            paths in proptest::collection::btree_set("[a-c/é]{1,20}", 0..60),
            other in "[a-c/é]{1,20}",
            cut: proptest::sample::Index,
            seed: u64,
        ) {
            let index = index(&paths, seed);
            for path in paths.iter().chain([&other]) {
                let cuts: Vec<_> = (0..=path.len()).filter(|at| path.is_char_boundary(*at)).collect();
                let (start, end) = path.split_at(*cut.get(&cuts));
                let found = index.find(start, end).map(|row| index.path(row));
                prop_assert_eq!(found, paths.get(path).map(String::as_str));
            }
        }
    }
}
