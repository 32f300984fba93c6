//! What is the file of a pack, a blob or a partial called?

use std::path::{Path, PathBuf};

use nigh_proto::Digest;

use super::error::FileError;

/// The folder of a store, by the names in it.
#[derive(Debug)]
pub(super) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(super) fn new(root: &Path) -> Self {
        Layout { root: root.to_owned() }
    }

    /// Makes the folders that every store has.
    pub(super) fn create(&self) -> Result<(), FileError> {
        for dir in [self.packs(), self.loose(), self.partials(), self.tmp(), self.quarantine()] {
            nigh_durable::create_dir(&dir).map_err(FileError::at("create", dir))?;
        }
        Ok(())
    }

    pub(super) fn packs(&self) -> PathBuf {
        self.root.join("packs")
    }

    pub(super) fn loose(&self) -> PathBuf {
        self.root.join("loose")
    }

    pub(super) fn partials(&self) -> PathBuf {
        self.root.join("partial")
    }

    pub(super) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(super) fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    pub(super) fn pack(&self, id: u32) -> PathBuf {
        self.packs().join(pack_name(id))
    }

    pub(super) fn drops(&self, id: u32) -> PathBuf {
        self.packs().join(format!("{id:08x}.drop"))
    }

    pub(super) fn loose_shard(&self, digest: &Digest) -> PathBuf {
        self.loose().join(format!("{:02x}", digest.as_bytes()[0]))
    }

    pub(super) fn loose_blob(&self, digest: &Digest) -> PathBuf {
        self.loose_shard(digest).join(digest.to_string())
    }

    pub(super) fn partial(&self, digest: &Digest) -> PathBuf {
        self.partials().join(digest.to_string())
    }
}

pub(super) fn pack_name(id: u32) -> String {
    format!("{id:08x}.pack")
}

/// What a file in `packs/` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PackDirEntry {
    Pack(u32),
    Drops(u32),
}

impl PackDirEntry {
    /// `None` for a name that no store gives.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (id, kind) = name.split_once('.')?;
        let is_spelled_once = id.len() == 8 && !id.bytes().any(|byte| !is_lower_hex(byte));
        let id = u32::from_str_radix(id, 16).ok().filter(|_| is_spelled_once)?;
        match kind {
            "pack" => Some(PackDirEntry::Pack(id)),
            "drop" => Some(PackDirEntry::Drops(id)),
            _ => None,
        }
    }
}

const fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_a_store_gives_are_read_as_packs() {
        for (name, entry) in [
            ("0000002a.pack", Some(PackDirEntry::Pack(42))),
            ("ffffffff.drop", Some(PackDirEntry::Drops(u32::MAX))),
            ("2a.pack", None),
            ("0000002A.pack", None),
            ("+000002a.pack", None),
            ("0000002a.pack.1", None),
            (".tmp-abc", None),
            ("", None),
        ] {
            assert_eq!(PackDirEntry::parse(name), entry, "{name}");
        }
        assert_eq!(PackDirEntry::parse(&pack_name(7)), Some(PackDirEntry::Pack(7)));
    }
}
