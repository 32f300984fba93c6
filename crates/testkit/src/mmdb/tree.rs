//! How does a reader get from the bits of an address to its record?

use std::net::IpAddr;

use anyhow::bail;
use ipnet::IpNet;

use super::{RecordSize, SEPARATOR};

/// A binary tree over 128 bits; the first node is its root.
pub(super) struct Tree(Vec<[Branch; 2]>);

/// Where a bit leads.
#[derive(Clone, Copy)]
enum Branch {
    Nowhere,
    Node(usize),
    /// An offset into the data section.
    Data(usize),
}

impl Tree {
    /// Networks with their offsets into the data section; the longest prefix wins.
    pub(super) fn build(networks: &[(IpNet, usize)]) -> anyhow::Result<Self> {
        let mut sorted: Vec<_> =
            networks.iter().map(|&(network, offset)| (bits(network), network, offset)).collect();
        // Wide networks first, so that each one only ever splits what is there.
        sorted.sort_by_key(|&((address, prefix), ..)| (prefix, address));
        for pair in sorted.windows(2) {
            if pair[0].0 == pair[1].0 {
                bail!("network {} is listed twice", pair[1].1);
            }
        }
        let mut tree = Tree(vec![[Branch::Nowhere; 2]]);
        for ((address, prefix), network, offset) in sorted {
            if prefix == 0 {
                bail!("network {network} covers every address");
            }
            tree.insert(address, prefix, offset);
        }
        Ok(tree)
    }

    fn insert(&mut self, address: u128, prefix: u8, offset: usize) {
        let mut node = 0;
        for depth in 0..prefix - 1 {
            let side = bit(address, depth);
            node = match self.0[node][side] {
                Branch::Node(next) => next,
                // What was known for the whole half stays known for both of its halves.
                whole => {
                    self.0.push([whole; 2]);
                    let next = self.0.len() - 1;
                    self.0[node][side] = Branch::Node(next);
                    next
                }
            };
        }
        self.0[node][bit(address, prefix - 1)] = Branch::Data(offset);
    }

    pub(super) fn node_count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn write(&self, record_size: RecordSize, out: &mut Vec<u8>) {
        for [left, right] in &self.0 {
            let [left, right] = [self.pointer(*left), self.pointer(*right)];
            match record_size {
                RecordSize::Bits24 => {
                    out.extend_from_slice(&left[1..]);
                    out.extend_from_slice(&right[1..]);
                }
                RecordSize::Bits28 => {
                    out.extend_from_slice(&left[1..]);
                    // The top four bits of both share the byte in the middle.
                    out.push(left[0] << 4 | right[0]);
                    out.extend_from_slice(&right[1..]);
                }
            }
        }
    }

    /// Below the node count a node, the node count itself for nothing, above it data.
    fn pointer(&self, branch: Branch) -> [u8; 4] {
        let number = match branch {
            Branch::Node(node) => node,
            Branch::Nowhere => self.node_count(),
            Branch::Data(offset) => self.node_count() + SEPARATOR.len() + offset,
        };
        u32::try_from(number).expect("the size was checked against the record size").to_be_bytes()
    }
}

/// The address and the length of a network in the tree, where IPv4 lies at `::/96`.
fn bits(network: IpNet) -> (u128, u8) {
    match network.network() {
        IpAddr::V4(ip) => (u32::from(ip).into(), 96 + network.prefix_len()),
        IpAddr::V6(ip) => (ip.into(), network.prefix_len()),
    }
}

fn bit(address: u128, depth: u8) -> usize {
    usize::from(address >> (127 - depth) & 1 == 1)
}
