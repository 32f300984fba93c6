//! Whose turn is it?
//!
//! A turn is one URL and one place in the list of its name's addresses. The turn passes when somebody
//! says that it came to nothing: from URL to URL, and after the last one to the next address of each.
//! Nothing is remembered of the dead: who comes round to one that is back finds it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use reqwest::Url;

use crate::{
    resolver::{Resolver, random_start},
    urls::ControlUrls,
};

/// Whose turn it is among several; cheap to clone, every clone is the same.
#[derive(Clone, Debug)]
pub struct Turns(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    urls: ControlUrls,
    turn: AtomicUsize,
    /// Where in the addresses of a name this process begins, so that not all begin at the same.
    start: usize,
    /// How many addresses a name had when it was looked up last, the most of any.
    addresses: Arc<AtomicUsize>,
}

/// One control to ask.
#[derive(Clone, Debug)]
pub struct Turn {
    number: usize,
    url: Url,
    resolver: Resolver,
}

impl Turns {
    /// Begins with the first of `urls`.
    pub fn new(urls: ControlUrls) -> Self {
        Self(Arc::new(Shared {
            urls,
            turn: AtomicUsize::new(0),
            start: random_start(),
            addresses: Arc::new(AtomicUsize::new(1)),
        }))
    }

    pub fn urls(&self) -> &ControlUrls {
        &self.0.urls
    }

    /// The number of the turn that it is: another one than before when it has passed.
    pub fn number(&self) -> usize {
        self.0.turn.load(Ordering::Relaxed)
    }

    /// Whose turn it is.
    pub fn current(&self) -> Turn {
        let (urls, number) = (self.0.urls.all(), self.number());
        let place = self.0.start.wrapping_add(number / urls.len());
        let resolver = Resolver::new(place, Arc::clone(&self.0.addresses));
        Turn { number, url: urls[number % urls.len()].clone(), resolver }
    }

    /// Turn `number` came to nothing. It passes once, however many say so.
    pub fn pass(&self, number: usize) {
        let next = number.wrapping_add(1);
        // An error: somebody else has passed it already.
        let _ = self.0.turn.compare_exchange(number, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// How many turns it takes until everybody had one, as far as names were looked up.
    pub fn total(&self) -> usize {
        self.0.urls.all().len() * self.0.addresses.load(Ordering::Relaxed)
    }
}

impl Turn {
    pub const fn number(&self) -> usize {
        self.number
    }

    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// What finds the addresses of the URL's name, this turn's first.
    pub const fn resolver(&self) -> &Resolver {
        &self.resolver
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(turns: &Turns, count: usize) -> Vec<String> {
        let next = |_| {
            let turn = turns.current();
            turns.pass(turn.number());
            turn.url().host_str().unwrap().to_owned()
        };
        (0..count).map(next).collect()
    }

    #[test]
    fn a_turn_that_came_to_nothing_is_the_next_ones() {
        let turns = Turns::new("https://a,https://b".parse().unwrap());
        assert_eq!(turns.current().url().host_str(), turns.current().url().host_str());
        assert_eq!(hosts(&turns, 5), ["a", "b", "a", "b", "a"]);
        assert_eq!(turns.total(), 2);
    }

    #[test]
    fn many_who_fail_at_once_pass_the_turn_once() {
        let turns = Turns::new("https://a,https://b,https://c".parse().unwrap());
        let failed = turns.current();
        for _ in 0..4 {
            turns.pass(failed.number());
        }
        assert_eq!(turns.current().url().host_str(), Some("b"));
    }

    #[test]
    fn every_address_of_every_name_has_its_turn() {
        let turns = Turns::new("https://a,https://b".parse().unwrap());
        let addresses = ["192.0.2.1:0", "192.0.2.2:0", "[2001:db8::1]:0"];
        let addresses = || addresses.iter().map(|text| text.parse().unwrap()).collect();
        let mut firsts = std::collections::BTreeSet::new();
        turns.current().resolver().order(addresses());
        assert_eq!(turns.total(), 6);
        for _ in 0..turns.total() {
            let turn = turns.current();
            let first = turn.resolver().order(addresses())[0];
            firsts.insert((turn.url().host_str().unwrap().to_owned(), first));
            turns.pass(turn.number());
        }
        assert_eq!(firsts.len(), 6);
    }
}
