//! Which network does an address belong to, and how far around it does that stay true?
//!
//! A binary trie per family. [`Networks::find`] gives the longest match together with the largest
//! aligned block around the address in which every address has that same match: the walk ends where
//! no listed network lies further down, so the block cannot hold a more specific one.

use std::net::IpAddr;

use ipnet::IpNet;

/// Networks with a value each; lookups take at most 128 steps.
#[derive(Clone, Debug)]
pub struct Networks<V> {
    v4: Vec<Step>,
    v6: Vec<Step>,
    entries: Vec<(IpNet, V)>,
}

/// One bit further: where 0 and 1 lead (0 is nowhere, since nothing leads back to the root), and
/// which entry ends here.
#[derive(Clone, Copy, Debug, Default)]
struct Step {
    next: [u32; 2],
    entry: Option<u32>,
}

/// What [`Networks::find`] says of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match<'n, V> {
    /// The longest network that holds the address.
    pub entry: Option<(IpNet, &'n V)>,
    /// Every address that shares so many leading bits has the same `entry`.
    pub uniform_len: u8,
}

impl<V> Default for Networks<V> {
    fn default() -> Self {
        Self { v4: vec![Step::default()], v6: vec![Step::default()], entries: Vec::new() }
    }
}

impl<V> FromIterator<(IpNet, V)> for Networks<V> {
    /// Of two equal networks the later one counts.
    fn from_iter<I: IntoIterator<Item = (IpNet, V)>>(networks: I) -> Self {
        let mut all = Self::default();
        for (network, value) in networks {
            all.insert(network.trunc(), value);
        }
        all
    }
}

impl<V> Networks<V> {
    fn insert(&mut self, network: IpNet, value: V) {
        let entry = u32::try_from(self.entries.len()).expect("fewer than 4 billion networks");
        self.entries.push((network, value));
        let steps = if network.addr().is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        let mut at = 0;
        for bit in bits(network.addr()).take(usize::from(network.prefix_len())) {
            if steps[at].next[bit] == 0 {
                steps[at].next[bit] = u32::try_from(steps.len()).expect("a trie fits memory");
                steps.push(Step::default());
            }
            at = steps[at].next[bit] as usize;
        }
        steps[at].entry = Some(entry);
    }

    /// The longest match of `address` and how far it holds.
    pub fn find(&self, address: IpAddr) -> Match<'_, V> {
        let steps = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        let mut found = steps[0].entry;
        let mut at = 0;
        let mut depth = 0;
        for bit in bits(address) {
            if steps[at].next == [0, 0] {
                break;
            }
            depth += 1;
            at = steps[at].next[bit] as usize;
            if at == 0 {
                break;
            }
            found = steps[at].entry.or(found);
        }
        let entry = found.map(|entry| {
            let (network, value) = &self.entries[entry as usize];
            (*network, value)
        });
        Match { entry, uniform_len: depth }
    }

    pub fn iter(&self) -> impl Iterator<Item = &(IpNet, V)> {
        self.entries.iter()
    }
}

/// The bits of an address, the first one first.
fn bits(address: IpAddr) -> impl Iterator<Item = usize> {
    let (bits, len) = match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    (0..len).map(move |at| (bits >> (127 - at) & 1) as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn find(networks: &[&str], address: &str) -> (Option<String>, u8) {
        let networks: Networks<()> =
            networks.iter().map(|network| (network.parse().unwrap(), ())).collect();
        let found = networks.find(address.parse().unwrap());
        (found.entry.map(|(network, ())| network.to_string()), found.uniform_len)
    }

    #[test]
    fn the_longest_network_wins_and_holds_until_a_more_specific_one() {
        let networks = ["10.0.0.0/8", "10.1.0.0/16"];
        for (address, network, uniform_len) in [
            ("10.1.2.3", Some("10.1.0.0/16"), 16),
            ("10.0.2.3", Some("10.0.0.0/8"), 16),
            ("10.2.2.3", Some("10.0.0.0/8"), 15),
            ("10.200.2.3", Some("10.0.0.0/8"), 9),
            ("11.0.0.0", None, 8),
            ("192.0.2.1", None, 1),
            ("2001:db8::1", None, 0),
        ] {
            let expected = (network.map(str::to_owned), uniform_len);
            assert_eq!(find(&networks, address), expected, "{address}");
        }
    }

    #[test]
    fn a_network_of_everything_is_found() {
        assert_eq!(find(&["0.0.0.0/0"], "1.2.3.4"), (Some("0.0.0.0/0".into()), 0));
    }

    fn v4_network() -> impl Strategy<Value = IpNet> {
        // Few distinct addresses, so that networks nest.
        (0u32..64, 0u8..=32).prop_map(|(high, len)| {
            IpNet::new(IpAddr::V4((high << 26 | high << 10).into()), len).unwrap().trunc()
        })
    }

    proptest! {
        #[test]
        fn the_block_is_uniform_and_the_largest(
            networks in prop::collection::vec(v4_network(), 0..12),
            address: u32,
            inside: u32,
        ) {
            let linear = |address: u32| {
                let address = IpAddr::V4(address.into());
                networks.iter().filter(|network| network.contains(&address))
                    .max_by_key(|network| network.prefix_len()).copied()
            };
            let all: Networks<()> = networks.iter().map(|network| (*network, ())).collect();
            let found = all.find(IpAddr::V4(address.into()));
            let entry = found.entry.map(|(network, ())| network);
            prop_assert_eq!(entry, linear(address));
            let host_bits = u32::MAX.checked_shr(u32::from(found.uniform_len)).unwrap_or(0);
            prop_assert_eq!(linear(address & !host_bits | inside & host_bits), entry);
            if found.uniform_len > 0 {
                // One bit less would take in a listed network that is not the match.
                let wider = IpNet::new(IpAddr::V4(address.into()), found.uniform_len - 1).unwrap();
                prop_assert!(networks.iter().any(|network| wider.contains(network)
                    && Some(*network) != entry
                    || Some(*network) == entry && network.prefix_len() == found.uniform_len));
            }
        }
    }
}
