//! Which release can be served from this disk, and what does it miss?
//!
//! Blocking and pure of the network: what is here decides. A release is *complete* when every blob of
//! its manifest is here.

use nigh_core::{
    blob::{ReadError, Store},
    http::precondition,
    release::Release,
};
use nigh_proto::{
    Digest, Entry, Manifest, SiteName, Timestamp,
    manifest::InvalidManifest,
    rules::{InvalidRules, RuleSet},
    state::{ReleasePurpose, ReleaseRef},
    variants::{InvalidVariants, Variant, VariantIndex},
};

/// The longest manifest that is read: a million long paths.
pub(crate) const DOCUMENT_BYTES_MAX: u64 = 512 << 20;

/// A release in memory, ready to be served.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) release: Release,
    pub(crate) modified_unix_s: u64,
    pub(crate) last_modified: http::HeaderValue,
    pub(crate) form: Form,
    /// Whether every blob was here when it was loaded.
    pub(crate) is_complete: bool,
    /// The variant index that it was built with, as far as its blobs were here.
    pub(crate) variants: Option<Digest>,
}

/// How much of a release is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Full,
    /// Only files that stay reachable after another release has taken over.
    Immutable,
}

/// A blob that is not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) digest: Digest,
    pub(crate) size_bytes: u64,
}

/// The documents of a release, read.
#[derive(Debug)]
pub(crate) struct Documents {
    manifest: Manifest,
    rules: RuleSet,
}

/// What looking at the disk found.
#[derive(Debug)]
pub(crate) enum Looked {
    /// Manifest or rules are not here.
    NoDocuments(Vec<Digest>),
    /// Blobs are not here, and nobody asked for what is. With the documents one can go on from here.
    Incomplete(Vec<Missing>, Box<Documents>),
    Found(Box<Loaded>),
}

/// Why a release can never be served as it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("a document of the release cannot be read")]
    Read(#[from] ReadError),
    #[error("the manifest cannot be read")]
    Manifest(#[from] InvalidManifest),
    #[error("the rules cannot be read")]
    Rules(#[from] InvalidRules),
    #[error("the variant index cannot be read")]
    Variants(#[from] InvalidVariants),
}

/// Reads the release's documents and builds it; one that misses blobs only if `even_incomplete`.
pub(crate) fn look(
    store: &Store,
    reference: &ReleaseRef,
    form: Form,
    even_incomplete: bool,
) -> Result<Looked, LoadError> {
    let absent = store.missing([&reference.manifest, &reference.rules]);
    if !absent.is_empty() {
        return Ok(Looked::NoDocuments(absent));
    }
    let documents = read(store, &reference.manifest).and_then(|manifest| {
        let rules = read(store, &reference.rules)?;
        Ok((manifest, rules))
    });
    let (manifest, rules) = match documents {
        Ok(documents) => documents,
        // Damaged: fetched again like one that was never here.
        Err(ReadError::Corrupt { digest } | ReadError::Missing { digest }) => {
            return Ok(Looked::NoDocuments(forget(store, digest)));
        }
        Err(error) => return Err(error.into()),
    };
    let documents =
        Documents { manifest: Manifest::parse(&manifest)?, rules: RuleSet::parse(&rules)? };
    Ok(assemble(store, reference, form, Box::new(documents), even_incomplete))
}

/// Builds the release from its documents; one that misses blobs only if `even_incomplete`.
pub(crate) fn assemble(
    store: &Store,
    reference: &ReleaseRef,
    form: Form,
    documents: Box<Documents>,
    even_incomplete: bool,
) -> Looked {
    let missing = missing_of(store, &documents.manifest);
    if !missing.is_empty() && !even_incomplete {
        return Looked::Incomplete(missing, documents);
    }
    let Documents { manifest, rules } = &*documents;
    let loaded = build(store, reference, form, manifest, rules, missing.is_empty());
    Looked::Found(Box::new(loaded))
}

fn build(
    store: &Store,
    reference: &ReleaseRef,
    form: Form,
    manifest: &Manifest,
    rules: &RuleSet,
    is_complete: bool,
) -> Loaded {
    let (variants, index) = usable_variants(store, reference);
    let id = || reference.id.clone();
    let mut release = Release::build(id(), manifest, rules, &index);
    if form == Form::Immutable {
        release = Release::build(id(), &immutable_part(&release, manifest), rules, &index);
    }
    let modified_unix_s = u64::try_from(reference.created_at.unix_ms() / 1000).unwrap_or_default();
    let last_modified = precondition::format_date(modified_unix_s);
    let last_modified = http::HeaderValue::try_from(last_modified)
        .expect("an IMF-fixdate is letters, digits and spaces");
    Loaded { release, modified_unix_s, last_modified, form, is_complete, variants }
}

fn forget(store: &Store, digest: Digest) -> Vec<Digest> {
    if let Err(error) = store.forget(&digest) {
        tracing::error!(%error, %digest, "a damaged document could not be forgotten");
    }
    vec![digest]
}

fn read(store: &Store, digest: &Digest) -> Result<Vec<u8>, ReadError> {
    store.read_up_to(digest, DOCUMENT_BYTES_MAX)
}

fn missing_of(store: &Store, manifest: &Manifest) -> Vec<Missing> {
    let digests = store.missing(manifest.entries().iter().map(|entry| &entry.digest));
    if digests.is_empty() {
        return Vec::new();
    }
    let sizes: std::collections::HashMap<Digest, u64> =
        manifest.entries().iter().map(|entry| (entry.digest, entry.size_bytes)).collect();
    let size = |digest: &Digest| sizes.get(digest).copied().unwrap_or_default();
    digests.iter().map(|digest| Missing { digest: *digest, size_bytes: size(digest) }).collect()
}

/// The variants whose blobs are here. Derived data: a release is whole without any.
fn usable_variants(store: &Store, reference: &ReleaseRef) -> (Option<Digest>, VariantIndex) {
    let Some(digest) = reference.variants else { return (None, VariantIndex::default()) };
    match variant_index(store, &digest) {
        Ok(index) => {
            let (here, absent): (Vec<Variant>, Vec<Variant>) =
                index.variants().iter().partition(|variant| store.contains(&variant.digest));
            (absent.is_empty().then_some(digest), VariantIndex::new(here))
        }
        Err(_) => (None, VariantIndex::default()),
    }
}

/// The variant index `digest`.
pub(crate) fn variant_index(store: &Store, digest: &Digest) -> Result<VariantIndex, LoadError> {
    Ok(VariantIndex::parse(&read(store, digest)?)?)
}

fn immutable_part(release: &Release, manifest: &Manifest) -> Manifest {
    let kept: Vec<Entry> = release
        .files()
        .filter(|file| file.is_immutable())
        .filter_map(|file| manifest.get(file.path()).cloned())
        .collect();
    Manifest::new(kept).unwrap_or_default()
}

/// Every blob that the release needs, its documents among them.
pub(crate) fn needs(store: &Store, reference: &ReleaseRef) -> Result<Vec<Digest>, LoadError> {
    let manifest = Manifest::parse(&read(store, &reference.manifest)?)?;
    let mut needs: Vec<Digest> = manifest.entries().iter().map(|entry| entry.digest).collect();
    needs.extend([reference.manifest, reference.rules]);
    if let Some(digest) = reference.variants {
        needs.push(digest);
        if store.contains(&digest) {
            let index = variant_index(store, &digest)?;
            needs.extend(index.variants().iter().map(|variant| variant.digest));
        }
    }
    Ok(needs)
}

/// How much of each release of a site has to be in memory: what may be asked for now or after a
/// rollback as a whole, of older ones only what stays reachable.
pub(crate) fn wanted_form(place_among_grace: Option<usize>) -> Form {
    const FULL_FOR_ROLLBACK: usize = 2;
    match place_among_grace {
        Some(place) if place >= FULL_FOR_ROLLBACK => Form::Immutable,
        _ => Form::Full,
    }
}

/// Whether the release is only there for its immutable files, and until when.
pub(crate) const fn grace_until(reference: &ReleaseRef) -> Option<Timestamp> {
    match reference.purpose {
        ReleasePurpose::Grace { until } => Some(until),
        ReleasePurpose::Serve => None,
    }
}

/// A release of a site, and how much of it is wanted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) site: SiteName,
    pub(crate) reference: ReleaseRef,
    pub(crate) form: Form,
}
