//! What does the database say that the fleet should be?

use nigh_proto::{
    FleetId, Host, MachineName, ReleaseId, SiteName, api::ReleaseState, report::MachineRole,
    state::TicketKey,
};

use crate::store::{
    AuthorityRow, CandidateRow, CertificateRow, ChallengeRow, MachineRow, ReleaseRow, SettledRow,
};

/// Everything that machines are told, at one revision. Immutable and shared.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub revision: u64,
    /// Which fleet this is.
    pub fleet: Option<FleetId>,
    /// Other fleets whose states may be replaced.
    pub settled: Vec<SettledRow>,
    /// By name.
    pub sites: Vec<Site>,
    /// By name.
    pub machines: Vec<MachineRow>,
    pub certificates: Vec<CertificateRow>,
    /// Certificates that an edge is to prove first.
    pub candidates: Vec<CandidateRow>,
    /// What machines answer to CAs.
    pub challenges: Vec<ChallengeRow>,
    /// The newest first.
    pub ticket_keys: Vec<TicketKey>,
    /// Every CA that is trusted, the newest first.
    pub authorities: Vec<AuthorityRow>,
}

/// A site with everything that belongs to it.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub name: SiteName,
    pub active: Option<ReleaseId>,
    /// The default one first.
    pub hosts: Vec<Host>,
    /// Those that a machine may hold, newest first.
    pub releases: Vec<ReleaseRow>,
    /// Edges that do not serve the active release yet.
    pub lagging: Vec<MachineName>,
}

impl World {
    pub(crate) fn site(&self, name: &SiteName) -> Option<&Site> {
        let index = self.sites.binary_search_by(|site| site.name.cmp(name)).ok()?;
        Some(&self.sites[index])
    }

    pub(crate) fn machine(&self, name: &MachineName) -> Option<&MachineRow> {
        let index = self.machines.binary_search_by(|machine| machine.name.cmp(name)).ok()?;
        Some(&self.machines[index])
    }

    /// Every edge that has joined.
    pub(crate) fn edges(&self) -> impl Iterator<Item = &MachineRow> {
        self.machines.iter().filter(|machine| machine.role == MachineRole::Edge)
    }

    /// Releases that edges are fetching, of every site.
    pub(crate) fn staging(&self) -> impl Iterator<Item = (&Site, &ReleaseRow)> {
        self.sites.iter().flat_map(|site| {
            site.releases
                .iter()
                .filter(|release| release.state == ReleaseState::Staging)
                .map(move |release| (site, release))
        })
    }
}

impl Site {
    pub(crate) fn new(name: SiteName, active: Option<ReleaseId>) -> Self {
        Self { name, active, hosts: Vec::new(), releases: Vec::new(), lagging: Vec::new() }
    }

    pub(crate) fn release(&self, id: &ReleaseId) -> Option<&ReleaseRow> {
        self.releases.iter().find(|release| release.id == *id)
    }

    /// The release that the site's hosts serve.
    pub(crate) fn active_release(&self) -> Option<&ReleaseRow> {
        self.active.as_ref().and_then(|id| self.release(id))
    }

    /// The release that was active before: what rollback goes to, so edges keep holding it.
    pub(crate) fn previous(&self) -> Option<&ReleaseRow> {
        self.releases
            .iter()
            .filter(|release| release.state == ReleaseState::Superseded)
            .max_by_key(|release| (release.activated_at, &release.id))
    }
}
