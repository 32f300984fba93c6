//! Which encoded forms does each file of a release have?

use nigh_proto::{
    Digest,
    variants::{ContentCoding, VariantIndex},
};

use super::index::{PathIndex, RowId};

/// One encoded form of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileVariant {
    pub coding: ContentCoding,
    /// The blob that holds the encoded bytes.
    pub digest: Digest,
    pub size_bytes: u64,
}

/// Forms by row. Files with the same content share theirs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Variants {
    forms: Vec<FileVariant>,
    /// Where a row's forms begin, and how many there are; empty when no row has any.
    ranges: Vec<(u32, u8)>,
}

impl Variants {
    pub(crate) fn new(index: &PathIndex, variants: &VariantIndex) -> Self {
        let all = variants.variants();
        if all.is_empty() {
            return Variants::default();
        }
        let form = |v: &nigh_proto::variants::Variant| FileVariant {
            coding: v.coding,
            digest: v.digest,
            size_bytes: v.size_bytes,
        };
        let range = |digest: &Digest| {
            let start = all.partition_point(|variant| variant.of < *digest);
            let count = all[start..].iter().take_while(|variant| variant.of == *digest).count();
            (start as u32, count as u8)
        };
        Variants {
            forms: all.iter().map(form).collect(),
            ranges: index.rows.iter().map(|row| range(&row.digest)).collect(),
        }
    }

    /// The forms of a row, at most one per coding.
    pub(crate) fn of(&self, row: RowId) -> &[FileVariant] {
        let (start, count) = self.ranges.get(row as usize).copied().unwrap_or_default();
        &self.forms[start as usize..start as usize + usize::from(count)]
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.forms.capacity() * size_of::<FileVariant>()
            + self.ranges.capacity() * size_of::<(u32, u8)>()
    }
}
