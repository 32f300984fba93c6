//! Which address of a name is connected to first?
//!
//! Connections are tried at one address after the other until one is made. That is not enough: a
//! control that hangs still accepts connections. So every turn begins with another address, and
//! once one has answered, all connections of that turn begin there.

use std::{
    hash::{BuildHasher, RandomState},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// More addresses than a name of controls has.
const ADDRESSES_MAX: usize = 16;

/// Looks names up as the system does; cheap to clone.
#[derive(Clone, Debug)]
pub struct Resolver {
    place: usize,
    addresses: Arc<AtomicUsize>,
    settled: Arc<Mutex<Option<IpAddr>>>,
}

impl Resolver {
    /// Begins with the address at `place`, and notes in `addresses` how many there are.
    pub(crate) fn new(place: usize, addresses: Arc<AtomicUsize>) -> Self {
        Self { place, addresses, settled: Arc::default() }
    }

    /// Somebody has answered there: further connections begin with this address.
    pub fn settle(&self, address: IpAddr) {
        *self.settled.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
    }

    /// Servers give addresses in another order each time, so they are put into one first.
    pub(crate) fn order(&self, mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        addresses.sort_unstable();
        addresses.dedup();
        addresses.truncate(ADDRESSES_MAX);
        if addresses.is_empty() {
            return addresses;
        }
        self.addresses.fetch_max(addresses.len(), Ordering::Relaxed);
        let settled = *self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        let settled = addresses.iter().position(|address| Some(address.ip()) == settled);
        let first = settled.unwrap_or(self.place % addresses.len());
        addresses.rotate_left(first);
        addresses
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let ordered: Addrs = Box::new(resolver.order(found.collect()).into_iter());
            Ok(ordered)
        })
    }
}

pub(crate) fn random_start() -> usize {
    // A number that nobody needs to keep secret; small, so that turns can be added to it.
    usize::from(RandomState::new().hash_one(0u8).to_le_bytes()[0])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn resolver(place: usize) -> Resolver {
        Resolver::new(place, Arc::new(AtomicUsize::new(1)))
    }

    fn addresses(last: &[u8]) -> Vec<SocketAddr> {
        last.iter().map(|&last| SocketAddr::from(([192, 0, 2, last], 0))).collect()
    }

    #[test]
    fn whatever_order_the_server_gives_a_place_is_the_same_address() {
        assert_eq!(resolver(1).order(addresses(&[3, 1, 2])), addresses(&[2, 3, 1]));
        assert_eq!(resolver(4).order(addresses(&[2, 3, 1])), addresses(&[2, 3, 1]));
    }

    #[test]
    fn who_has_answered_is_first_from_then_on() {
        let resolver = resolver(0);
        resolver.clone().settle([192, 0, 2, 3].into());
        assert_eq!(resolver.order(addresses(&[1, 2, 3])), addresses(&[3, 1, 2]));
        assert_eq!(resolver.order(addresses(&[1, 2])), addresses(&[1, 2]), "it has left the name");
    }

    proptest! {
        #[test]
        fn no_address_is_lost_below_the_bound(place: usize, last in prop::collection::vec(any::<u8>(), 0..40)) {
            let ordered = resolver(place).order(addresses(&last));
            let mut wanted = addresses(&last);
            wanted.sort_unstable();
            wanted.dedup();
            prop_assert_eq!(ordered.len(), wanted.len().min(ADDRESSES_MAX));
            prop_assert!(ordered.iter().all(|address| wanted.contains(address)));
        }
    }
}
