//! Which machines does control not understand, and which will it not after its next upgrade?

use nigh_proto::{
    Protocols,
    api::MachineView,
    protocol::{self, Mismatch},
};

use super::App;
use crate::{ca::Identity, fleet::presence::Status, store::MachineRow};

impl App {
    /// A machine asked for something, and control cannot talk to it.
    pub(crate) fn note_mismatch(&self, identity: &Identity, mismatch: Mismatch) {
        let world = self.world();
        if world.machine(&identity.name).is_some_and(|row| row.id == identity.id) {
            self.statuses().mismatched(&identity.name, mismatch);
            self.turn_away(&identity.name, &mismatch);
        }
    }

    /// Why control and a machine do not talk to each other: as it asked last, or as it said of itself
    /// when it was heard last.
    pub(super) fn mismatch(machine: &MachineRow, status: &Status) -> Option<Mismatch> {
        let known = || protocol::agree(machine.about.protocols, Protocols::HERE).err();
        status.mismatch.or_else(known)
    }

    /// What people are to do about machines that speak something older.
    pub(super) fn protocol_warnings(machines: &[MachineView]) -> Vec<String> {
        let turned_away = machines.iter().filter_map(|machine| {
            let (role, name) = (machine.role.label(), &machine.name);
            Some(format!("{role} {name} is turned away: {}", machine.turned_away.as_ref()?))
        });
        let is_behind = |machine: &&MachineView| {
            machine.turned_away.is_none() && machine.protocol < Protocols::HERE.newest()
        };
        let behind: Vec<_> = machines.iter().filter(is_behind).map(|it| it.name.as_str()).collect();
        let newest = Protocols::HERE.newest();
        let behind = (!behind.is_empty()).then(|| {
            format!(
                "not yet at protocol {newest}: {}; upgrade them before control is upgraded again",
                behind.join(", ")
            )
        });
        turned_away.chain(behind).collect()
    }
}
