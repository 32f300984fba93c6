//! Which rules could apply to a path? Only those are tried.
//!
//! Patterns without free parts are found by hash. The others are kept by the folder in which all
//! their paths lie; a path is in as many folders as it has slashes, and no more are looked up
//! than the deepest rule has.

use std::collections::HashMap;

use super::pattern::{Pattern, trim_slash};

/// Numbers of rules, by what their paths have in common.
#[derive(Clone, Debug, Default)]
pub(crate) struct RuleIndex {
    fixed: HashMap<Box<str>, Vec<u32>>,
    by_folder: HashMap<Box<str>, Vec<u32>>,
    /// Slashes in the deepest folder.
    depth: usize,
    ignores_slash: bool,
}

impl RuleIndex {
    pub(crate) fn new(ignores_slash: bool) -> Self {
        RuleIndex { ignores_slash, ..RuleIndex::default() }
    }

    /// Adds a rule; its number is larger than all before.
    pub(crate) fn push(&mut self, number: u32, pattern: &Pattern) {
        match pattern.as_static() {
            Some(path) => self.fixed.entry(path.into()).or_default().push(number),
            None => {
                let folder = pattern.folder();
                self.depth = self.depth.max(folder.matches('/').count());
                self.by_folder.entry(folder.into()).or_default().push(number);
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fixed.is_empty() && self.by_folder.is_empty()
    }

    /// The lists, each in order, of every rule that could fit `path`.
    pub(crate) fn candidates(&self, path: &str) -> impl Iterator<Item = &[u32]> {
        let exact = if self.ignores_slash { trim_slash(path) } else { path };
        let fixed = self.fixed.get(exact).into_iter();
        let ends = memchr::memchr_iter(b'/', path.as_bytes()).chain([path.len()]);
        let depth = if self.by_folder.is_empty() { 0 } else { self.depth + 1 };
        // `/a/` is in `/a` twice: once before its slash and once as a whole.
        let folders = ends.take(depth).filter_map(move |end| self.by_folder.get(&path[..end]));
        fixed.chain(folders).map(|numbers| &numbers[..])
    }

    /// The lowest number for which `applies` gives something, and what it gives.
    ///
    /// A list is left as soon as it cannot hold a lower one, so a rule near the top of the file is
    /// found without a look at the rest.
    pub(crate) fn first<T>(
        &self,
        path: &str,
        mut applies: impl FnMut(u32) -> Option<T>,
    ) -> Option<(u32, T)> {
        let mut best: Option<(u32, T)> = None;
        for numbers in self.candidates(path) {
            for &number in numbers {
                if best.as_ref().is_some_and(|(lowest, _)| *lowest <= number) {
                    break;
                }
                if let Some(found) = applies(number) {
                    best = Some((number, found));
                    break;
                }
            }
        }
        best
    }

    /// Every number for which `applies`, in order.
    pub(crate) fn all(&self, path: &str, mut applies: impl FnMut(u32) -> bool) -> Vec<u32> {
        let lists = self.candidates(path).flatten().copied();
        let mut found: Vec<u32> = lists.filter(|number| applies(*number)).collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

#[cfg(test)]
mod tests {
    use nigh_proto::rules::Dialect;
    use proptest::prelude::*;

    use super::*;
    use crate::rules::pattern::Use;

    proptest! {
        #[test]
        fn the_index_finds_what_trying_every_rule_finds(
            patterns in proptest::collection::vec("(/[ab]|/:x|/\\*){0,4}/?", 1..12),
            path in "(/[abc]){0,5}/?",
            is_cloudflare: bool,
        ) {
            let dialect = if is_cloudflare { Dialect::Cloudflare } else { Dialect::Nigh };
            let mut index = RuleIndex::new(!is_cloudflare);
            let patterns: Vec<_> = patterns
                .iter()
                .filter(|text| text.starts_with('/'))
                .filter_map(|text| Pattern::parse(text, Use::Headers, dialect).ok())
                .collect();
            for (number, pattern) in patterns.iter().enumerate() {
                index.push(number as u32, pattern);
            }
            let path = if path.is_empty() { "/" } else { &path };
            let fits = |number: u32| patterns[number as usize].matches(path).is_some();
            let expected: Vec<u32> = (0..patterns.len() as u32).filter(|n| fits(*n)).collect();
            prop_assert_eq!(&index.all(path, fits), &expected);
            let first = index.first(path, |number| fits(number).then_some(()));
            prop_assert_eq!(first.map(|(number, ())| number), expected.first().copied());
        }
    }
}
