//! What does the whole fleet look like at one revision?

use std::collections::BTreeMap;

use nigh_proto::SiteName;

use super::{
    AuthorityRow, CandidateRow, CertificateRow, ChallengeRow, HostRow, MachineRow, ReleaseRow,
    SettledRow, SiteRow, Store, StoreError, TicketKeyRow,
    documents::{documents, hex, object},
    releases::{release, releases},
    sites::site,
    sql::query,
};
use crate::fleet::{Site, World};

impl Store {
    /// Everything that machines are told, read at one moment.
    ///
    /// Releases that no machine holds (uploading, expired, failed) are left out.
    pub(crate) async fn world(&self) -> Result<World, StoreError> {
        let mut tx = self.reader.snapshot().await?;
        let fleet =
            query("SELECT revision, identity FROM fleet WHERE id = 1").fetch_one(&mut tx).await?;
        let settled =
            query("SELECT fleet, revision FROM settled_fleets").fetch_all(&mut tx).await?;
        let mut sites: BTreeMap<SiteName, Site> = BTreeMap::new();
        let rows: Vec<SiteRow> = documents!(site, "SELECT * FROM sites").documents(&mut tx).await?;
        for SiteRow { name, active, .. } in rows {
            sites.insert(name.clone(), Site::new(name, active));
        }
        let hosts = query("SELECT * FROM hosts ORDER BY is_default DESC, host");
        for row in &hosts.fetch_all(&mut tx).await? {
            let row = HostRow::read(row)?;
            if let Some(site) = sites.get_mut(&row.site) {
                site.hosts.push(row.host);
            }
        }
        let releases: Vec<ReleaseRow> = releases!(
            "SELECT * FROM releases WHERE state IN \
             ('staging', 'staged', 'active', 'preview', 'superseded') ORDER BY id DESC"
        )
        .documents(&mut tx)
        .await?;
        for row in releases {
            if let Some(site) = sites.get_mut(&row.site) {
                site.releases.push(row);
            }
        }
        for row in &query("SELECT site, machine FROM lagging").fetch_all(&mut tx).await? {
            if let Some(site) = sites.get_mut(&row.parse::<SiteName>("site")?) {
                site.lagging.push(row.parse("machine")?);
            }
        }
        for site in sites.values_mut() {
            site.lagging.sort_unstable();
        }
        let machines = query("SELECT * FROM machines").fetch_all(&mut tx).await?;
        let machines = machines.iter().map(MachineRow::read).collect::<Result<Vec<_>, _>>()?;
        let certificates =
            query("SELECT * FROM certificates ORDER BY id").fetch_all(&mut tx).await?;
        let candidates = query("SELECT * FROM candidates ORDER BY id").fetch_all(&mut tx).await?;
        let challenges = query("SELECT * FROM acme_challenges ORDER BY kind, name, token, value")
            .fetch_all(&mut tx)
            .await?;
        let ticket_keys = query("SELECT * FROM ticket_keys ORDER BY created_at DESC, name")
            .fetch_all(&mut tx)
            .await?;
        let authorities =
            query("SELECT * FROM authorities ORDER BY number DESC").fetch_all(&mut tx).await?;
        Ok(World {
            authorities: authorities
                .iter()
                .map(|row| AuthorityRow::read(row, &self.seal))
                .collect::<Result<_, _>>()?,
            revision: fleet.number("revision")?,
            fleet: fleet.parse_optional("identity")?,
            settled: settled.iter().map(SettledRow::read).collect::<Result<_, _>>()?,
            sites: sites.into_values().collect(),
            machines: by_name(machines),
            certificates: certificates
                .iter()
                .map(|row| CertificateRow::read(row, &self.seal))
                .collect::<Result<_, _>>()?,
            candidates: candidates
                .iter()
                .map(|row| CandidateRow::read(row, &self.seal))
                .collect::<Result<_, _>>()?,
            challenges: challenges.iter().map(ChallengeRow::read).collect::<Result<_, _>>()?,
            ticket_keys: ticket_keys
                .iter()
                .map(|row| Ok(TicketKeyRow::read(row, &self.seal)?.key))
                .collect::<Result<_, StoreError>>()?,
        })
    }
}

/// In the order of our own names, whatever the database thinks of theirs: machines are searched.
fn by_name(mut machines: Vec<MachineRow>) -> Vec<MachineRow> {
    machines.sort_by(|a, b| a.name.cmp(&b.name));
    machines
}
