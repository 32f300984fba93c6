//! Who may open another connection?
//!
//! There are so many places for all, and so many of them for one network: an IPv4 address, or the
//! /64 that an IPv6 customer has at the least.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard},
};

/// Places for connections, shared by all listeners.
#[derive(Debug)]
pub(crate) struct Places {
    all_max: usize,
    /// 0 for as many as there are.
    network_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_network: HashMap<IpAddr, usize>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPlace {
    All,
    Network,
}

/// A connection's place; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    network: IpAddr,
}

impl Places {
    pub(crate) fn new(all_max: usize, network_max: usize) -> Arc<Self> {
        Arc::new(Places { all_max, network_max, taken: Mutex::default() })
    }

    /// A place for a connection from `ip`.
    pub(crate) fn take(self: &Arc<Self>, ip: IpAddr) -> Result<Place, NoPlace> {
        let network = network(ip);
        let mut taken = self.taken();
        if taken.all >= self.all_max {
            return Err(NoPlace::All);
        }
        if self.network_max > 0 {
            let of_network = taken.by_network.entry(network).or_default();
            if *of_network >= self.network_max {
                return Err(NoPlace::Network);
            }
            *of_network += 1;
        }
        taken.all += 1;
        Ok(Place { places: Arc::clone(self), network })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().expect("nothing panics while it counts")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all -= 1;
        if let Some(of_network) = taken.by_network.get_mut(&self.network) {
            *of_network -= 1;
            if *of_network == 0 {
                taken.by_network.remove(&self.network);
            }
        }
    }
}

fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_has_so_many_places_and_gets_them_back() {
        let places = Places::new(100, 2);
        for (one, other, third) in [
            ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::ffff:0:0:1", "2001:db8::2"),
        ] {
            let (held, _also) = (places.take(ip(one)).unwrap(), places.take(ip(other)).unwrap());
            assert_eq!(places.take(ip(third)).unwrap_err(), NoPlace::Network);
            places.take(ip("2001:db8:0:1::1")).unwrap();
            drop(held);
            places.take(ip(third)).unwrap();
        }
        assert!(places.taken().by_network.is_empty(), "nothing is kept of those who left");
    }

    #[test]
    fn all_networks_together_have_so_many_places() {
        let places = Places::new(1, 0);
        let held = places.take(ip("192.0.2.1")).unwrap();
        assert_eq!(places.take(ip("192.0.2.2")).unwrap_err(), NoPlace::All);
        drop(held);
        places.take(ip("192.0.2.2")).unwrap();
    }
}
