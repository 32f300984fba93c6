//! Which rules could apply to a path? Only those are tried.
//!
//! Patterns without free parts are found by hash. The others lie in a tree of segments, in which
//! a placeholder is a branch of its own: a path follows at most two branches per segment, and meets
//! a rule only where everything before the rule's star fits.

use std::collections::HashMap;

use super::pattern::{Pattern, Step, trim_slash};

/// Numbers of rules, by what their paths have in common.
#[derive(Clone, Debug)]
pub(crate) struct RuleIndex {
    fixed: HashMap<Box<str>, Vec<u32>>,
    /// The first is the root.
    nodes: Vec<Node>,
    is_empty: bool,
    ignores_slash: bool,
}

/// A place in the tree: some segments that a path begins with.
#[derive(Clone, Debug, Default)]
struct Node {
    literals: HashMap<Box<str>, u32>,
    placeholder: Option<u32>,
    /// Rules whose path ends here.
    ends: Vec<u32>,
    /// Rules that go on in a way of their own: a star, or a part of a segment.
    opens: Vec<u32>,
}

impl RuleIndex {
    pub(crate) fn new(ignores_slash: bool) -> Self {
        RuleIndex {
            fixed: HashMap::new(),
            nodes: vec![Node::default()],
            is_empty: true,
            ignores_slash,
        }
    }

    /// Adds a rule; its number is larger than all before.
    pub(crate) fn push(&mut self, number: u32, pattern: &Pattern) {
        self.is_empty = false;
        if let Some(path) = pattern.as_static() {
            self.fixed.entry(path.into()).or_default().push(number);
            return;
        }
        let mut node = 0;
        for step in pattern.steps() {
            match step {
                Step::Literal(segment) => node = self.literal(node, &segment),
                Step::Placeholder => node = self.placeholder(node),
                Step::End => return self.nodes[node as usize].ends.push(number),
                Step::Open => return self.nodes[node as usize].opens.push(number),
            }
        }
    }

    fn literal(&mut self, node: u32, segment: &str) -> u32 {
        let next = self.nodes.len() as u32;
        let known = self.nodes[node as usize].literals.get(segment).copied();
        known.unwrap_or_else(|| {
            self.nodes[node as usize].literals.insert(segment.into(), next);
            self.nodes.push(Node::default());
            next
        })
    }

    fn placeholder(&mut self, node: u32) -> u32 {
        let next = self.nodes.len() as u32;
        if let Some(known) = self.nodes[node as usize].placeholder {
            return known;
        }
        self.nodes[node as usize].placeholder = Some(next);
        self.nodes.push(Node::default());
        next
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// The most rules that may have to be tried at one place.
    pub(crate) fn widest(&self) -> usize {
        self.nodes.iter().map(|node| node.opens.len().max(node.ends.len())).max().unwrap_or(0)
    }

    /// Shows `see` the lists, each in order, of every rule that could fit `path`.
    fn candidates(&self, path: &str, see: &mut impl FnMut(&[u32])) {
        let path = if self.ignores_slash { trim_slash(path) } else { path };
        if let Some(numbers) = self.fixed.get(path) {
            see(numbers);
        }
        let rest = path.strip_prefix('/').filter(|rest| !self.ignores_slash || !rest.is_empty());
        self.descend(&self.nodes[0], rest, see);
    }

    /// `rest` is what follows the slash after the segments so far; `None` at the end. No deeper than
    /// the tree, however long the path.
    fn descend(&self, node: &Node, rest: Option<&str>, see: &mut impl FnMut(&[u32])) {
        see(&node.opens);
        let Some(rest) = rest else { return see(&node.ends) };
        let (segment, rest) = match rest.split_once('/') {
            Some((segment, rest)) => (segment, Some(rest)),
            None => (rest, None),
        };
        if let Some(next) = node.literals.get(segment) {
            self.descend(&self.nodes[*next as usize], rest, see);
        }
        if let Some(next) = node.placeholder.filter(|_| !segment.is_empty()) {
            self.descend(&self.nodes[next as usize], rest, see);
        }
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
        self.candidates(path, &mut |numbers| {
            for &number in numbers {
                if best.as_ref().is_some_and(|(lowest, _)| *lowest <= number) {
                    return;
                }
                if let Some(found) = applies(number) {
                    best = Some((number, found));
                    return;
                }
            }
        });
        best
    }

    /// Every number for which `applies`, in order.
    pub(crate) fn all(&self, path: &str, mut applies: impl FnMut(u32) -> bool) -> Vec<u32> {
        let mut found = Vec::new();
        self.candidates(path, &mut |numbers| {
            found.extend(numbers.iter().filter(|number| applies(**number)));
        });
        found.sort_unstable();
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
            patterns in proptest::collection::vec("(/[ab]|/:x|/:x\\.c|/[ab]?\\*[ab]?){0,4}/?|/:x(/[ab]|/:x){6,11}", 1..12),
            path in "(/[abc](\\.c)?){0,5}/{0,2}|(/[ab]){6,12}",
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
