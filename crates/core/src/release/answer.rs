//! What can a release answer, and with which fields?

use std::{fmt, sync::Arc};

use http::HeaderValue;
use nigh_proto::{Digest, rules::Hsts};

use crate::{
    http::{BadPath, negotiate::Form},
    rules::FieldSet,
};

use super::{
    FileVariant, Release,
    index::{Row, RowId},
    names,
};

/// What a release answers to a request for a path, whatever its method.
#[derive(Clone, Debug)]
pub enum Resolution<'r> {
    /// A file, with status 200 or one that a rule or a missing page gives it.
    File(Served<'r>),
    /// A redirect without a body.
    Redirect(Moved),
    /// Nothing to show: 404, or what a rule says instead.
    Empty(Empty),
    /// The path cannot be that of a file.
    Refused(BadPath),
}

/// Who decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The path names the file, or nothing.
    Path,
    /// The site's URLs have one spelling each.
    CleanUrl,
    /// A rule of the release: its place in the rule set, and its line in `_redirects`.
    Rule { number: usize, line: u32 },
    /// The nearest `404.html`.
    NotFoundPage,
    /// The single page of an application.
    Spa,
}

impl By {
    /// The value of the access log's `rule` field.
    pub fn label(&self) -> &'static str {
        match self {
            By::Path => "-",
            By::CleanUrl => "clean_url",
            By::Rule { .. } => "redirects",
            By::NotFoundPage => "not_found_page",
            By::Spa => "spa",
        }
    }
}

/// A file to be sent.
#[derive(Clone, Debug)]
pub struct Served<'r> {
    pub file: File<'r>,
    /// 200, 404, 410 or 451. Preconditions and ranges are for 200 only.
    pub status: u16,
    /// Fields beside those that the edge itself sets.
    pub fields: Arc<FieldSet>,
    pub by: By,
}

impl Served<'_> {
    /// The media type to send: what rules ask for, else the file's own.
    pub fn content_type(&self) -> &HeaderValue {
        self.fields.content_type().unwrap_or_else(|| self.file.content_type())
    }
}

/// A redirect to be sent.
#[derive(Clone, Debug)]
pub struct Moved {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    pub location: HeaderValue,
    pub fields: Arc<FieldSet>,
    pub by: By,
}

/// An answer without a file.
#[derive(Clone, Debug)]
pub struct Empty {
    /// 404, 410 or 451.
    pub status: u16,
    pub fields: Arc<FieldSet>,
    pub by: By,
}

/// One file of a release.
#[derive(Clone, Copy)]
pub struct File<'r> {
    release: &'r Release,
    row: RowId,
}

impl<'r> File<'r> {
    pub(super) const fn new(release: &'r Release, row: RowId) -> Self {
        File { release, row }
    }

    fn entry(&self) -> &'r Row {
        &self.release.content.index.rows[self.row as usize]
    }

    /// Where it lies in the release.
    pub fn path(&self) -> &'r str {
        self.release.content.index.path(self.row)
    }

    pub fn digest(&self) -> &'r Digest {
        &self.entry().digest
    }

    pub fn size_bytes(&self) -> u64 {
        self.entry().size_bytes
    }

    /// The media type of the manifest or of the name; rules may ask for another.
    pub fn content_type(&self) -> &'r HeaderValue {
        &self.release.content.content_types[self.entry().content_type as usize]
    }

    /// Its encoded forms, at most one per coding.
    pub fn variants(&self) -> &'r [FileVariant] {
        self.release.variants.of(self.row)
    }

    /// The encoded forms that are smaller than the file, to choose from.
    pub fn forms(&self) -> impl Iterator<Item = Form> + use<'r> {
        let size_bytes = self.size_bytes();
        let smaller = self.variants().iter().filter(move |form| form.size_bytes < size_bytes);
        smaller.map(|form| Form { coding: form.coding, size_bytes: form.size_bytes })
    }

    /// Whether encoded forms exist or may come: then answers carry `Vary: Accept-Encoding`.
    pub fn is_negotiable(&self) -> bool {
        self.entry().is_compressible || !self.variants().is_empty()
    }

    /// Whether it is an HTML page with a clean URL.
    pub fn is_page(&self) -> bool {
        self.entry().is_html
    }

    /// Whether other content would have another name, or rules say so. Never a page.
    pub fn is_immutable(&self) -> bool {
        let is_html = self.content_type().as_bytes().starts_with(b"text/html");
        let is_file = !self.is_page() && !is_html;
        let fields = &self.release.content.field_sets[self.entry().fields as usize];
        is_file && (names::is_hashed(self.path()) || fields.is_immutable())
    }
}

impl fmt::Debug for File<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("path", &self.path()).field("digest", self.digest()).finish()
    }
}

/// `Cache-Control` of a redirect to a page's one URL.
const CLEAN_URL: &str = "public, max-age=3600";
/// Of a redirect that a rule calls permanent. A day would be long to live with a mistake.
const PERMANENT: &str = "public, max-age=3600";
/// Of a redirect that a rule calls temporary.
const TEMPORARY: &str = crate::rules::fields::REVALIDATE;
/// Of an answer that depends on more than its URL.
const PERSONAL: &str = "private, no-cache";
/// Of what is missing: it may be there in a moment.
const MISSING: &str = "no-store";

/// What kind of answer fields are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    /// A file that another visitor would not get here.
    PersonalFile,
    Missing,
    CleanUrl,
    Permanent,
    Temporary,
    Personal,
}

impl Kind {
    /// Changes the fields of a path so that they suit this answer. Rules speak of files: what they
    /// say about caching is not meant for redirects and missing pages.
    pub(super) fn suit(self, fields: FieldSet) -> FieldSet {
        let cache_control = match self {
            Kind::File => return fields,
            Kind::PersonalFile => return fields.with_cache_control(PERSONAL),
            Kind::Missing => MISSING,
            Kind::CleanUrl => CLEAN_URL,
            Kind::Permanent => PERMANENT,
            Kind::Temporary => TEMPORARY,
            Kind::Personal => PERSONAL,
        };
        fields.without_content_type().with_cache_control(cache_control)
    }
}

/// The fields of each kind where no rule speaks of the path: made once.
#[derive(Debug)]
pub(super) struct PlainFields {
    sets: [Arc<FieldSet>; 7],
}

impl PlainFields {
    pub(super) fn new(file: &Arc<FieldSet>) -> Self {
        let kinds = [
            Kind::File,
            Kind::PersonalFile,
            Kind::Missing,
            Kind::CleanUrl,
            Kind::Permanent,
            Kind::Temporary,
            Kind::Personal,
        ];
        PlainFields { sets: kinds.map(|kind| Arc::new(kind.suit(FieldSet::clone(file)))) }
    }

    pub(super) fn of(&self, kind: Kind) -> Arc<FieldSet> {
        Arc::clone(&self.sets[kind as usize])
    }
}

pub(super) fn hsts_value(hsts: &Hsts) -> HeaderValue {
    let subdomains = if hsts.include_subdomains { "; includeSubDomains" } else { "" };
    let preload = if hsts.preload { "; preload" } else { "" };
    HeaderValue::try_from(format!("max-age={}{subdomains}{preload}", hsts.max_age_s))
        .expect("digits and words")
}
