//! Would this control take something away that it knows nothing about?
//!
//! A machine whose state is another fleet's, as after control was lost with its database, is held: it
//! is told nothing, and serves what it has, until somebody has said what becomes of that. A control
//! that was restored from a backup is the same fleet as before.

use nigh_proto::state::Holding;

use super::World;

/// Whether a machine that holds this is to be told nothing.
pub(crate) fn is_held(world: &World, holding: &Holding) -> bool {
    let is_empty = holding.sites == 0 && holding.zones == 0;
    if is_empty || holding.fleet.is_some() && holding.fleet == world.fleet {
        return false;
    }
    let is_settled = world
        .settled
        .iter()
        .any(|settled| settled.fleet == holding.fleet && settled.revision >= holding.revision.0);
    // States of before fleets had names are taken for this one's, unless they have sites and it has none.
    let is_own = holding.fleet.is_none() && (!world.sites.is_empty() || holding.sites == 0);
    !is_settled && !is_own
}

#[cfg(test)]
mod tests {
    use nigh_proto::{FleetId, state::Revision};

    use super::*;
    use crate::{fleet::fixture, store::SettledRow};

    fn fleet(number: u8) -> Option<FleetId> {
        Some(FleetId::new(1, [number; 10]))
    }

    fn holding(fleet: Option<FleetId>, revision: u64, sites: u64) -> Holding {
        Holding { fleet, revision: Revision(revision), sites, zones: 0 }
    }

    #[test]
    fn a_control_takes_away_only_what_is_its_own() {
        let empty = World { fleet: fleet(1), ..World::default() };
        let used = World { fleet: fleet(1), ..fixture::world(&["fra1"], Some(1), None) };
        for (theirs, sites, of_empty, of_used) in [
            (fleet(1), 2, false, false),
            (fleet(2), 2, true, true),
            (fleet(2), 0, false, false),
            // From before fleets had names.
            (None, 2, true, false),
            (None, 0, false, false),
        ] {
            let holding = holding(theirs, 5, sites);
            assert_eq!(is_held(&empty, &holding), of_empty, "{holding:?}");
            assert_eq!(is_held(&used, &holding), of_used, "{holding:?}");
        }
        let zones = Holding { zones: 1, ..holding(fleet(2), 5, 0) };
        assert!(is_held(&used, &zones), "a DNS server has zones before there is a site");
        assert!(!is_held(&empty, &Holding { fleet: None, ..zones }), "nor had the old control one");
    }

    #[test]
    fn what_was_settled_counts_up_to_its_revision_and_for_its_fleet() {
        for known in [fleet(2), None] {
            let settled = vec![SettledRow { fleet: known.clone(), revision: 5 }];
            let world = World { fleet: fleet(1), settled, ..World::default() };
            assert!(!is_held(&world, &holding(known.clone(), 5, 1)));
            assert!(is_held(&world, &holding(known, 6, 1)), "it is newer than what was settled");
            assert!(is_held(&world, &holding(fleet(3), 5, 1)));
        }
    }
}
