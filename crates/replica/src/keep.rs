//! Which state counts, and is it on disk before anyone acts on it?

use std::{
    io,
    path::{Path, PathBuf},
};

use nigh_durable as durable;
use nigh_proto::{
    MachineName,
    report::MachineRole,
    state::{MachineState, Revision},
};

/// Why a state cannot be read from, or kept on, disk.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    #[error("could not read {path}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("could not write {path}; the machine goes on with the state before", path = path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// What becomes of a state that control sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Newer than what is here: to disk, then acted on.
    Take,
    /// The revision that is here already.
    Same,
    /// Refused: revisions only rise.
    Older { current: Revision },
    /// Refused: it is not for this machine.
    NotMine,
}

/// Decides about `offered`, for a machine of `role` and `name` that has `current`.
pub(crate) fn judge(
    role: MachineRole,
    name: &MachineName,
    current: Option<Revision>,
    offered: &MachineState,
) -> Verdict {
    if !is_for(role, name, offered) {
        return Verdict::NotMine;
    }
    match current {
        Some(current) if offered.revision() < current => Verdict::Older { current },
        Some(current) if offered.revision() == current => Verdict::Same,
        _ => Verdict::Take,
    }
}

fn is_for(role: MachineRole, name: &MachineName, state: &MachineState) -> bool {
    match state {
        MachineState::Edge(state) => role == MachineRole::Edge && state.machine == *name,
        MachineState::Dns(state) => role == MachineRole::Dns && state.machine == *name,
    }
}

/// `state.json`.
#[derive(Clone, Debug)]
pub(crate) struct StateFile {
    path: PathBuf,
}

impl StateFile {
    pub(crate) fn in_dir(state_dir: &Path) -> Self {
        StateFile { path: state_dir.join("state.json") }
    }

    /// The state on disk. One that cannot be read is put aside as `state.json.damaged`, and the
    /// machine waits for control to send it again.
    pub(crate) fn load(
        &self,
        role: MachineRole,
        name: &MachineName,
    ) -> Result<Option<MachineState>, KeepError> {
        let read = |source| KeepError::Read { path: self.path.clone(), source };
        let Some(bytes) = durable::read_optional(&self.path).map_err(read)? else {
            return Ok(None);
        };
        let problem = match serde_json::from_slice::<MachineState>(&bytes) {
            Ok(state) if is_for(role, name, &state) => return Ok(Some(state)),
            Ok(_) => "it is for another machine".to_owned(),
            Err(error) => error.to_string(),
        };
        let aside = self.path.with_extension("json.damaged");
        let path = self.path.display();
        tracing::error!(problem, "{path} cannot be used and is moved to {}", aside.display());
        std::fs::rename(&self.path, aside).map_err(read)?;
        Ok(None)
    }

    /// Writes `state` so that it survives a power cut. It holds private keys: mode 0600.
    pub(crate) fn store(&self, state: &MachineState) -> Result<(), KeepError> {
        let write = |source| KeepError::Write { path: self.path.clone(), source };
        let bytes = serde_json::to_vec(state).map_err(|error| write(error.into()))?;
        durable::write_secret(&self.path, &bytes).map_err(write)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use nigh_proto::state::EdgeState;

    use super::*;

    fn name() -> MachineName {
        "fra1".parse().unwrap()
    }

    fn state(revision: u64) -> MachineState {
        MachineState::Edge(EdgeState {
            revision: Revision(revision),
            machine: name(),
            region: "eu".parse().unwrap(),
            sites: Vec::new(),
            certificates: Vec::new(),
            candidates: Vec::new(),
            ticket_keys: Vec::new(),
            http_challenges: Vec::new(),
        })
    }

    #[test]
    fn revisions_only_rise() {
        let judge = |current: Option<u64>, offered| {
            judge(MachineRole::Edge, &name(), current.map(Revision), &state(offered))
        };
        assert_eq!(judge(None, 0), Verdict::Take);
        assert_eq!(judge(Some(3), 4), Verdict::Take);
        assert_eq!(judge(Some(3), 3), Verdict::Same);
        assert_eq!(judge(Some(3), 2), Verdict::Older { current: Revision(3) });
    }

    #[test]
    fn the_state_of_another_machine_is_refused() {
        let other = "fra2".parse().unwrap();
        assert_eq!(judge(MachineRole::Edge, &other, None, &state(1)), Verdict::NotMine);
        assert_eq!(judge(MachineRole::Dns, &name(), None, &state(1)), Verdict::NotMine);
    }

    #[test]
    fn a_state_is_there_after_a_restart_and_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = StateFile::in_dir(dir.path());
        assert_eq!(file.load(MachineRole::Edge, &name()).unwrap(), None);
        file.store(&state(7)).unwrap();
        assert_eq!(file.load(MachineRole::Edge, &name()).unwrap(), Some(state(7)));
        let mode = std::fs::metadata(&file.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_state_is_put_aside_and_does_not_stop_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let file = StateFile::in_dir(dir.path());
        std::fs::write(&file.path, b"{\"role\":\"edge\",").unwrap();
        assert_eq!(file.load(MachineRole::Edge, &name()).unwrap(), None);
        assert!(dir.path().join("state.json.damaged").exists());
        file.store(&state(1)).unwrap();
        assert_eq!(file.load(MachineRole::Edge, &name()).unwrap(), Some(state(1)));
    }
}
