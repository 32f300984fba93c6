//! Who fetches from whom?
//!
//! Pure: every edge computes the same from the same state, and nobody has to be told. Edges are
//! ranked by a hash of the release and their names (rendezvous hashing), so that every release has
//! other seeds. The seeds fetch from control, the first edge of each region from the seeds, the
//! others from the edges of their own region.

use std::{cmp::Reverse, time::Duration};

use nigh_proto::{
    Digest, MachineName, ReleaseId,
    state::{Location, Peer},
};

use crate::load::Missing;

/// Edges that fetch from control at once.
const SEEDS_MAX: usize = 2;
/// With fewer edges, all fetch from control.
pub(crate) const EDGES_MIN: usize = 3;
/// Less than this comes from control: asking around would take longer.
pub(crate) const DIRECT_BYTES_MAX: u64 = 4 << 20;
/// How long the edge after the seeds waits in vain before it goes to control, and how much longer
/// each further one: one of them brings what all others wait for.
const PATIENCE_FIRST: Duration = Duration::from_millis(1500);
const PATIENCE_STEP: Duration = Duration::from_millis(750);
const PATIENCE_MAX: Duration = Duration::from_secs(15);
/// What one peer is asked for in one round.
const ROUND_BYTES_MAX: u64 = 16 << 20;

/// Where the blobs of a release come from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Course {
    Control,
    Peers {
        /// The first is asked every time, the others by turns.
        order: Vec<Peer>,
        /// How long nothing may come before control is asked.
        patience: Duration,
    },
}

/// The way of the edge `own` to `missing_bytes` of `release`.
pub(crate) fn course(
    own: &MachineName,
    peers: &[Peer],
    release: &ReleaseId,
    missing_bytes: u64,
) -> Course {
    if missing_bytes < DIRECT_BYTES_MAX || peers.len() < EDGES_MIN {
        return Course::Control;
    }
    let ranked = ranked(peers, release);
    let Some(rank) = ranked.iter().position(|peer| peer.name == *own) else {
        return Course::Control;
    };
    let own = ranked[rank];
    let seeds = seeds(&ranked);
    if seeds.contains(&own) {
        return Course::Control;
    }
    let others = u32::try_from(rank).unwrap_or(u32::MAX);
    let patience = PATIENCE_FIRST.saturating_add(PATIENCE_STEP.saturating_mul(others));
    Course::Peers { order: order(own, &ranked, &seeds), patience: patience.min(PATIENCE_MAX) }
}

/// Every edge, in the order of this release.
fn ranked<'p>(peers: &'p [Peer], release: &ReleaseId) -> Vec<&'p Peer> {
    let mut ranked: Vec<&Peer> = peers.iter().collect();
    ranked.sort_by_cached_key(|peer| {
        (*Digest::of(format!("{release} {}", peer.name).as_bytes()).as_bytes(), peer.name.clone())
    });
    ranked
}

/// The first edge, and the first one of another region where there is one.
fn seeds<'p>(ranked: &[&'p Peer]) -> Vec<&'p Peer> {
    let mut seeds: Vec<&Peer> = ranked.iter().take(1).copied().collect();
    while seeds.len() < SEEDS_MAX {
        let is_new_region = |peer: &&&Peer| seeds.iter().all(|seed| seed.region != peer.region);
        let next = ranked
            .iter()
            .find(is_new_region)
            .or_else(|| ranked.iter().find(|peer| !seeds.contains(*peer)));
        let Some(next) = next else { break };
        seeds.push(next);
    }
    seeds
}

/// Whom `own` asks, the best first.
fn order(own: &Peer, ranked: &[&Peer], seeds: &[&Peer]) -> Vec<Peer> {
    let is_first_of_region =
        |peer: &Peer| ranked.iter().find(|other| other.region == peer.region) == Some(&peer);
    let is_near = |peer: &Peer| peer.region == own.region;
    let is_seed = |peer: &Peer| seeds.contains(&peer);
    let mut order: Vec<&Peer> =
        ranked.iter().copied().filter(|peer| peer.name != own.name).collect();
    let leads = is_first_of_region(own);
    // Those of the same kind are asked in an order of one's own, so that not all ask the same.
    let own_turn = |peer: &Peer| Digest::of(format!("{} {}", own.name, peer.name).as_bytes());
    order.sort_by_cached_key(|peer| {
        let kind = if leads {
            (!is_seed(peer), !is_first_of_region(peer), false)
        } else {
            (!is_near(peer), !is_first_of_region(peer), !is_seed(peer))
        };
        let distance = if is_seed(peer) { distance(own, peer) } else { 0 };
        (kind, distance, own_turn(peer))
    });
    // Beyond the region only those are of use that get it early.
    order.retain(|peer| is_near(peer) || is_seed(peer) || (leads && is_first_of_region(peer)));
    order.into_iter().cloned().collect()
}

/// A measure of how far two edges are from each other, in no unit.
fn distance(one: &Peer, other: &Peer) -> u64 {
    let (Some(one), Some(other)) = (one.location, other.location) else { return u64::MAX };
    let point = |at: Location| {
        let (latitude, longitude) = (at.latitude.to_radians(), at.longitude.to_radians());
        [latitude.cos() * longitude.cos(), latitude.cos() * longitude.sin(), latitude.sin()]
    };
    let pairs = point(one).into_iter().zip(point(other));
    // At most 2, the diameter; a millionth of it is 13 m.
    (pairs.map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt() * 1e6) as u64
}

/// What each of several peers is asked for in one round, when `has(peer, index)` says what it has.
pub(crate) fn assign(
    missing: &[Missing],
    peers: usize,
    has: impl Fn(usize, usize) -> bool,
) -> Vec<Vec<Missing>> {
    let mut jobs = vec![(0, Vec::new()); peers];
    for (index, one) in missing.iter().enumerate() {
        // One that is larger than a round is asked of a peer that has nothing else to do.
        let has_room = |bytes: u64| bytes == 0 || bytes + one.size_bytes <= ROUND_BYTES_MAX;
        let free = (0..peers).filter(|&peer| has_room(jobs[peer].0) && has(peer, index));
        if let Some(peer) = free.min_by_key(|&peer| (jobs[peer].0, Reverse(peer))) {
            // What is empty must not make a round endless.
            jobs[peer].0 += one.size_bytes.max(64);
            jobs[peer].1.push(*one);
        }
    }
    jobs.into_iter().map(|(_, job)| job).collect()
}

#[cfg(test)]
mod tests {
    use nigh_proto::MachineId;
    use proptest::prelude::*;

    use super::*;

    fn peer(name: &str, region: usize) -> Peer {
        Peer {
            name: name.parse().unwrap(),
            id: MachineId::new(1, [1; 10]),
            region: format!("region-{region}").parse().unwrap(),
            location: Some(Location { latitude: region as f64 * 10.0, longitude: 5.0 }),
            addresses: Vec::new(),
        }
    }

    fn fleet(edges: usize, regions: usize) -> Vec<Peer> {
        (0..edges).map(|number| peer(&format!("edge-{number}"), number % regions)).collect()
    }

    fn release(number: u64) -> ReleaseId {
        ReleaseId::new(number, [7; 10])
    }

    const LARGE: u64 = 200 << 20;

    #[test]
    fn small_changes_and_small_fleets_come_from_control() {
        let peers = fleet(10, 2);
        for own in &peers {
            let course = |peers, bytes| course(&own.name, peers, &release(1), bytes);
            assert_eq!(course(&peers, DIRECT_BYTES_MAX - 1), Course::Control);
            assert_eq!(course(&peers[..2], LARGE), Course::Control);
            assert_eq!(course(&[], LARGE), Course::Control);
        }
        let stranger = "stranger".parse().unwrap();
        assert_eq!(course(&stranger, &peers, &release(1), LARGE), Course::Control);
    }

    #[test]
    fn every_release_has_other_seeds() {
        let peers = fleet(50, 4);
        let mut seeds: Vec<_> = (0..100)
            .flat_map(|number| {
                let ranked = ranked(&peers, &release(number));
                seeds(&ranked).into_iter().map(|seed| seed.name.clone()).collect::<Vec<_>>()
            })
            .collect();
        seeds.sort();
        seeds.dedup();
        assert!(seeds.len() > 40, "{}", seeds.len());
    }

    proptest! {
        #[test]
        fn few_ask_control_and_everyone_reaches_them(
            edges in 3usize..60, regions in 1usize..8, number in any::<u32>(),
        ) {
            let peers = fleet(edges, regions);
            let release = release(u64::from(number));
            let courses: Vec<_> = peers
                .iter()
                .map(|own| (own, course(&own.name, &peers, &release, LARGE)))
                .collect();
            let seeds: Vec<_> = courses
                .iter()
                .filter(|(_, course)| *course == Course::Control)
                .map(|(own, _)| *own)
                .collect();
            prop_assert_eq!(seeds.len(), SEEDS_MAX);
            if regions > 1 && edges > 1 {
                prop_assert_ne!(&seeds[0].region, &seeds[1].region);
            }
            let mut leads = 0;
            for (own, course) in &courses {
                let Course::Peers { order, patience } = course else { continue };
                prop_assert!(*patience <= PATIENCE_MAX);
                prop_assert!(!order.iter().any(|peer| peer.name == own.name));
                prop_assert!(seeds.iter().all(|seed| order.contains(seed)), "seeds are a way out");
                if seeds.contains(&&order[0]) && order[0].region != own.region {
                    leads += 1;
                } else {
                    prop_assert_eq!(&order[0].region, &own.region);
                }
            }
            prop_assert!(leads <= regions, "regions are entered once");
        }

        #[test]
        fn a_round_asks_only_for_what_a_peer_has_and_once(
            sizes in proptest::collection::vec(0u64..20 << 20, 1..80),
            peers in 1usize..5,
            bits in any::<u64>(),
        ) {
            let missing: Vec<_> = sizes
                .iter()
                .enumerate()
                .map(|(index, &size_bytes)| Missing { digest: Digest::of(&index.to_le_bytes()), size_bytes })
                .collect();
            let has = |peer: usize, index: usize| bits.rotate_left((peer * 17 + index) as u32) & 1 == 1;
            let jobs = assign(&missing, peers, has);
            prop_assert_eq!(jobs.len(), peers);
            let mut asked = Vec::new();
            for (peer, job) in jobs.iter().enumerate() {
                for one in job {
                    let index = missing.iter().position(|other| other.digest == one.digest).unwrap();
                    prop_assert!(has(peer, index));
                    asked.push(index);
                }
                let bytes: u64 = job.iter().map(|one| one.size_bytes).sum();
                prop_assert!(bytes <= ROUND_BYTES_MAX || job.len() == 1);
            }
            let count = asked.len();
            asked.sort_unstable();
            asked.dedup();
            prop_assert_eq!(asked.len(), count);
            let is_any = (0..missing.len()).any(|index| (0..peers).any(|peer| has(peer, index)));
            prop_assert_eq!(count > 0, is_any, "something is asked for while anyone has something");
        }
    }
}
