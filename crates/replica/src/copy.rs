//! Which state document does this machine have, and is a new one to be taken?
//!
//! The copy is on disk before anyone is told of it, so a machine that is stopped after any line
//! starts with the old document or the new one.

use std::{
    io,
    path::{Path, PathBuf},
};

use nigh_proto::{
    MachineName,
    report::MachineRole,
    state::{MachineState, Revision},
};

/// What becomes of a document that control sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// It is newer, or the first.
    Take,
    /// It is what the machine has: a success, with nothing to do.
    Same,
    /// Its revision is lower than the one the machine has: an old snapshot of control.
    Older { have: Revision, sent: Revision },
    /// It is for another machine or another role.
    Misdirected,
}

/// Decides what becomes of `sent` on the machine `name` that has `current`.
pub(crate) fn accept(
    current: Option<Revision>,
    name: &MachineName,
    role: MachineRole,
    sent: &MachineState,
) -> Accept {
    let (sent_name, sent_role) = match sent {
        MachineState::Edge(state) => (&state.machine, MachineRole::Edge),
        MachineState::Dns(state) => (&state.machine, MachineRole::Dns),
    };
    if sent_name != name || sent_role != role {
        return Accept::Misdirected;
    }
    match current {
        Some(have) if sent.revision() < have => Accept::Older { have, sent: sent.revision() },
        Some(have) if sent.revision() == have => Accept::Same,
        _ => Accept::Take,
    }
}

/// Why the copy on disk could not be used or replaced.
#[derive(Debug, thiserror::Error)]
pub enum StateFileError {
    #[error("could not read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("could not write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// The copy on disk: `state.json`.
#[derive(Clone, Debug)]
pub(crate) struct StateFile {
    path: PathBuf,
}

impl StateFile {
    pub(crate) fn in_dir(state_dir: &Path) -> Self {
        Self { path: state_dir.join("state.json") }
    }

    /// The document, if there is one. A damaged one is set aside under another name: control sends
    /// the whole state to a machine that has none.
    pub(crate) fn load(&self) -> Result<Option<MachineState>, StateFileError> {
        let read = |source| StateFileError::Read { path: self.path.clone(), source };
        let Some(bytes) = nigh_durable::read_optional(&self.path).map_err(read)? else {
            return Ok(None);
        };
        match serde_json::from_slice(&bytes) {
            Ok(state) => Ok(Some(state)),
            Err(error) => {
                let aside = self.path.with_extension("damaged");
                tracing::error!(
                    %error,
                    "{} is damaged and was moved to {}; control will send the state again",
                    self.path.display(),
                    aside.display(),
                );
                nigh_durable::write_secret(&aside, &bytes)
                    .map_err(|source| StateFileError::Write { path: aside.clone(), source })?;
                Ok(None)
            }
        }
    }

    /// Replaces the document; after `Ok` it survives a power cut. It holds keys, so only its owner
    /// may read it.
    pub(crate) fn save(&self, state: &MachineState) -> Result<(), StateFileError> {
        let write = |source| StateFileError::Write { path: self.path.clone(), source };
        let bytes = serde_json::to_vec(state).map_err(|error| write(error.into()))?;
        nigh_durable::write_secret(&self.path, &bytes).map_err(write)
    }
}

#[cfg(test)]
mod tests {
    use nigh_proto::state::EdgeState;

    use super::*;

    fn state(machine: &str, revision: u64) -> MachineState {
        MachineState::Edge(EdgeState {
            revision: Revision(revision),
            machine: machine.parse().unwrap(),
            region: "eu".parse().unwrap(),
            sites: Vec::new(),
            certificates: Vec::new(),
        })
    }

    #[test]
    fn revisions_only_rise() {
        let name = "fra1".parse().unwrap();
        let decide = |have: Option<u64>, sent: u64| {
            accept(have.map(Revision), &name, MachineRole::Edge, &state("fra1", sent))
        };
        assert_eq!(decide(None, 1), Accept::Take);
        assert_eq!(decide(Some(1), 2), Accept::Take);
        assert_eq!(decide(Some(2), 2), Accept::Same);
        assert_eq!(decide(Some(3), 2), Accept::Older { have: Revision(3), sent: Revision(2) });
    }

    #[test]
    fn a_state_for_another_machine_is_not_taken() {
        let name = "fra1".parse().unwrap();
        assert_eq!(accept(None, &name, MachineRole::Edge, &state("nyc1", 1)), Accept::Misdirected);
        assert_eq!(accept(None, &name, MachineRole::Dns, &state("fra1", 1)), Accept::Misdirected);
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_not_fatal() {
        let dir = tempfile::tempdir().unwrap();
        let file = StateFile::in_dir(dir.path());
        assert_eq!(file.load().unwrap(), None);
        file.save(&state("fra1", 7)).unwrap();
        assert_eq!(file.load().unwrap(), Some(state("fra1", 7)));
        nigh_durable::write(&dir.path().join("state.json"), b"{\"role\":").unwrap();
        assert_eq!(file.load().unwrap(), None);
        assert!(dir.path().join("state.damaged").exists());
    }
}
