//! How are sites, releases and machines shown to people?

use nigh_proto::{
    Host, MachineName, SiteName,
    api::{BucketView, MachineView, PreviewView, ReleaseState, ReleaseView, SiteView, StatusView},
    report::MachineRole,
};

use super::{App, AppError, machines::CLOCK_AHEAD_MAX_MS, with_live};
use crate::{
    blobs::{Remote, Standing, blocking},
    config::CertificateMode,
    fleet::{
        World,
        activation::Decision,
        board,
        held::is_held,
        presence::{Presence, Statuses},
        progress,
    },
    store::{ListedSite, MachineRow, ReleaseRow, Tally},
};

/// Free space below this is worth a warning.
const DISK_LOW_BYTES: u64 = 1 << 30;

impl App {
    pub(crate) async fn site_view(&self, name: &SiteName) -> Result<SiteView, AppError> {
        Ok(self.show_site(name).await?.1)
    }

    /// One site, and what `If-Match` is compared with.
    pub(crate) async fn show_site(&self, name: &SiteName) -> Result<(String, SiteView), AppError> {
        let listed = self.store().listed_site(name).await?;
        let listed = listed.ok_or_else(|| AppError::SiteUnknown(name.clone()))?;
        let edits = with_live(&listed.row.edits(), listed.row.active.as_ref());
        Ok((edits, self.site_view_of(listed)))
    }

    pub(crate) fn site_view_of(&self, listed: ListedSite) -> SiteView {
        let ListedSite { row, hosts, releases_total } = listed;
        let default_host = hosts.first().cloned().unwrap_or_else(|| self.default_host(&row.name));
        let world = self.world();
        let active = world.site(&row.name).and_then(|site| site.active_release());
        let (files_total, bytes_total) =
            active.map_or((0, 0), |row| (row.files_total, row.bytes_total));
        SiteView {
            quotas: self.quotas(&row),
            files_total,
            bytes_total,
            url: self.url(&default_host),
            default_host,
            hosts,
            active: row.active,
            releases_total,
            created_at: row.created_at,
            name: row.name,
        }
    }

    /// How visitors reach a host.
    pub(crate) fn url(&self, host: &Host) -> String {
        let config = &self.effective().config;
        let (scheme, port, default) = match config.certificates.mode {
            CertificateMode::Internal | CertificateMode::Acme => {
                ("https", config.public.https_port, 443)
            }
            CertificateMode::None => ("http", config.public.http_port, 80),
        };
        match port {
            port if port == default => format!("{scheme}://{host}/"),
            port => format!("{scheme}://{host}:{port}/"),
        }
    }

    pub(crate) async fn release_view(&self, row: &ReleaseRow) -> Result<ReleaseView, AppError> {
        let world = self.world();
        let site = world.site(&row.site);
        let is_held = site.is_some_and(|site| site.release(&row.id).is_some());
        let line = is_held.then(|| self.observed(&world, row)).flatten();
        let (edges, progress) = match line {
            Some((edges, progress)) => (edges, progress),
            None => {
                let mut board = self.board();
                // It may have ended on another control.
                if board.line(&row.id).is_some() {
                    board.observe(row, Vec::new(), self.now());
                }
                let noted = board.line(&row.id).map_or(0, |(_, progress)| progress);
                (Vec::new(), noted.max(last_written_ms(row)))
            }
        };
        let host = match row.state {
            ReleaseState::Active => site.and_then(|site| site.hosts.first().cloned()),
            ReleaseState::Preview => row.preview_host.clone(),
            _ => None,
        };
        Ok(ReleaseView {
            id: row.id.clone(),
            site: row.site.clone(),
            state: row.state,
            files_total: row.files_total,
            bytes_total: row.bytes_total,
            message: row.message.clone(),
            source: row.source.clone(),
            pushed_by: row.pushed_by.clone(),
            created_at: row.created_at,
            finalized_at: row.finalized_at,
            activated_at: row.activated_at,
            url: host.map(|host| self.url(&host)),
            preview: row
                .preview_host
                .clone()
                .map(|host| PreviewView { host, expires_at: row.preview_expires_at }),
            failure: row.failure.clone(),
            edges,
            progress,
        })
    }

    /// The edges and the progress of a release that machines hold, looked at now.
    fn observed(
        &self,
        world: &World,
        row: &ReleaseRow,
    ) -> Option<(Vec<nigh_proto::api::EdgeProgress>, u64)> {
        let site = world.site(&row.site)?;
        let statuses = self.statuses();
        let mut board = self.board();
        let edges = progress::edges_of(world, &statuses, site, row, self.instant());
        if !board::is_followed(row, self.now()) {
            // Nobody knows any more when they got there.
            let noted = board.line(&row.id).map_or(0, |(_, progress)| progress);
            return Some((edges, noted.max(last_written_ms(row))));
        }
        if board.observe(row, edges, self.now()) {
            // The pass that looks at news will find nothing new in it for others who wait.
            self.ring_progress();
        }
        board.line(&row.id).map(|(edges, progress)| (edges.to_vec(), progress))
    }

    /// One machine, and what `If-Match` is compared with.
    pub(crate) fn show_machine(
        &self,
        name: &MachineName,
    ) -> Result<(String, MachineView), AppError> {
        let world = self.world();
        let row = world.machine(name).ok_or_else(|| AppError::MachineUnknown(name.clone()))?;
        Ok((row.edits(), self.machine_view(&world, &self.statuses(), row)))
    }

    /// Machines by name, of one role or both.
    pub(crate) fn machine_views(&self, role: Option<MachineRole>) -> Vec<MachineView> {
        let world = self.world();
        let statuses = self.statuses();
        let machines =
            world.machines.iter().filter(|machine| role.is_none_or(|role| role == machine.role));
        machines.map(|machine| self.machine_view(&world, &statuses, machine)).collect()
    }

    fn machine_view(
        &self,
        world: &World,
        statuses: &Statuses,
        machine: &MachineRow,
    ) -> MachineView {
        let status = statuses.get(&machine.name).cloned().unwrap_or_default();
        let about = &machine.about;
        let ipv4 = about.ipv4.iter().map(ToString::to_string);
        MachineView {
            id: machine.id.clone(),
            name: machine.name.clone(),
            role: machine.role,
            region: about.region.clone(),
            location: about.location,
            addresses: ipv4.chain(about.ipv6.iter().map(ToString::to_string)).collect(),
            ports: about.ports,
            is_connected: statuses.presence(&machine.name, self.instant()) == Presence::Here,
            is_drained: machine.is_drained,
            is_held: status.holding.as_ref().is_some_and(|holding| is_held(world, holding)),
            is_current: status.revision == Some(world.revision),
            revision: status.revision,
            version: about.version.clone(),
            health: status.health,
            joined_at: machine.joined_at,
            last_seen_at: status.seen_at,
            certificate_not_after: status
                .credentials
                .not_after
                .or(Some(machine.certificate_not_after))
                .filter(|not_after| not_after.unix_ms() > 0),
            clock_ahead_ms: status.clock_ahead_ms,
            protocol: about.protocols.newest(),
            turned_away: App::mismatch(machine, &status).map(|mismatch| mismatch.to_string()),
        }
    }

    /// The fleet, as somebody may know it who sees these sites.
    pub(crate) async fn status(&self, among: &[SiteName]) -> Result<StatusView, AppError> {
        let sees = |site: &SiteName| among.is_empty() || among.contains(site);
        let tally = self.store().tally().await?;
        let (sites_total, releases_total) = self.totals(tally, among).await?;
        let usage = self.blobs().usage();
        let (blobs_total, blobs_bytes) = match self.blobs().remote() {
            Some(_) => self.store().bucket_usage().await?,
            None => (usage.blobs, usage.bytes),
        };
        let bucket = self.blobs().remote().map(|remote| bucket_view(remote));
        let dir = self.effective().config.state_dir.clone();
        let disk_free_bytes =
            blocking(move || nigh_durable::free_bytes(&dir)).await.unwrap_or_default();
        let machines = self.machine_views(None);
        let mut warnings = self.warnings(&machines, &sees);
        warnings.extend(self.quota_warnings(tally, &sees).await?);
        if among.is_empty() {
            warnings.extend(App::protocol_warnings(&machines));
            warnings.extend(self.held_warning());
            if tally.has_webhooks {
                warnings.extend(self.webhook_warnings().await?);
            }
            warnings.extend(self.certificate_warnings(tally).await?);
            warnings.extend(self.left_behind()?.iter().map(|name| {
                format!(
                    "{name} does not trust control's new CA and loses control when the old one ends: \
                     repair it or join it again"
                )
            }));
        }
        if disk_free_bytes < DISK_LOW_BYTES {
            warnings.push(format!("control has only {} MiB of disk left", disk_free_bytes >> 20));
        }
        if let Some(bucket) = &bucket {
            warnings.extend(bucket_warnings(bucket));
        }
        Ok(StatusView {
            version: self.0.version.to_owned(),
            revision: self.world().revision,
            sites_total,
            releases_total,
            blobs_total,
            blobs_bytes,
            bucket,
            disk_free_bytes,
            machines,
            warnings,
        })
    }

    /// How many sites and releases there are of those.
    async fn totals(&self, tally: Tally, among: &[SiteName]) -> Result<(u64, u64), AppError> {
        if among.is_empty() {
            return Ok((tally.sites_total, tally.releases_total));
        }
        let mut releases_total = 0;
        for site in among {
            releases_total += self.store().releases_total(site).await?;
        }
        Ok((among.len() as u64, releases_total))
    }

    fn warnings(&self, machines: &[MachineView], sees: &impl Fn(&SiteName) -> bool) -> Vec<String> {
        let mut warnings = Vec::new();
        for machine in machines.iter().filter(|machine| !machine.is_connected) {
            warnings.push(format!("{} {} is away", machine.role.label(), machine.name));
        }
        for machine in machines {
            let ahead_ms =
                self.statuses().get(&machine.name).map_or(0, |status| status.clock_ahead_ms);
            if ahead_ms.abs() > CLOCK_AHEAD_MAX_MS {
                let where_to = if ahead_ms > 0 { "ahead of" } else { "behind" };
                warnings.push(format!(
                    "the clock of {} is {} ms {where_to} control's; set it by NTP",
                    machine.name,
                    ahead_ms.abs()
                ));
            }
            if self.statuses().has_copy(&machine.name, self.instant()) {
                warnings.push(format!(
                    "two machines go by the identity of {}: stop the one that is a copy, or remove \
                     {} and join both anew",
                    machine.name, machine.name
                ));
            }
            if let Some(warning) = self.certificate_warning(machine) {
                warnings.push(warning);
            }
        }
        let missing = self.wanted().len();
        if missing > 0 {
            warnings.push(format!(
                "{missing} blobs of releases are missing on control; edges are asked for them"
            ));
        }
        let world = self.world();
        for (site, release) in world.staging() {
            if sees(&site.name) && self.decision(&world, release) == Decision::Stuck {
                warnings.push(format!(
                    "release {} of {} waits: its deadline passed and no edge has staged it",
                    release.id.short(),
                    site.name
                ));
            }
        }
        for site in world.sites.iter().filter(|site| !site.lagging.is_empty() && sees(&site.name)) {
            let names = site.lagging.iter().map(|edge| edge.as_str()).collect::<Vec<_>>();
            warnings.push(format!("{} is not current on {}", site.name, names.join(", ")));
        }
        warnings
    }
}

impl App {
    /// A certificate that should have been renewed long ago.
    fn certificate_warning(&self, machine: &MachineView) -> Option<String> {
        let not_after = machine.certificate_not_after?;
        let (name, role) = (&machine.name, machine.role.label());
        let left_ms = not_after.ms_since(self.now());
        let lifetime_ms = self.effective().config.machines.certificate_ms;
        if left_ms <= 0 {
            return Some(format!(
                "the certificate of {name} ended at {not_after}; join it again: nigh {role} token {name}"
            ));
        }
        let is_late = left_ms < i64::try_from(lifetime_ms / 4).unwrap_or(i64::MAX);
        is_late.then(|| {
            let days = left_ms / (24 * 60 * 60 * 1000);
            format!(
                "the certificate of {name} ends in {days} days, at {not_after}, and is not renewed"
            )
        })
    }
}

/// When anything that a view shows was last written, as far as the row tells.
fn last_written_ms(row: &ReleaseRow) -> u64 {
    let times = [row.finalized_at, row.staging_at, row.activated_at];
    let last = times.into_iter().flatten().max().unwrap_or(row.created_at).max(row.created_at);
    last.unix_ms().max(0).unsigned_abs()
}
fn bucket_view(remote: &Remote) -> BucketView {
    let Standing { failure, lost_blobs, foreign_objects, unmirrored_blobs } =
        remote.standing().clone();
    BucketView {
        name: remote.name().to_owned(),
        is_usable: failure.is_none(),
        failure,
        lost_blobs,
        foreign_objects,
        unmirrored_blobs,
    }
}

fn bucket_warnings(bucket: &BucketView) -> Vec<String> {
    let BucketView { name, failure, lost_blobs, .. } = bucket;
    let failed = failure.iter().map(|why| format!("pushes cannot use bucket {name}: {why}"));
    let lost = (*lost_blobs > 0).then(|| {
        format!("bucket {name} has lost {lost_blobs} blobs; push the folders that have them again")
    });
    failed.chain(lost).collect()
}
