//! Which rules are valid and still not what their author can have meant?
//!
//! Every notice here is a warning: the rules work as written. Control may ask again with only a
//! rule set and a manifest; nothing else is needed.

use std::collections::HashMap;

use nigh_proto::{
    Manifest,
    rules::{Dialect, HeaderBlock, HtmlMode, Notice, Redirect, RuleSet},
};

use super::{
    compiled::{CompiledRules, ignores_slash},
    parse::{CONFIG_FILE, HEADERS_FILE, REDIRECTS_FILE, notice, settled},
    pattern::{Pattern, Use},
    target::{Target, unknown_names},
};

/// Stands for what a visitor could write; no file and no rule is called so.
const FILLER: &str = "~anything~";

/// How many rules are compared with others, to find some that cannot be reached. Rules that all begin
/// with a star have nothing that tells them apart, and fifty thousand of them are not worth a minute.
const MAX_TRIES: u32 = 2_000_000;

/// What is odd about `rules`, and about `rules` beside the files of `manifest`.
pub fn lint(rules: &RuleSet, manifest: Option<&Manifest>) -> Vec<Notice> {
    settled(find(rules, manifest))
}

/// All of it, in no order.
pub(crate) fn find(rules: &RuleSet, manifest: Option<&Manifest>) -> Vec<Notice> {
    let compiled = CompiledRules::compile(rules);
    let tries_left = MAX_TRIES;
    let mut lints = Lints { rules, manifest, compiled, tries_left, notices: Vec::new() };
    lints.duplicates();
    for (number, rule) in rules.redirects.iter().enumerate() {
        match Pattern::parse(&rule.from, Use::Redirect, rules.dialect) {
            Ok(pattern) => {
                lints.shape(rule, &pattern);
                lints.reach(number, rule, &pattern);
            }
            // Reading a file leaves such rules out; a rule set may come from elsewhere.
            Err(invalid) => {
                lints.redirect(rule, "invalid_pattern", format!("{invalid}; it does not apply"))
            }
        }
    }
    rules.headers.iter().for_each(|block| lints.block(block));
    lints.notices
}

struct Lints<'a> {
    rules: &'a RuleSet,
    manifest: Option<&'a Manifest>,
    compiled: CompiledRules,
    tries_left: u32,
    notices: Vec<Notice>,
}

impl Lints<'_> {
    fn redirect(&mut self, rule: &Redirect, code: &str, message: String) {
        let file = if rule.line == 0 { CONFIG_FILE } else { REDIRECTS_FILE };
        self.notices.push(notice(file, rule.line, code, message));
    }

    /// Rules with the same conditions for the same path: only the first can apply.
    fn duplicates(&mut self) {
        let mut first = HashMap::new();
        for rule in &self.rules.redirects {
            let conditions = serde_json::to_string(&rule.conditions).unwrap_or_default();
            let key = (same(&rule.from, self.rules.dialect), &rule.query, conditions);
            match first.get(&key) {
                None => {
                    first.insert(key, rule.line);
                }
                Some(line) => {
                    let message = format!(
                        "{} has a rule already{}; this one never applies",
                        rule.from,
                        at(*line)
                    );
                    self.redirect(rule, "duplicate_rule", message);
                }
            }
        }
    }

    /// What can be seen from the rule alone.
    fn shape(&mut self, rule: &Redirect, pattern: &Pattern) {
        if pattern.has_star() && !pattern.is_open_ended() {
            let message =
                format!("* is not at the end of {}; some other hosts ignore that", rule.from);
            self.redirect(rule, "splat_not_at_end", message);
        }
        let captured = rule.query.values().filter_map(|value| value.strip_prefix(':'));
        let names: Vec<&str> = pattern.names().chain(captured).collect();
        for name in unknown_names(&rule.to, &names) {
            let message = format!(
                ":{name} stands in {} and not in {}; it is sent as it is",
                rule.to, rule.from
            );
            self.redirect(rule, "unknown_placeholder", message);
        }
        if !rule.conditions.role.is_empty() {
            let message = "Role= is kept and not applied yet: this rule never applies".to_owned();
            self.redirect(rule, "not_applied_yet", message);
        }
        if self.rules.dialect == Dialect::Ipfs && rule.force {
            let message = "in the ipfs dialect files always win; ! has no effect".to_owned();
            self.redirect(rule, "force_without_effect", message);
        }
    }

    /// What can be seen from the rule among others and among files.
    fn reach(&mut self, number: usize, rule: &Redirect, pattern: &Pattern) {
        let example = pattern.example(FILLER);
        if self.tries_left > 0
            && let Some(first) =
                self.compiled.first_fitting(&example, pattern, &mut self.tries_left)
            && first < number
        {
            let earlier = &self.rules.redirects[first];
            if same(&earlier.from, self.rules.dialect) != same(&rule.from, self.rules.dialect) {
                let message = format!(
                    "{}{} takes every path of {}",
                    earlier.from,
                    at(earlier.line),
                    rule.from
                );
                self.redirect(rule, "unreachable_rule", message);
            }
        }
        self.loops(rule, pattern, &example);
        if let Some(path) = pattern.as_static().map(str::to_owned) {
            self.shadowed(rule, &path);
        }
        self.missing_page(rule, pattern);
    }

    /// A redirect whose target fits its own path sends a visitor round and round, unless it is the
    /// same target every time: there the rule no longer applies.
    fn loops(&mut self, rule: &Redirect, pattern: &Pattern, example: &str) {
        let is_plain = rule.query.is_empty() && rule.conditions.is_empty();
        if !(300..400).contains(&rule.status) || !rule.to.starts_with('/') || !is_plain {
            return;
        }
        let target = Target::parse(&rule.to, &pattern.names().collect::<Vec<_>>());
        let next = |path: &str| target.file_path(&pattern.matches(path)?);
        let Some(there) = next(example) else { return };
        let is_standing = same(&there, self.rules.dialect) == same(example, self.rules.dialect);
        // Where a file ends the journey there is no loop.
        let is_forced = rule.force || self.rules.dialect == Dialect::Cloudflare;
        let is_ended = !is_forced && self.has_file(&there);
        let goes_on = next(&there).is_some_and(|then| then != there);
        if is_standing || (goes_on && !is_ended) {
            let message =
                format!("{} leads to {}, which it fits itself: a loop", rule.from, rule.to);
            self.redirect(rule, "redirect_loop", message);
        }
    }

    fn shadowed(&mut self, rule: &Redirect, path: &str) {
        let is_personal =
            !rule.conditions.country.is_empty() || !rule.conditions.language.is_empty();
        let yields = match self.rules.dialect {
            Dialect::Cloudflare => false,
            Dialect::Ipfs => true,
            Dialect::Nigh | Dialect::Netlify => !rule.force && !is_personal,
        };
        if yields && self.has_file(path) {
            let message = format!(
                "the release has a file at {path}, so this rule never applies; write {}! to override the file",
                rule.status
            );
            self.redirect(rule, "shadowed_rule", message);
        }
    }

    /// A page to show that the release does not have.
    fn missing_page(&mut self, rule: &Redirect, pattern: &Pattern) {
        let is_fixed = pattern.names().all(|name| !rule.to.contains(&format!(":{name}")));
        if (300..400).contains(&rule.status) || self.manifest.is_none() || !is_fixed {
            return;
        }
        let target = Target::parse(&rule.to, &[]).file_path(&Default::default());
        if target.is_some_and(|path| !self.has_file(&path)) {
            let message = format!("{} is to be shown, and the release has no such file", rule.to);
            self.redirect(rule, "missing_page", message);
        }
    }

    /// Whether a URL's path leads to a file.
    fn has_file(&self, path: &str) -> bool {
        let (Some(manifest), Some(stem)) = (self.manifest, path.strip_prefix('/')) else {
            return false;
        };
        let stem = stem.strip_suffix('/').unwrap_or(stem);
        if stem.is_empty() {
            return manifest.get("index.html").is_some();
        }
        let is_clean = self.rules.html != HtmlMode::Exact;
        manifest.get(stem).is_some()
            || manifest.get(&format!("{stem}/index.html")).is_some()
            || (is_clean && manifest.get(&format!("{stem}.html")).is_some())
    }

    fn block(&mut self, block: &HeaderBlock) {
        let file = if block.line == 0 { CONFIG_FILE } else { HEADERS_FILE };
        if let Err(invalid) = Pattern::parse(&block.path, Use::Headers, self.rules.dialect) {
            let message = format!("{invalid}; it does not apply");
            return self.notices.push(notice(file, block.line, "invalid_pattern", message));
        }
        if block.path.ends_with(".html") && self.rules.html != HtmlMode::Exact {
            let message = format!(
                "pages have URLs without .html, so {} applies to redirects only; name the URLs instead",
                block.path
            );
            self.notices.push(notice(file, block.line, "headers_for_old_url", message));
        }
        let values = |wanted: &str| {
            let own = block.set.iter().filter(move |(name, _)| name.eq_ignore_ascii_case(wanted));
            own.map(|(_, value)| value.to_ascii_lowercase()).collect::<Vec<_>>().join(",")
        };
        let caching = values("cache-control");
        if caching.contains("immutable") && matches!(block.path.as_str(), "/*" | "/") {
            let message = "immutable for every path keeps pages in browsers for good; name the folder \
                           of hashed files instead";
            self.notices.push(notice(file, block.line, "immutable_pages", message.into()));
        }
    }
}

fn at(line: u32) -> String {
    if line == 0 { " in nigh.toml".into() } else { format!(" (line {line})") }
}

/// A path as rules compare it.
fn same(path: &str, dialect: Dialect) -> &str {
    if ignores_slash(dialect) { path.trim_end_matches('/') } else { path }
}
