//! Which file, redirect or nothing is the answer to a path?
//!
//! In this order: the path is decoded or refused; the file that it means is looked up; the first
//! redirect rule that fits decides, unless it yields to that file; then the file, its one URL, or what
//! the site shows for missing paths.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header};
use nigh_proto::rules::NotFound;

use crate::{
    http::{media, path},
    rules::{Action, Applied, FieldSet, View},
};

use super::{
    By, Empty, File, Moved, Release, Resolution, Served,
    answer::Kind,
    html::{self, Found},
    index::RowId,
};

impl Release {
    /// What this release answers to `view`, whatever its method.
    pub fn resolve(&self, view: &View<'_>) -> Resolution<'_> {
        let path = match path::decode(view.path) {
            Ok(path) => path,
            Err(bad) => return Resolution::Refused(bad),
        };
        let found = html::find(&self.content.index, self.content.html, &path);
        if let Some(applied) = self.content.rules.redirect(view, &path, found.is_some()) {
            return self.apply(applied, view, &path);
        }
        match found {
            Some(Found::Here(row)) => self.serve(row, 200, By::Path, view, &path),
            Some(Found::Moved(row)) => self.canonical(row, view, &path),
            None => self.missing(view, &path),
        }
    }

    fn serve(
        &self,
        row: RowId,
        status: u16,
        by: By,
        view: &View<'_>,
        path: &str,
    ) -> Resolution<'_> {
        let kind = if status == 200 { Kind::File } else { Kind::Missing };
        let fields = match self.own_fields(row, kind, path) {
            Some(fields) => Arc::clone(fields),
            None => self.fields(kind, view, path),
        };
        Resolution::File(Served { file: File::new(self, row), status, fields, by })
    }

    /// The fields that were matched when the release was built: those of a file at its own URL.
    fn own_fields(&self, row: RowId, kind: Kind, path: &str) -> Option<&Arc<FieldSet>> {
        let content = &self.content;
        if !content.has_own_fields || kind != Kind::File {
            return None;
        }
        let (stem, is_folder) = html::canonical(&content.index, content.html, row);
        let rest = path.strip_prefix('/')?.strip_prefix(stem)?;
        let is_own = rest == if is_folder && !stem.is_empty() { "/" } else { "" };
        let fields = content.index.rows[row as usize].fields;
        is_own.then(|| &content.field_sets[fields as usize])
    }

    fn fields(&self, kind: Kind, view: &View<'_>, path: &str) -> Arc<FieldSet> {
        let rules = &self.content.rules;
        let blocks = rules.fitting_blocks(path, Some(view.host));
        if blocks.is_empty() {
            return self.content.plain.of(kind);
        }
        Arc::new(kind.suit(rules.fold(&blocks, path)))
    }

    fn canonical(&self, row: RowId, view: &View<'_>, path: &str) -> Resolution<'_> {
        let url = html::url(&self.content.index, self.content.html, row);
        let mut location = path::encode(&url).into_owned();
        if let Some(query) = view.query.filter(|query| !query.is_empty()) {
            location.push('?');
            location.push_str(&path::encode_query(query));
        }
        self.moved(308, location, Kind::CleanUrl, By::CleanUrl, view, path)
    }

    fn moved(
        &self,
        status: u16,
        location: String,
        kind: Kind,
        by: By,
        view: &View<'_>,
        path: &str,
    ) -> Resolution<'_> {
        let fields = self.fields(kind, view, path);
        match HeaderValue::try_from(location) {
            Ok(location) => Resolution::Redirect(Moved { status, location, fields, by }),
            // Locations are percent-encoded, so this is never reached; a 404 is the safe answer.
            Err(_) => self.empty(404, by, view, path),
        }
    }

    fn apply(&self, applied: Applied, view: &View<'_>, path: &str) -> Resolution<'_> {
        let by = By::Rule { number: applied.rule, line: applied.line };
        match applied.action {
            Action::Redirect { location } => {
                let kind = match applied.status {
                    _ if applied.is_conditional => Kind::Personal,
                    301 | 308 => Kind::Permanent,
                    _ => Kind::Temporary,
                };
                self.moved(applied.status, location, kind, by, view, path)
            }
            Action::Serve { path: target } => {
                let page = html::find(&self.content.index, self.content.html, &target);
                match page.map(Found::row) {
                    Some(row) if applied.is_conditional && applied.status == 200 => {
                        let fields = self.fields(Kind::PersonalFile, view, path);
                        Resolution::File(Served {
                            file: File::new(self, row),
                            status: 200,
                            fields,
                            by,
                        })
                    }
                    Some(row) => self.serve(row, applied.status, by, view, path),
                    None if applied.status == 200 => self.missing(view, path),
                    None => self.empty(applied.status, by, view, path),
                }
            }
        }
    }

    fn missing(&self, view: &View<'_>, path: &str) -> Resolution<'_> {
        match self.content.not_found {
            NotFound::Page => match self.nearest_404(path) {
                Some(row) => self.serve(row, 404, By::NotFoundPage, view, path),
                None => self.empty(404, By::Path, view, path),
            },
            NotFound::Spa => match self.content.index.find("index.html", "") {
                Some(row) if is_navigation(view.headers) && media::may_be_page(path) => {
                    self.serve(row, 200, By::Spa, view, path)
                }
                Some(_) | None => self.empty(404, By::Path, view, path),
            },
            NotFound::None => self.empty(404, By::Path, view, path),
        }
    }

    fn empty(&self, status: u16, by: By, view: &View<'_>, path: &str) -> Resolution<'_> {
        let fields = self.fields(Kind::Missing, view, path);
        Resolution::Empty(Empty { status, fields, by })
    }

    /// The `404.html` of the deepest folder above `path` that has one. Folders deeper than any
    /// `404.html` are not looked at, however many slashes a stranger sends.
    fn nearest_404(&self, path: &str) -> Option<RowId> {
        let depth = self.content.depth_of_404?;
        let slashes = path.match_indices('/').take(depth + 1);
        let folders = slashes.map(|(slash, _)| &path[1..slash + 1]);
        folders.filter_map(|folder| self.content.index.find(folder, "404.html")).last()
    }
}

/// Whether a person follows a link or types a URL, as far as a request can show it.
fn is_navigation(headers: &HeaderMap) -> bool {
    if let Some(mode) = headers.get("sec-fetch-mode") {
        return mode == "navigate";
    }
    headers.get_all(header::ACCEPT).iter().any(|value| {
        value.to_str().is_ok_and(|text| text.to_ascii_lowercase().contains("text/html"))
    })
}
