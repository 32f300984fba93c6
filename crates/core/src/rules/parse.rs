//! What rules do a site's files hold, and what is wrong with them?
//!
//! Every reader reports what it could not read and goes on: a line that no edge could apply is
//! left out with a warning. Errors are for what must not be ignored: more rules than fit, a
//! protection that would silently be missing, a proxy that nigh does not have.

use nigh_proto::{
    Manifest,
    rules::{Dialect, Hsts, HtmlMode, InvalidRule, NotFound, Notice, RuleSet},
};

use super::{
    detect::detect,
    headers::read_headers,
    items::{HeaderItem, RedirectItem, read_items},
    lint,
    redirects::read_redirects,
};

/// The name that notices give to `_redirects`.
pub const REDIRECTS_FILE: &str = "_redirects";
/// The name that notices give to `_headers`.
pub const HEADERS_FILE: &str = "_headers";
/// The name that notices give to rules of `nigh.toml`.
pub const CONFIG_FILE: &str = "nigh.toml";

/// Where a site says its rules. Everything is optional.
#[derive(Clone, Copy, Debug, Default)]
pub struct RuleFiles<'a> {
    /// The text of `_redirects`.
    pub redirects: Option<&'a str>,
    /// The text of `_headers`.
    pub headers: Option<&'a str>,
    /// `[[redirects]]` of `nigh.toml`; they come after those of `_redirects`.
    pub redirect_items: &'a [RedirectItem],
    /// `[[headers]]` of `nigh.toml`; they come after the blocks of `_headers`.
    pub header_items: &'a [HeaderItem],
    /// `[html]` of `nigh.toml`.
    pub html: HtmlMode,
    pub not_found: NotFound,
    /// `[hosts] hsts`.
    pub hsts: Option<Hsts>,
    /// The files of the release, to find rules that they shadow.
    pub manifest: Option<&'a Manifest>,
}

/// The rules of a site, and what people should know about them.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    pub rules: RuleSet,
    /// The rules work without what these speak of. `--strict` makes them errors.
    pub warnings: Vec<Notice>,
    /// The release must not be made.
    pub errors: Vec<Notice>,
}

impl Parsed {
    /// The longest `_redirects` or `_headers`, in bytes.
    pub const MAX_FILE_BYTES: usize = 16 << 20;
    /// The longest line of `_redirects`, in bytes.
    pub const MAX_REDIRECT_LINE_BYTES: usize = 8 << 10;
    /// The longest line of `_headers`, in bytes.
    pub const MAX_HEADER_LINE_BYTES: usize = 16 << 10;
    /// Notices of one kind beyond this number are counted and not listed.
    pub const MAX_NOTICES: usize = 1000;
}

/// Reads a site's rules in `dialect`, or in the one that the files look like.
pub fn parse(files: &RuleFiles<'_>, dialect: Option<Dialect>) -> Parsed {
    let mut notices = Notices::default();
    let dialect = dialect.unwrap_or_else(|| detect(files, &mut notices));
    let mut rules = RuleSet {
        dialect,
        html: files.html,
        not_found: files.not_found,
        hsts: files.hsts,
        ..RuleSet::default()
    };
    if let Some(text) = checked_text(REDIRECTS_FILE, files.redirects, &mut notices) {
        rules.redirects = read_redirects(text, dialect, &mut notices);
    }
    if let Some(text) = checked_text(HEADERS_FILE, files.headers, &mut notices) {
        rules.headers = read_headers(text, dialect, &mut notices);
    }
    read_items(files, &mut rules, &mut notices);
    check_counts(&rules, &mut notices);
    if notices.errors.is_empty() {
        notices.warnings.extend(lint::find(&rules, files.manifest));
    }
    notices.finish(rules)
}

/// The text without a byte order mark, unless it is too long to read.
fn checked_text<'a>(file: &str, text: Option<&'a str>, notices: &mut Notices) -> Option<&'a str> {
    let text = text?;
    if text.len() > Parsed::MAX_FILE_BYTES {
        let max = Parsed::MAX_FILE_BYTES;
        let message = format!("{file} has {} bytes, more than the {max} that are read", text.len());
        notices.error(file, 0, "file_too_large", message);
        return None;
    }
    Some(text.strip_prefix('\u{feff}').unwrap_or(text))
}

fn check_counts(rules: &RuleSet, notices: &mut Notices) {
    let redirects = (REDIRECTS_FILE, "redirects", rules.redirects.len(), RuleSet::MAX_REDIRECTS);
    let headers = (HEADERS_FILE, "header blocks", rules.headers.len(), RuleSet::MAX_HEADER_BLOCKS);
    for (file, what, count, max) in [redirects, headers] {
        if count > max {
            let message =
                format!("{count} {what} are more than the {max} that one release may hold");
            notices.error(file, 0, "too_many", message);
        }
    }
}

/// Notices while files are read.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    warnings: Vec<Notice>,
    errors: Vec<Notice>,
}

impl Notices {
    pub(crate) fn warn(&mut self, file: &str, line: u32, code: &str, message: impl Into<String>) {
        self.warnings.push(notice(file, line, code, message.into()));
    }

    pub(crate) fn error(&mut self, file: &str, line: u32, code: &str, message: impl Into<String>) {
        self.errors.push(notice(file, line, code, message.into()));
    }

    /// Reports a rule that was left out. In a file of lines most of these are warnings, as every host of
    /// such files has them; `nigh.toml` is nigh's own, so there they are errors.
    pub(crate) fn refuse(&mut self, file: &str, line: u32, invalid: &InvalidRule) {
        let is_error = match invalid {
            InvalidRule::Proxy(_) | InvalidRule::TooMany { .. } => true,
            InvalidRule::Reserved(_) => false,
            InvalidRule::TooLong { .. }
            | InvalidRule::Character(_)
            | InvalidRule::From(_)
            | InvalidRule::To(_)
            | InvalidRule::Status(_)
            | InvalidRule::PageElsewhere { .. }
            | InvalidRule::HeaderName(_)
            | InvalidRule::HeaderValue { .. } => file == CONFIG_FILE,
        };
        let list = if is_error { &mut self.errors } else { &mut self.warnings };
        list.push(notice(file, line, invalid.code(), format!("{invalid}; it does not apply")));
    }

    fn finish(self, rules: RuleSet) -> Parsed {
        let Notices { warnings, errors } = self;
        Parsed { rules, warnings: settled(warnings), errors: settled(errors) }
    }
}

pub(crate) fn notice(file: &str, line: u32, code: &str, message: String) -> Notice {
    Notice { file: file.to_owned(), line, code: code.to_owned(), message }
}

/// In the order of files and lines, and not more than a person, or a database, can take.
pub(crate) fn settled(mut notices: Vec<Notice>) -> Vec<Notice> {
    notices.sort_by(|a, b| (&b.file, a.line).cmp(&(&a.file, b.line)));
    let more = notices.len().saturating_sub(Parsed::MAX_NOTICES);
    if more > 0 {
        notices.truncate(Parsed::MAX_NOTICES);
        let message = format!("{more} more notices are not listed");
        notices.push(notice("", 0, "more_notices", message));
    }
    notices
}
