//! Which header fields does an answer carry, when several blocks have a say?
//!
//! [`Fold`] starts from nigh's defaults and takes one block after the other: first what it
//! detaches, then what it sets. Whether a second value replaces or joins the first is the dialect's
//! choice, and for nigh's own dialect the field's.

use http::{HeaderName, HeaderValue, header};
use nigh_proto::rules::{Dialect, HeaderBlock};

use super::{
    pattern::{Captures, InvalidPattern, Pattern, Use},
    target::{ValueTemplate, split_value},
};

/// `Cache-Control` of a file that no rule speaks of: kept by browsers, asked about every time.
pub const REVALIDATE: &str = "public, max-age=0, must-revalidate";

/// The fields of one answer, in order. Framing, validators and `Date` are the edge's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    fields: Vec<(HeaderName, HeaderValue)>,
}

impl FieldSet {
    /// A set of these fields.
    pub fn new(fields: Vec<(HeaderName, HeaderValue)>) -> Self {
        FieldSet { fields }
    }

    /// Every field but `Content-Type`; a name may come more than once.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        let fields = self.fields.iter().filter(|(name, _)| name != header::CONTENT_TYPE);
        fields.map(|(name, value)| (name, value))
    }

    /// The first value of `name`.
    pub fn get(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// The media type that rules ask for instead of the file's own.
    pub fn content_type(&self) -> Option<&HeaderValue> {
        self.get(&header::CONTENT_TYPE)
    }

    /// Whether `Cache-Control` says that the answer never changes (RFC 8246).
    pub fn is_immutable(&self) -> bool {
        let values = self.fields.iter().filter(|(name, _)| name == header::CACHE_CONTROL);
        let directives = values.flat_map(|(_, value)| value.as_bytes().split(|&byte| byte == b','));
        directives.map(<[u8]>::trim_ascii).any(|word| word.eq_ignore_ascii_case(b"immutable"))
    }

    /// The same fields with this one `Cache-Control`.
    pub(crate) fn with_cache_control(mut self, value: &'static str) -> Self {
        self.fields.retain(|(name, _)| name != header::CACHE_CONTROL);
        self.fields.push((header::CACHE_CONTROL, HeaderValue::from_static(value)));
        self
    }

    /// The same fields without `Content-Type`, which speaks of a file that is not sent.
    pub(crate) fn without_content_type(mut self) -> Self {
        self.fields.retain(|(name, _)| name != header::CONTENT_TYPE);
        self
    }
}

/// One block of header rules, ready to apply.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) pattern: Pattern,
    detach: Vec<HeaderName>,
    set: Vec<(HeaderName, ValueTemplate)>,
    append: Vec<(HeaderName, ValueTemplate)>,
}

impl Block {
    /// Compiles a block. Names and values that an edge must not send are left out.
    pub(crate) fn compile(block: &HeaderBlock, dialect: Dialect) -> Result<Self, InvalidPattern> {
        let path = match dialect {
            Dialect::Netlify => block.path.to_lowercase(),
            Dialect::Nigh | Dialect::Cloudflare | Dialect::Ipfs => block.path.clone(),
        };
        let pattern = Pattern::parse(&path, Use::Headers, dialect)?;
        let names: Vec<&str> = pattern.names().collect();
        let compile = |fields: &[(String, String)]| -> Vec<_> {
            let safe = fields
                .iter()
                .filter(|(name, value)| nigh_proto::rules::check_field(name, value).is_ok());
            safe.filter_map(|(name, value)| {
                let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
                Some((name, split_value(value.trim(), &names)?))
            })
            .collect()
        };
        let detach = block.detach.iter().filter_map(|name| name.parse().ok()).collect();
        let (set, append) = (compile(&block.set), compile(&block.append));
        Ok(Block { pattern, detach, set, append })
    }

    /// Whether its values are the same for every path.
    pub(crate) fn is_fixed(&self) -> bool {
        self.set.iter().chain(&self.append).all(|(_, value)| value.is_fixed())
    }
}

/// Fields while blocks are applied to them.
#[derive(Debug)]
pub(crate) struct Fold {
    dialect: Dialect,
    /// With the number of the block that set it; `None` for a default.
    fields: Vec<(Option<u32>, HeaderName, HeaderValue)>,
    block: u32,
}

impl Fold {
    /// nigh's defaults and nothing else.
    pub(crate) fn new(dialect: Dialect) -> Self {
        let default = |name, value| (None, name, HeaderValue::from_static(value));
        let fields = vec![
            default(header::CACHE_CONTROL, REVALIDATE),
            default(header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        Fold { dialect, fields, block: 0 }
    }

    /// Applies one block to a path from which it captured `captures`.
    pub(crate) fn apply(&mut self, block: &Block, captures: &Captures<'_>) {
        self.block += 1;
        self.fields.retain(|(_, name, _)| !block.detach.contains(name));
        for (name, value) in &block.set {
            if let Some(value) = value.fill(captures) {
                self.set(name, value);
            }
        }
        for (name, value) in &block.append {
            if let Some(value) = value.fill(captures) {
                self.push(name, value);
            }
        }
    }

    pub(crate) fn finish(self) -> FieldSet {
        FieldSet { fields: self.fields.into_iter().map(|(_, name, value)| (name, value)).collect() }
    }

    fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        match conflict(self.dialect, name) {
            Conflict::Override => {
                let block = Some(self.block);
                self.fields.retain(|(source, known, _)| known != name || *source == block);
                self.push(name, value);
            }
            Conflict::Append => self.push(name, value),
            Conflict::Join => self.join(name, value),
        }
    }

    fn push(&mut self, name: &HeaderName, value: HeaderValue) {
        self.fields.retain(|(source, known, _)| known != name || source.is_some());
        self.fields.push((Some(self.block), name.clone(), value));
    }

    fn join(&mut self, name: &HeaderName, value: HeaderValue) {
        let own = |field: &&mut (Option<u32>, HeaderName, HeaderValue)| {
            field.0.is_some() && field.1 == name
        };
        let Some((_, _, known)) = self.fields.iter_mut().find(own) else {
            return self.push(name, value);
        };
        let joined = [known.as_bytes(), b", ", value.as_bytes()].concat();
        if let Ok(joined) = HeaderValue::from_bytes(&joined) {
            *known = joined;
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conflict {
    /// The later block's value is the only one.
    Override,
    /// Both are sent, as fields of their own.
    Append,
    /// Both are sent in one field.
    Join,
}

fn conflict(dialect: Dialect, name: &HeaderName) -> Conflict {
    match dialect {
        Dialect::Netlify => Conflict::Override,
        Dialect::Cloudflare if *name == header::SET_COOKIE => Conflict::Append,
        Dialect::Cloudflare => Conflict::Join,
        Dialect::Nigh | Dialect::Ipfs if is_list(name) => Conflict::Append,
        Dialect::Nigh | Dialect::Ipfs => Conflict::Override,
    }
}

/// Fields of which several make sense together. All others say one thing, and a second value would
/// contradict the first.
fn is_list(name: &HeaderName) -> bool {
    const LISTS: [&str; 9] = [
        "cache-tag",
        "content-security-policy",
        "content-security-policy-report-only",
        "link",
        "reporting-endpoints",
        "server-timing",
        "set-cookie",
        "vary",
        "www-authenticate",
    ];
    LISTS.contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(
        path: &str,
        set: &[(&str, &str)],
        append: &[(&str, &str)],
        detach: &[&str],
    ) -> HeaderBlock {
        let own = |fields: &[(&str, &str)]| {
            fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
        };
        HeaderBlock {
            path: path.into(),
            set: own(set),
            append: own(append),
            detach: detach.iter().map(|name| (*name).to_owned()).collect(),
            line: 1,
        }
    }

    fn folded(dialect: Dialect, blocks: &[HeaderBlock], name: &str) -> Vec<String> {
        let mut fold = Fold::new(dialect);
        for block in blocks {
            let block = Block::compile(block, dialect).unwrap();
            let captures = block.pattern.matches("/a/b").unwrap();
            fold.apply(&block, &captures);
        }
        let fields = fold.finish().fields;
        let named = fields.iter().filter(|(known, _)| known == name);
        named.map(|(_, value)| value.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn each_dialect_settles_conflicts_in_its_own_way() {
        use Dialect::{Cloudflare, Ipfs, Netlify, Nigh};
        let caching = [
            block("/*", &[("Cache-Control", "max-age=1")], &[], &[]),
            block("/a/*", &[("cache-control", "max-age=2")], &[], &[]),
        ];
        let links = [
            block("/*", &[("Link", "</a>")], &[], &[]),
            block("/a/*", &[("Link", "</b>")], &[], &[]),
        ];
        for (dialect, blocks, name, expected) in [
            (Nigh, &caching, "cache-control", vec!["max-age=2"]),
            (Ipfs, &caching, "cache-control", vec!["max-age=2"]),
            (Netlify, &caching, "cache-control", vec!["max-age=2"]),
            (Cloudflare, &caching, "cache-control", vec!["max-age=1, max-age=2"]),
            (Nigh, &links, "link", vec!["</a>", "</b>"]),
            (Netlify, &links, "link", vec!["</b>"]),
            (Cloudflare, &links, "link", vec!["</a>, </b>"]),
        ] {
            assert_eq!(folded(dialect, blocks, name), expected, "{dialect:?} {name}");
        }
    }

    #[test]
    fn detaching_takes_away_what_stands_above_and_defaults() {
        let blocks = [
            block("/*", &[("X-A", "1")], &[], &["X-Content-Type-Options", "cache-control"]),
            block("/a/*", &[("X-A", "2")], &[], &["X-A"]),
        ];
        assert_eq!(folded(Dialect::Cloudflare, &blocks, "x-a"), ["2"]);
        assert!(folded(Dialect::Nigh, &blocks, "x-content-type-options").is_empty());
        assert!(folded(Dialect::Nigh, &blocks, "cache-control").is_empty());
        assert_eq!(folded(Dialect::Nigh, &[], "cache-control"), [REVALIDATE]);
    }

    #[test]
    fn appending_adds_to_any_field_and_replaces_only_the_default() {
        let blocks = [
            block("/*", &[], &[("X-A", "1"), ("Cache-Control", "no-cache")], &[]),
            block("/a/*", &[], &[("X-A", "2")], &[]),
        ];
        assert_eq!(folded(Dialect::Nigh, &blocks, "x-a"), ["1", "2"]);
        assert_eq!(folded(Dialect::Nigh, &blocks, "cache-control"), ["no-cache"]);
    }

    #[test]
    fn several_values_of_one_block_stay_together() {
        let blocks = [
            block("/*", &[("X-A", "0")], &[], &[]),
            block("/a/*", &[("X-A", "1"), ("X-A", "2")], &[], &[]),
        ];
        assert_eq!(folded(Dialect::Nigh, &blocks, "x-a"), ["1", "2"]);
    }

    #[test]
    fn values_may_hold_what_the_path_captured() {
        let blocks = [block("/:x/*", &[("X-A", ":x is :splat, not :other")], &[], &[])];
        assert_eq!(folded(Dialect::Cloudflare, &blocks, "x-a"), ["a is b, not :other"]);
    }

    #[test]
    fn immutable_is_read_as_a_directive() {
        for (value, expected) in [
            ("public, max-age=1, immutable", true),
            ("IMMUTABLE", true),
            ("max-age=1", false),
            ("x-immutable", false),
        ] {
            let set = FieldSet::new(vec![(header::CACHE_CONTROL, value.parse().unwrap())]);
            assert_eq!(set.is_immutable(), expected, "{value}");
        }
    }
}
