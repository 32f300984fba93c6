//! What do `_redirects`, `_headers` and `nigh.toml` ask for, and what does that mean for a request?
//!
//! [`parse()`] turns the files of a site into a [`RuleSet`] and says what is wrong with them; [`lint()`]
//! says what is odd about a rule set. [`CompiledRules`] applies one to requests. Dialects differ in
//! both, and only here.

mod compiled;
mod condition;
mod detect;
pub mod fields;
mod headers;
mod items;
mod lint;
mod parse;
mod pattern;
mod redirects;
mod table;
mod target;

pub use compiled::{Action, Applied, CompiledRules};
pub use condition::View;
pub use fields::FieldSet;
pub use items::{FieldValues, HeaderItem, RedirectItem};
pub use lint::lint;
pub use nigh_proto::rules::{
    Conditions, Dialect, HeaderBlock, Hsts, HtmlMode, NotFound, Notice, Redirect, RuleSet,
};
pub use parse::{CONFIG_FILE, HEADERS_FILE, Parsed, REDIRECTS_FILE, RuleFiles, parse};

#[cfg(test)]
mod tests;
