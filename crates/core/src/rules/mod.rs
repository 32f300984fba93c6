//! What do `_redirects`, `_headers` and `nigh.toml` ask for, and what does that mean for a request?
//!
//! [`parse`] turns the files of a site into a [`RuleSet`] and says what is wrong with them.
//! [`CompiledRules`] applies a rule set to requests. Dialects differ in both, and only here.

mod compiled;
mod condition;
pub mod fields;
mod pattern;
mod table;
mod target;

pub use compiled::{Action, Applied, CompiledRules};
pub use condition::View;
pub use fields::FieldSet;
pub use nigh_proto::rules::{
    Conditions, Dialect, HeaderBlock, Hsts, HtmlMode, NotFound, Notice, Redirect, RuleSet,
};
