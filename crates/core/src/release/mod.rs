//! What does a release answer to a request?
//!
//! A [`Release`] is made once from a manifest, its rules and its variants, and never changes.
//! [`Release::resolve`] decides everything that does not depend on the method or on what the
//! client holds: which file, which redirect, which header fields. Preconditions, ranges and
//! negotiation follow in [`crate::http`].

mod answer;
mod html;
mod index;
mod names;
mod resolve;
mod variants;

use std::{collections::HashMap, sync::Arc};

use http::HeaderValue;
use nigh_proto::{
    Digest, Manifest, ReleaseId,
    rules::{HtmlMode, NotFound, RuleSet},
    variants::VariantIndex,
};

pub use answer::{By, Empty, File, Moved, Resolution, Served};
pub use names::{is_hashed, is_hidden};
pub use variants::FileVariant;

use crate::{
    http::media,
    rules::{CompiledRules, FieldSet},
};

use answer::PlainFields;
use index::{PathIndex, RowId};
use variants::Variants;

/// What an edge makes of a manifest: every file and rule of a site, found without allocating.
#[derive(Clone, Debug)]
pub struct Release {
    id: ReleaseId,
    content: Arc<Content>,
    variants: Variants,
}

/// All but the variants, which may arrive later.
#[derive(Debug)]
struct Content {
    index: PathIndex,
    content_types: Vec<HeaderValue>,
    /// The fields of files at their own URLs; the first is what no rule speaks of.
    field_sets: Vec<Arc<FieldSet>>,
    /// Whether a file's fields are known before it is asked for.
    has_own_fields: bool,
    plain: PlainFields,
    rules: CompiledRules,
    html: HtmlMode,
    not_found: NotFound,
    hsts: Option<HeaderValue>,
    /// Slashes in the path of the deepest `404.html`; `None` without any.
    depth_of_404: Option<usize>,
}

/// How many times a file and a header block may be compared while a release is built.
const MAX_MATCHES: usize = 50_000_000;

impl Release {
    /// Builds a release. Files that are [hidden](is_hidden) are left out.
    pub fn build(
        id: ReleaseId,
        manifest: &Manifest,
        rules: &RuleSet,
        variants: &VariantIndex,
    ) -> Self {
        let seed = Digest::of(id.as_str().as_bytes());
        let seed = u64::from_le_bytes(seed.as_bytes()[..8].try_into().expect("eight bytes"));
        let (mut index, content_types) = index_files(manifest, seed);
        let compiled = CompiledRules::compile(rules);
        // Blocks that nothing tells apart are tried per request instead of for every file at once; then
        // only names say what is immutable.
        let is_cheap = index.rows.len().saturating_mul(compiled.widest_blocks()) <= MAX_MATCHES;
        let field_sets = match_headers(&mut index, &compiled, rules.html, is_cheap);
        let depths = index.rows.iter().enumerate().filter_map(|(row, _)| {
            let path = index.path(row as RowId);
            let is_404 = path == "404.html" || path.ends_with("/404.html");
            is_404.then(|| path.matches('/').count())
        });
        let depth_of_404 = depths.max();
        let variants = Variants::new(&index, variants);
        let content = Content {
            plain: PlainFields::new(&field_sets[0]),
            index,
            content_types,
            field_sets,
            has_own_fields: is_cheap && !compiled.has_blocks_by_host(),
            rules: compiled,
            html: rules.html,
            not_found: rules.not_found,
            hsts: rules.hsts.map(|hsts| answer::hsts_value(&hsts)),
            depth_of_404,
        };
        Release { id, content: Arc::new(content), variants }
    }

    /// The same release with other variants; files and rules are shared.
    pub fn with_variants(&self, variants: &VariantIndex) -> Self {
        let variants = Variants::new(&self.content.index, variants);
        Release { id: self.id.clone(), content: Arc::clone(&self.content), variants }
    }

    pub fn id(&self) -> &ReleaseId {
        &self.id
    }

    /// How many files are served.
    pub fn len(&self) -> usize {
        self.content.index.rows.len()
    }

    /// Whether no file is served.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The file at `path` in the release (not a URL), such as `docs/index.html`.
    pub fn file(&self, path: &str) -> Option<File<'_>> {
        self.content.index.find(path, "").map(|row| File::new(self, row))
    }

    /// Every file that is served, sorted by path.
    pub fn files(&self) -> impl ExactSizeIterator<Item = File<'_>> {
        (0..self.content.index.rows.len() as RowId).map(|row| File::new(self, row))
    }

    /// Whether the file at `path` may be kept for pages of an older release: its name holds a hash of
    /// its content, or its rules say `immutable`. Never a page.
    pub fn is_immutable(&self, path: &str) -> bool {
        self.file(path).is_some_and(|file| file.is_immutable())
    }

    /// `Strict-Transport-Security`, for answers over HTTPS only (RFC 6797, section 7.2).
    pub fn hsts(&self) -> Option<&HeaderValue> {
        self.content.hsts.as_ref()
    }

    /// About how much memory the index and the variants hold, in bytes.
    pub fn size_bytes(&self) -> usize {
        self.content.index.size_bytes() + self.variants.size_bytes()
    }
}

fn index_files(manifest: &Manifest, seed: u64) -> (PathIndex, Vec<HeaderValue>) {
    let entries = manifest.entries();
    let path_bytes = entries.iter().map(|entry| entry.path.as_str().len()).sum();
    let mut index = PathIndex::with_capacity(entries.len(), path_bytes, seed);
    let mut types = MediaTypes::default();
    for entry in entries.iter().filter(|entry| !is_hidden(entry.path.as_str())) {
        let path = entry.path.as_str();
        let media_type = entry.content_type.as_deref().unwrap_or_else(|| media::by_path(path));
        let (number, is_compressible) = types.number(media_type);
        index.push(path, entry.digest, entry.size_bytes, number);
        let row = index.rows.last_mut().expect("one was just pushed");
        row.is_html = html::is_page(path);
        row.is_compressible = is_compressible;
    }
    index.seal();
    (index, types.values)
}

/// Each media type once.
#[derive(Default)]
struct MediaTypes<'a> {
    numbers: HashMap<&'a str, (u32, bool)>,
    values: Vec<HeaderValue>,
}

impl<'a> MediaTypes<'a> {
    fn number(&mut self, media_type: &'a str) -> (u32, bool) {
        *self.numbers.entry(media_type).or_insert_with(|| {
            let value = HeaderValue::from_str(media_type);
            self.values.push(value.unwrap_or(HeaderValue::from_static(media::UNKNOWN)));
            (self.values.len() as u32 - 1, media::is_compressible(media_type))
        })
    }
}

/// Gives every row the fields of its own URL. Rows with the same blocks share a set.
fn match_headers(
    index: &mut PathIndex,
    rules: &CompiledRules,
    mode: HtmlMode,
    is_cheap: bool,
) -> Vec<Arc<FieldSet>> {
    let mut sets = vec![Arc::new(rules.fold(&[], "/"))];
    let mut known: HashMap<Vec<u32>, u32> = HashMap::from([(Vec::new(), 0)]);
    if !is_cheap || !rules.has_blocks() {
        return sets;
    }
    for row in 0..index.rows.len() {
        let url = html::url(index, mode, row as RowId);
        let blocks = rules.fitting_blocks(&url, None);
        let number = match known.get(&blocks) {
            Some(number) => *number,
            None => {
                let number = sets.len() as u32;
                sets.push(Arc::new(rules.fold(&blocks, &url)));
                if rules.are_fixed(&blocks) {
                    known.insert(blocks, number);
                }
                number
            }
        };
        index.rows[row].fields = number;
    }
    sets
}

#[cfg(test)]
mod tests;
