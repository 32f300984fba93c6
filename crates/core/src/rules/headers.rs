//! Which blocks does a text in the form of `_headers` hold?
//!
//! A line that begins with a path or a URL opens a block; the lines after it are `Name: value`,
//! `! Name` to take a field away, or `+Name: value` to add one whatever else is set. Indentation
//! means nothing. `#` begins a comment only at the start of a line.

use nigh_proto::rules::{Dialect, HeaderBlock, check_field, check_field_name};

use super::{
    parse::{HEADERS_FILE, Notices, Parsed},
    pattern::{Pattern, Use},
    redirects::is_target,
};

/// Reads every block of `text`; what cannot be read is reported and left out.
pub(crate) fn read_headers(
    text: &str,
    dialect: Dialect,
    notices: &mut Notices,
) -> Vec<HeaderBlock> {
    let mut reader = Reader { dialect, notices, blocks: Vec::new(), state: State::Start };
    for (index, line) in text.lines().enumerate() {
        reader.read(line, u32::try_from(index + 1).unwrap_or(u32::MAX));
    }
    reader.finish()
}

struct Reader<'n> {
    dialect: Dialect,
    notices: &'n mut Notices,
    blocks: Vec<HeaderBlock>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// No path yet.
    Start,
    /// In the last block.
    Open,
    /// After a path that was refused: its fields are not for the block before.
    Refused,
}

impl Reader<'_> {
    fn read(&mut self, line: &str, number: u32) {
        let text = line.trim();
        if text.is_empty() || text.starts_with('#') {
            return;
        }
        if line.len() > Parsed::MAX_HEADER_LINE_BYTES {
            let max = Parsed::MAX_HEADER_LINE_BYTES;
            let message =
                format!("the line has {} bytes, more than {max}; it is left out", line.len());
            self.notices.warn(HEADERS_FILE, number, "line_too_long", message);
        } else if is_target(text) {
            self.open(text, number);
        } else if self.state == State::Start {
            let message = "a field comes after the path that it is for; it is left out";
            self.notices.warn(HEADERS_FILE, number, "header_before_path", message);
        } else if self.state == State::Open {
            self.field(text, number);
        }
    }

    fn open(&mut self, path: &str, number: u32) {
        self.state = State::Refused;
        let block = HeaderBlock { path: path.to_owned(), line: number, ..HeaderBlock::default() };
        if let Some(block) = check_path(block, HEADERS_FILE, self.dialect, self.notices) {
            self.blocks.push(block);
            self.state = State::Open;
        }
    }

    fn field(&mut self, text: &str, number: u32) {
        let Some(block) = self.blocks.last_mut() else { return };
        if let Some(name) = text.strip_prefix('!') {
            let name = name.trim();
            match check_field_name(name) {
                Ok(()) => block.detach.push(name.to_owned()),
                Err(invalid) => self.notices.refuse(HEADERS_FILE, number, &invalid),
            }
            return;
        }
        let Some((name, value)) = text.split_once(':') else {
            let message = format!("{:?} is not `Name: value`; it is left out", shown(text));
            return self.notices.warn(HEADERS_FILE, number, "invalid_header", message);
        };
        add_field(block, name.trim(), value.trim(), HEADERS_FILE, number, self.notices);
    }

    fn finish(self) -> Vec<HeaderBlock> {
        let Reader { dialect, notices, mut blocks, .. } = self;
        for block in &blocks {
            if block.set.is_empty() && block.append.is_empty() && block.detach.is_empty() {
                let message = format!("the block for {} sets nothing", block.path);
                notices.warn(HEADERS_FILE, block.line, "empty_block", message);
            }
        }
        if dialect == Dialect::Cloudflare {
            drop_replaced(&mut blocks, notices);
        }
        blocks
    }
}

/// A block whose path an edge can match, or nothing.
pub(crate) fn check_path(
    block: HeaderBlock,
    file: &str,
    dialect: Dialect,
    notices: &mut Notices,
) -> Option<HeaderBlock> {
    if let Err(invalid) = block.check() {
        notices.refuse(file, block.line, &invalid);
        return None;
    }
    if let Err(invalid) = Pattern::parse(&block.path, Use::Headers, dialect) {
        let message = format!("{invalid}; the block is left out");
        notices.warn(file, block.line, "invalid_pattern", message);
        return None;
    }
    Some(block)
}

/// Adds a field to a block if it may be sent. A second value of one name joins the first, except for
/// `Set-Cookie`, which has no list form (RFC 9110, section 5.3).
pub(crate) fn add_field(
    block: &mut HeaderBlock,
    name: &str,
    value: &str,
    file: &str,
    line: u32,
    notices: &mut Notices,
) {
    let (name, is_appended) = match name.strip_prefix('+') {
        Some(name) => (name.trim_start(), true),
        None => (name, false),
    };
    if name.eq_ignore_ascii_case("basic-auth") {
        // Without the protection that was asked for, nothing may be served.
        let message = "passwords (Basic-Auth) are not supported: these files would be public";
        return notices.error(file, line, "basic_auth_unsupported", message);
    }
    if let Err(invalid) = check_field(name, value) {
        return notices.refuse(file, line, &invalid);
    }
    let list = if is_appended { &mut block.append } else { &mut block.set };
    let known = list.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name));
    match known {
        Some((_, joined))
            if !name.eq_ignore_ascii_case("set-cookie")
                && joined.len() + value.len() < nigh_proto::rules::RuleSet::MAX_VALUE_BYTES =>
        {
            joined.push_str(", ");
            joined.push_str(value);
        }
        Some(_) | None => list.push((name.to_owned(), value.to_owned())),
    }
    if block.check().is_err() {
        block.set.truncate(nigh_proto::rules::RuleSet::MAX_FIELDS / 2);
        block.append.truncate(nigh_proto::rules::RuleSet::MAX_FIELDS / 4);
        block.detach.truncate(nigh_proto::rules::RuleSet::MAX_FIELDS / 4);
        notices.error(file, line, "too_many", "the block has more fields than one block may have");
    }
}

/// For Cloudflare a later block with the same path is instead of the earlier one.
fn drop_replaced(blocks: &mut Vec<HeaderBlock>, notices: &mut Notices) {
    let mut last = std::collections::HashMap::new();
    for (index, block) in blocks.iter().enumerate() {
        last.insert(block.path.clone(), index);
    }
    let mut index = 0;
    blocks.retain(|block| {
        let is_last = last.get(&block.path) == Some(&index);
        index += 1;
        if !is_last {
            let message = format!("a later block for {} replaces this one", block.path);
            notices.warn(HEADERS_FILE, block.line, "duplicate_block", message);
        }
        is_last
    });
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}
