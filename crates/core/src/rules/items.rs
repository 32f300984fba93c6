//! Which rules does `nigh.toml` hold?
//!
//! `[[redirects]]` and `[[headers]]` have the shape of `netlify.toml`. They pass the same checks as
//! lines of `_redirects` and `_headers`, and come after those.

use std::collections::BTreeMap;

use nigh_proto::rules::{Conditions, Dialect, HeaderBlock, Redirect, RuleSet};
use serde::Deserialize;

use super::{
    headers::{add_field, check_path},
    parse::{CONFIG_FILE, Notices, RuleFiles},
    redirects::{check, default_status},
};

/// One `[[redirects]]` of `nigh.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedirectItem {
    pub from: String,
    pub to: String,
    /// The dialect's default when absent.
    #[serde(default)]
    pub status: Option<u16>,
    #[serde(default)]
    pub force: bool,
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    #[serde(default)]
    pub conditions: Conditions,
}

/// One `[[headers]]` of `nigh.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderItem {
    #[serde(rename = "for")]
    pub path: String,
    /// Names and values; a name may begin with `+` to add a field whatever else is set.
    #[serde(default)]
    pub values: BTreeMap<String, FieldValues>,
    #[serde(default)]
    pub detach: Vec<String>,
}

/// One value or several.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum FieldValues {
    One(String),
    Several(Vec<String>),
}

/// Adds the rules of `nigh.toml` to those of the files.
pub(crate) fn read_items(files: &RuleFiles<'_>, rules: &mut RuleSet, notices: &mut Notices) {
    let dialect = rules.dialect;
    for item in files.redirect_items {
        rules.redirects.extend(check(redirect(item, dialect), CONFIG_FILE, dialect, notices));
    }
    for item in files.header_items {
        let block = HeaderBlock {
            path: item.path.clone(),
            detach: item.detach.clone(),
            ..HeaderBlock::default()
        };
        let Some(mut block) = check_path(block, CONFIG_FILE, dialect, notices) else { continue };
        for (name, values) in &item.values {
            for value in values.as_slice() {
                add_field(&mut block, name.trim(), value, CONFIG_FILE, 0, notices);
            }
        }
        rules.headers.push(block);
    }
}

impl FieldValues {
    fn as_slice(&self) -> &[String] {
        match self {
            FieldValues::One(value) => std::slice::from_ref(value),
            FieldValues::Several(values) => values,
        }
    }
}

fn redirect(item: &RedirectItem, dialect: Dialect) -> Redirect {
    let RedirectItem { from, to, status, force, query, conditions } = item.clone();
    let status = status.unwrap_or(default_status(dialect));
    Redirect { from, to, status, force, query, conditions, line: 0 }
}
