//! Which state counts, and is it on disk before anyone acts on it?

use std::{
    io,
    path::{Path, PathBuf},
};

use nigh_durable as durable;
use nigh_proto::{
    MachineName,
    document::{Change, Document, DocumentError},
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

/// A state, and the document that says it.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) document: Document,
    pub(crate) state: MachineState,
}

impl Stored {
    pub(crate) fn new(document: Document) -> Result<Self, DocumentError> {
        Ok(Stored { state: document.state()?, document })
    }
}

/// `state.json`, and beside it `state.changes`: a line for each change since.
///
/// A fleet of a thousand sites has megabytes of state, of which a release changes a kilobyte.
#[derive(Clone, Debug)]
pub(crate) struct StateFile {
    path: PathBuf,
    changes: PathBuf,
}

/// Changes are folded into the state when they are longer than this, or than the state is.
const CHANGES_MAX_BYTES: u64 = 256 << 10;

impl StateFile {
    pub(crate) fn in_dir(state_dir: &Path) -> Self {
        StateFile { path: state_dir.join("state.json"), changes: state_dir.join("state.changes") }
    }

    /// The state on disk. One that cannot be read is put aside as `state.json.damaged`, and the
    /// machine waits for control to send it again.
    pub(crate) fn load(
        &self,
        role: MachineRole,
        name: &MachineName,
    ) -> Result<Option<Stored>, KeepError> {
        let Some(bytes) = self.read(&self.path)? else { return Ok(None) };
        let changes = self.read(&self.changes)?.unwrap_or_default();
        let problem = match read(&bytes, &changes) {
            Ok((kept, is_whole)) if is_for(role, name, &kept.state) => {
                // Whatever comes next must not stand behind half a line.
                if !is_whole {
                    self.store(&kept.document)?;
                }
                return Ok(Some(kept));
            }
            Ok(_) => "it is for another machine".to_owned(),
            Err(error) => error.to_string(),
        };
        let aside = self.path.with_extension("json.damaged");
        let path = self.path.display();
        tracing::error!(problem, "{path} cannot be used and is moved to {}", aside.display());
        std::fs::rename(&self.path, aside)
            .map_err(|source| KeepError::Read { path: self.path.clone(), source })?;
        Ok(None)
    }

    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, KeepError> {
        durable::read_optional(path)
            .map_err(|source| KeepError::Read { path: path.to_owned(), source })
    }

    /// Writes a whole state so that it survives a power cut. It holds private keys: mode 0600.
    ///
    /// Changes that are left behind after a crash are older than the state, and passed over.
    pub(crate) fn store(&self, document: &Document) -> Result<(), KeepError> {
        let write = |path: &Path, source| KeepError::Write { path: path.to_owned(), source };
        durable::write_secret(&self.path, document.text().as_bytes())
            .map_err(|source| write(&self.path, source))?;
        durable::write_secret(&self.changes, b"").map_err(|source| write(&self.changes, source))
    }

    /// Writes the `change` that led to `document`, as [`store`](Self::store) does.
    pub(crate) fn store_change(
        &self,
        document: &Document,
        change: &Change,
    ) -> Result<(), KeepError> {
        let write = |source| KeepError::Write { path: self.changes.clone(), source };
        let mut line = serde_json::to_vec(change).map_err(|error| write(error.into()))?;
        line.push(b'\n');
        let size_of = |path| std::fs::metadata(path).map_or(0, |file| file.len());
        let bytes = size_of(&self.changes) + line.len() as u64;
        if bytes > CHANGES_MAX_BYTES.max(size_of(&self.path)) {
            return self.store(document);
        }
        durable::append_secret(&self.changes, &line).map_err(write)
    }
}

fn not_text(error: std::str::Utf8Error) -> DocumentError {
    DocumentError::Shape(serde::de::Error::custom(error))
}

/// The state that the two files say, and whether every line of the second was read.
fn read(state: &[u8], changes: &[u8]) -> Result<(Stored, bool), DocumentError> {
    let mut document = Document::parse(std::str::from_utf8(state).map_err(not_text)?)?;
    let mut is_whole = changes.is_empty() || changes.ends_with(b"\n");
    for line in changes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let change = serde_json::from_slice::<Change>(line).ok();
        let Some(change) = change else {
            is_whole = false;
            break;
        };
        if change.since < document.revision() {
            continue;
        }
        match document.changed(&change) {
            Ok(changed) => document = changed,
            Err(_) => {
                is_whole = false;
                break;
            }
        }
    }
    Ok((Stored::new(document)?, is_whole))
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
            fleet: None,
            revision: Revision(revision),
            machine: name(),
            region: "eu".parse().unwrap(),
            sites: Vec::new(),
            certificates: Vec::new(),
            candidates: Vec::new(),
            ticket_keys: Vec::new(),
            http_challenges: Vec::new(),
            peers: Vec::new(),
        })
    }

    fn document(revision: u64) -> Document {
        Document::of(&state(revision))
    }

    fn load(file: &StateFile) -> Option<MachineState> {
        file.load(MachineRole::Edge, &name()).unwrap().map(|kept| kept.state)
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
        assert_eq!(load(&file), None);
        file.store(&document(7)).unwrap();
        assert_eq!(load(&file), Some(state(7)));
        let mode = std::fs::metadata(&file.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_state_is_put_aside_and_does_not_stop_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let file = StateFile::in_dir(dir.path());
        std::fs::write(&file.path, b"{\"role\":\"edge\",").unwrap();
        assert_eq!(load(&file), None);
        assert!(dir.path().join("state.json.damaged").exists());
        file.store(&document(1)).unwrap();
        assert_eq!(load(&file), Some(state(1)));
    }

    /// Stores the changes to each of `revisions`, the first from `document`.
    fn change(file: &StateFile, mut document: Document, revisions: &[u64]) {
        for &revision in revisions {
            let change = document.change_to(&self::document(revision));
            document = document.changed(&change).unwrap();
            file.store_change(&document, &change).unwrap();
        }
    }

    #[test]
    fn changes_are_there_after_a_restart_and_for_their_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = StateFile::in_dir(dir.path());
        file.store(&document(1)).unwrap();
        change(&file, document(1), &[2, 5, 6]);
        assert_eq!(load(&file), Some(state(6)));
        let mode = std::fs::metadata(&file.changes).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn changes_from_before_the_state_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let file = StateFile::in_dir(dir.path());
        file.store(&document(1)).unwrap();
        change(&file, document(1), &[2, 3]);
        // As after a crash between the two writes of a whole state.
        durable::write_secret(&file.path, document(3).text().as_bytes()).unwrap();
        change(&file, document(3), &[4]);
        assert_eq!(load(&file), Some(state(4)));
    }

    #[test]
    fn half_a_change_is_cut_off_and_what_comes_after_it_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = StateFile::in_dir(dir.path());
        file.store(&document(1)).unwrap();
        change(&file, document(1), &[2, 3]);
        let whole = std::fs::read(&file.changes).unwrap();
        for cut in 0..whole.len() {
            file.store(&document(1)).unwrap();
            std::fs::write(&file.changes, &whole[..cut]).unwrap();
            let kept = file.load(MachineRole::Edge, &name()).unwrap().unwrap();
            let revision = kept.state.revision().0;
            assert!((1..=3).contains(&revision), "{revision}");
            change(&file, kept.document, &[9]);
            assert_eq!(load(&file), Some(state(9)), "{cut}");
        }
    }

    #[test]
    fn many_changes_are_folded_into_the_state() {
        let dir = tempfile::tempdir().unwrap();
        let file = StateFile::in_dir(dir.path());
        file.store(&document(1)).unwrap();
        let pad = |revision| {
            let text = document(revision).text();
            let pad = "x".repeat(CHANGES_MAX_BYTES as usize / 4);
            Document::parse(&text.replacen('{', &format!("{{\"pad\":\"{pad}{revision}\","), 1))
                .unwrap()
        };
        let mut held = document(1);
        for revision in 2..20 {
            let change = held.change_to(&pad(revision));
            held = held.changed(&change).unwrap();
            file.store_change(&held, &change).unwrap();
            assert!(std::fs::metadata(&file.changes).unwrap().len() <= CHANGES_MAX_BYTES);
        }
        assert_eq!(load(&file), Some(state(19)));
    }
}
