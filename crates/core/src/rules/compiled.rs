//! What do a release's rules say about one request?
//!
//! [`CompiledRules`] is made once per release. A redirect is the first in file order that fits,
//! forced or not; header blocks are all that fit. A request tries only rules that share a folder
//! with its path.

use nigh_proto::rules::{Dialect, Redirect, RuleSet};

use crate::http::path::encode;

use super::{
    condition::{QueryPairs, View, hold, is_for},
    fields::{Block, FieldSet, Fold},
    pattern::{Captures, InvalidPattern, Pattern, Use, trim_slash},
    table::RuleIndex,
    target::Target,
};

/// The redirects and header blocks of a rule set, ready to apply.
#[derive(Clone, Debug)]
pub struct CompiledRules {
    dialect: Dialect,
    redirects: Vec<CompiledRedirect>,
    redirect_index: RuleIndex,
    /// Whether any rule looks at the query.
    has_queries: bool,
    blocks: Vec<Block>,
    block_index: RuleIndex,
    has_blocks_by_host: bool,
    ignored: usize,
}

#[derive(Clone, Debug)]
struct CompiledRedirect {
    rule: Redirect,
    pattern: Pattern,
    target: Target,
    /// Applies even where there is a file.
    is_forced: bool,
    ignores_slash: bool,
}

/// What a redirect rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send the visitor to `location`.
    Redirect { location: String },
    /// Serve the file at this decoded path with the rule's status.
    Serve { path: String },
}

/// The redirect rule that applies to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Its place in [`RuleSet::redirects`].
    pub rule: usize,
    /// Its line in `_redirects`; 0 when it is from elsewhere.
    pub line: u32,
    pub status: u16,
    pub action: Action,
    /// Whether another visitor at the same URL may get another answer.
    pub is_conditional: bool,
}

/// What a rule that fits a request does.
enum Fit {
    /// Nothing: there is a file, and the rule is not forced.
    Yields,
    Does(Action),
}

impl CompiledRules {
    /// Compiles every rule. One that cannot be applied is left out and [counted](Self::ignored):
    /// control has refused it already, and an edge serves the rest.
    pub fn compile(rules: &RuleSet) -> Self {
        let ignores_slash = ignores_slash(rules.dialect);
        let mut compiled = CompiledRules {
            dialect: rules.dialect,
            redirects: Vec::with_capacity(rules.redirects.len()),
            redirect_index: RuleIndex::new(ignores_slash),
            has_queries: rules.redirects.iter().any(|rule| !rule.query.is_empty()),
            blocks: Vec::with_capacity(rules.headers.len()),
            block_index: RuleIndex::new(ignores_slash),
            has_blocks_by_host: false,
            ignored: 0,
        };
        for rule in &rules.redirects {
            // An ignored rule keeps its number, so numbers stay those of the rule set.
            let number = compiled.redirects.len() as u32;
            match CompiledRedirect::compile(rule, rules.dialect) {
                Ok(redirect) if rule.check().is_ok() => {
                    compiled.redirect_index.push(number, &redirect.pattern);
                    compiled.redirects.push(redirect);
                }
                Ok(_) | Err(_) => {
                    compiled.ignored += 1;
                    compiled.redirects.push(CompiledRedirect::never(rule));
                }
            }
        }
        for block in &rules.headers {
            let number = compiled.blocks.len() as u32;
            match Block::compile(block, rules.dialect) {
                Ok(block) => {
                    compiled.block_index.push(number, &block.pattern);
                    compiled.has_blocks_by_host |= block.pattern.site.is_some();
                    compiled.blocks.push(block);
                }
                Err(_) => compiled.ignored += 1,
            }
        }
        compiled
    }

    /// How many rules could not be compiled.
    pub fn ignored(&self) -> usize {
        self.ignored
    }

    /// The redirect that applies to `view`, whose decoded path is `path`. The first rule that fits
    /// decides: if it yields to files and `has_file`, none applies.
    pub fn redirect(&self, view: &View<'_>, path: &str, has_file: bool) -> Option<Applied> {
        if self.redirect_index.is_empty() {
            return None;
        }
        let pairs = QueryPairs::parse(view.query.filter(|_| self.has_queries));
        let applied = self.redirect_index.first(path, |number| {
            self.redirects[number as usize].applies(view, path, &pairs, has_file)
        });
        let (number, Fit::Does(action)) = applied? else { return None };
        let CompiledRedirect { rule, .. } = &self.redirects[number as usize];
        Some(Applied {
            rule: number as usize,
            line: rule.line,
            status: rule.status,
            action,
            is_conditional: !rule.conditions.is_empty(),
        })
    }

    /// The first rule whose path, without its conditions, fits `path`. Each rule that is tried
    /// costs one of `tries_left`; without any left none is found.
    pub(crate) fn first_fitting(
        &self,
        path: &str,
        from: &Pattern,
        tries_left: &mut u32,
    ) -> Option<usize> {
        let fits = |number: u32| {
            *tries_left = tries_left.checked_sub(1)?;
            let CompiledRedirect { rule, pattern, .. } = &self.redirects[number as usize];
            let is_plain = rule.conditions.is_empty() && rule.query.is_empty();
            let is_wider = pattern.site.is_none() || pattern.site == from.site;
            (is_plain && is_wider && pattern.matches(path).is_some()).then_some(())
        };
        self.redirect_index.first(path, fits).map(|(number, ())| number as usize)
    }

    /// Numbers of the header blocks that fit `path`, in order.
    pub(crate) fn fitting_blocks(&self, path: &str, host: Option<&str>) -> Vec<u32> {
        if self.block_index.is_empty() {
            return Vec::new();
        }
        let path = self.header_path(path);
        self.block_index.all(&path, |number| {
            let pattern = &self.blocks[number as usize].pattern;
            let is_here = match &pattern.site {
                None => true,
                Some(site) => host.is_some_and(|host| host == &*site.host),
            };
            is_here && pattern.matches(&path).is_some()
        })
    }

    /// Whether there is any header block.
    pub(crate) fn has_blocks(&self) -> bool {
        !self.block_index.is_empty()
    }

    /// The most blocks that may have to be tried for one path.
    pub(crate) fn widest_blocks(&self) -> usize {
        self.block_index.widest()
    }

    /// Whether some block is for one host only: then a path alone does not decide.
    pub(crate) fn has_blocks_by_host(&self) -> bool {
        self.has_blocks_by_host
    }

    /// Whether these blocks give every path the same fields.
    pub(crate) fn are_fixed(&self, blocks: &[u32]) -> bool {
        blocks.iter().all(|number| self.blocks[*number as usize].is_fixed())
    }

    /// The fields that `blocks`, which fit `path`, make of the defaults.
    pub(crate) fn fold(&self, blocks: &[u32], path: &str) -> FieldSet {
        let path = self.header_path(path);
        let mut fold = Fold::new(self.dialect);
        for number in blocks {
            let block = &self.blocks[*number as usize];
            let captures = block.pattern.matches(&path).unwrap_or_default();
            fold.apply(block, &captures);
        }
        fold.finish()
    }

    /// Netlify reads the paths of header blocks without regard to case.
    fn header_path<'p>(&self, path: &'p str) -> std::borrow::Cow<'p, str> {
        match self.dialect {
            Dialect::Netlify => path.to_lowercase().into(),
            Dialect::Nigh | Dialect::Cloudflare | Dialect::Ipfs => path.into(),
        }
    }
}

/// Whether `/a` and `/a/` are one path to rules.
pub(crate) fn ignores_slash(dialect: Dialect) -> bool {
    dialect != Dialect::Cloudflare
}

impl CompiledRedirect {
    fn compile(rule: &Redirect, dialect: Dialect) -> Result<Self, InvalidPattern> {
        let pattern = Pattern::parse(&rule.from, Use::Redirect, dialect)?;
        let captured = rule.query.values().filter_map(|value| value.strip_prefix(':'));
        let names: Vec<&str> = pattern.names().chain(captured).collect();
        let target = Target::parse(&rule.to, &names);
        let is_personal =
            !rule.conditions.country.is_empty() || !rule.conditions.language.is_empty();
        let is_forced = match dialect {
            Dialect::Cloudflare => true,
            Dialect::Ipfs => false,
            // A page for every language exists at the path that such a rule is for.
            Dialect::Nigh | Dialect::Netlify => rule.force || is_personal,
        };
        Ok(CompiledRedirect {
            rule: rule.clone(),
            pattern,
            target,
            is_forced,
            ignores_slash: ignores_slash(dialect),
        })
    }

    /// Keeps the place of a rule that is in no index.
    fn never(rule: &Redirect) -> Self {
        let pattern =
            Pattern::parse("/", Use::Redirect, Dialect::Nigh).expect("the root is a path");
        let target = Target::parse("/", &[]);
        CompiledRedirect {
            rule: rule.clone(),
            pattern,
            target,
            is_forced: false,
            ignores_slash: true,
        }
    }

    /// What the rule does for a request; `None` when it does not fit.
    fn applies(
        &self,
        view: &View<'_>,
        path: &str,
        pairs: &QueryPairs<'_>,
        has_file: bool,
    ) -> Option<Fit> {
        let mut captures = self.pattern.matches(path)?;
        if !is_for(self.pattern.site.as_ref(), view)
            || !hold(&self.rule.conditions, view)
            || !pairs.matches(&self.rule.query, &mut captures)
        {
            return None;
        }
        if has_file && !self.is_forced {
            return Some(Fit::Yields);
        }
        self.action(view, path, &captures).map(Fit::Does)
    }

    /// `None` when the rule would send the visitor to where they are: then it does not fit.
    fn action(&self, view: &View<'_>, path: &str, captures: &Captures<'_>) -> Option<Action> {
        if !(300..400).contains(&self.rule.status) {
            return self.target.file_path(captures).map(|path| Action::Serve { path });
        }
        let location = self.target.location(captures, view.query)?;
        (!self.is_here(&location, view, path)).then_some(Action::Redirect { location })
    }

    /// Whether `location` is the request itself; but for a final slash, where slashes do not count.
    fn is_here(&self, location: &str, view: &View<'_>, path: &str) -> bool {
        let scheme = if view.is_https { "https://" } else { "http://" };
        let own = location.strip_prefix(scheme).and_then(|rest| rest.strip_prefix(view.host));
        let target = match own {
            Some("") => "/",
            Some(path) => path,
            None => location,
        };
        let target = target.split('#').next().unwrap_or_default();
        let (target, query) = target.split_once('?').unwrap_or((target, ""));
        let here = encode(path);
        let is_same = match self.ignores_slash {
            true => trim_slash(target) == trim_slash(&here),
            false => target == here,
        };
        is_same && query == view.query.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use nigh_proto::rules::Conditions;

    use super::*;

    fn rules(dialect: Dialect, lines: &[(&str, &str, u16, bool)]) -> CompiledRules {
        let redirect = |(from, to, status, force): &(&str, &str, u16, bool)| Redirect {
            from: (*from).into(),
            to: (*to).into(),
            status: *status,
            force: *force,
            query: Default::default(),
            conditions: Conditions::default(),
            line: 1,
        };
        let redirects = lines.iter().map(redirect).collect();
        CompiledRules::compile(&RuleSet { dialect, redirects, ..RuleSet::default() })
    }

    fn ask(
        rules: &CompiledRules,
        path: &str,
        query: Option<&str>,
        has_file: bool,
    ) -> Option<Action> {
        let headers = HeaderMap::new();
        let view =
            View { path, query, headers: &headers, host: "a.test", is_https: true, country: None };
        rules.redirect(&view, path, has_file).map(|applied| applied.action)
    }

    fn to(location: &str) -> Option<Action> {
        Some(Action::Redirect { location: location.into() })
    }

    #[test]
    fn the_first_rule_in_the_file_wins() {
        let rules = rules(
            Dialect::Nigh,
            &[
                ("/a/*", "/1/:splat", 301, false),
                ("/a/b", "/2", 301, true),
                ("/c", "/3", 302, false),
            ],
        );
        assert_eq!(ask(&rules, "/a/b", None, false), to("/1/b"));
        assert_eq!(ask(&rules, "/c", None, false), to("/3"));
        assert_eq!(ask(&rules, "/d", None, false), None);
        // The first that fits yields to a file; a later one is not asked, forced or not.
        assert_eq!(ask(&rules, "/a/b", None, true), None);
    }

    #[test]
    fn files_and_rules_yield_as_the_dialect_says() {
        let lines = [("/a", "/b", 301, false)];
        for (dialect, with_file) in [
            (Dialect::Nigh, None),
            (Dialect::Netlify, None),
            (Dialect::Ipfs, None),
            (Dialect::Cloudflare, to("/b")),
        ] {
            assert_eq!(ask(&rules(dialect, &lines), "/a", None, true), with_file, "{dialect:?}");
        }
        let forced = [("/a", "/b", 301, true)];
        assert_eq!(ask(&rules(Dialect::Nigh, &forced), "/a", None, true), to("/b"));
        assert_eq!(ask(&rules(Dialect::Ipfs, &forced), "/a", None, true), None);
    }

    #[test]
    fn a_rule_that_leads_to_itself_does_not_apply() {
        let rules = rules(
            Dialect::Nigh,
            &[
                ("/a", "/a/", 301, true),
                ("/b", "https://a.test/b", 301, true),
                ("/c", "https://www.test/c", 301, true),
                ("/d", "/d?x=1", 301, true),
            ],
        );
        assert_eq!(ask(&rules, "/a", Some("q=1"), false), None);
        assert_eq!(ask(&rules, "/b", None, false), None);
        assert_eq!(ask(&rules, "/c", None, false), to("https://www.test/c"));
        assert_eq!(ask(&rules, "/d", None, false), to("/d?x=1"));
        assert_eq!(ask(&rules, "/d", Some("x=1"), false), None);
    }

    #[test]
    fn a_rule_may_add_a_slash_where_slashes_count() {
        let lines = [("/a", "/a/", 301, false)];
        assert_eq!(ask(&rules(Dialect::Cloudflare, &lines), "/a", None, false), to("/a/"));
        assert_eq!(ask(&rules(Dialect::Cloudflare, &lines), "/a/", None, false), None);
        assert_eq!(ask(&rules(Dialect::Netlify, &lines), "/a", None, false), None);
    }

    #[test]
    fn rules_may_be_for_one_host_and_scheme() {
        let rules = rules(
            Dialect::Nigh,
            &[
                ("https://b.test/*", "/no", 301, false),
                ("http://a.test/*", "/no", 301, false),
                ("https://a.test/*", "/yes", 301, false),
            ],
        );
        assert_eq!(ask(&rules, "/x", None, false), to("/yes"));
    }

    #[test]
    fn a_page_is_served_for_statuses_that_do_not_redirect() {
        let rules = rules(
            Dialect::Nigh,
            &[("/app/*", "/app.html", 200, false), ("/gone", "/gone.html", 410, false)],
        );
        let serve = |path: &str| Some(Action::Serve { path: path.into() });
        assert_eq!(ask(&rules, "/app/x/y", None, false), serve("/app.html"));
        assert_eq!(ask(&rules, "/gone", None, false), serve("/gone.html"));
    }

    #[test]
    fn a_rule_that_cannot_be_compiled_is_left_out_and_counted() {
        let rules = rules(
            Dialect::Nigh,
            &[
                ("/*/a/*", "/1", 301, false),
                ("/b", "//evil.test", 301, false),
                ("/c", "/3", 301, false),
            ],
        );
        assert_eq!(rules.ignored(), 2);
        assert_eq!(ask(&rules, "/b", None, false), None);
        assert_eq!(ask(&rules, "/c", None, false), to("/3"));
    }
}
