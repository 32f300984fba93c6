//! The steps of a push, in order: hash, compare, upload, stage, live.

use std::{
    collections::HashSet,
    sync::atomic::AtomicU64,
    time::{Duration, Instant},
};

use nigh_client::Patience;
use nigh_core::rules::Parsed;
use nigh_proto::{
    Digest, Host, SiteName,
    api::{NewPreview, NewRelease, NewSite, ReleaseBegun, ReleaseState, ReleaseView},
};

use super::{
    Push, dry_run,
    local::{self, Local},
    progress::Bar,
    report::{Files, Report},
    source,
    upload::{UploadError, Uploader},
    walk::WalkOptions,
};
use crate::{
    commands::host,
    exit::Exit,
    failure::{CallContext, Failure},
    follow::{self, Ended, follow},
    site_rules, units,
};

/// How often a folder that changes while it is pushed is read again.
const ATTEMPTS_MAX: usize = 4;
/// How long control may be away before the first answer: a wrong address is noticed soon.
const FIRST_CONTACT: Duration = Duration::from_secs(5);

/// What an attempt came to.
enum Attempt {
    Uploaded(ReleaseView, Files),
    /// The very same is live already.
    Unchanged(ReleaseView, Files),
    /// A file changed meanwhile.
    Changed(String),
}

/// Pushes the folder and prints how it went.
pub(crate) async fn push(push: &Push<'_>) -> Result<Exit, Failure> {
    let site = push.app.settings.site()?;
    // Control is asked while files are read: a wrong token is known at once, and the connection is warm.
    let (local, hosts) = tokio::try_join!(push.read(true), push.first_contact(&site))?;
    let parsed = push.rules(&local)?;
    let lacking = push.lacking_hosts(&hosts);
    if push.args.dry_run {
        for host in lacking {
            push.app.console.note(&format!("host     {host} would be added to {site}"));
        }
        return dry_run::run(push, &local.manifest).await;
    }
    push.add_hosts(&site, lacking).await?;
    let (view, files, is_new) = push.upload(&site, local, &parsed).await?;
    let (view, ended) = push.activate(&site, view, is_new).await?;
    if ended == Ended::Lost {
        return Err(follow::lost(&view));
    }
    if is_new {
        push.keep(&site, &view).await;
    }
    let duration_ms = u64::try_from(push.started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let console = push.app.console;
    let report = Report::new(view, files, duration_ms, parsed.warnings);
    console.result(&report, |report| report.describe(ended, is_new, console));
    Ok(ended.exit())
}

impl Push<'_> {
    /// Reads the folder; with `may_trust` the cache of digests spares unchanged files.
    async fn read(&self, may_trust: bool) -> Result<Local, Failure> {
        let bar = Bar::spinner(self.app.console, "reading the folder");
        let (dir, options) = (self.dir.clone(), self.walk_options());
        let cache =
            self.environment.cache_home.clone().filter(|_| may_trust && !self.args.no_cache);
        let started = Instant::now();
        let reading = move || local::read(&dir, &options, cache.as_deref());
        let local = tokio::task::spawn_blocking(reading).await.map_err(|error| {
            Failure::new(Exit::Failure, "the folder could not be read").caused_by(&error)
        })??;
        bar.finish();
        self.app.console.note(&format!(
            "hash     {} ({}), {} read in {}",
            units::count(local.manifest.entries().len() as u64, "file", "files"),
            units::bytes(local.manifest.total_bytes()),
            local.read_total,
            units::duration(started.elapsed()),
        ));
        Ok(local)
    }

    fn walk_options(&self) -> WalkOptions {
        WalkOptions {
            ignore: self.found.file.site.ignore.clone(),
            allow_case_collisions: self.args.allow_case_collisions,
        }
    }

    /// Finds out whether control is there and knows the site, which is made when that was asked for.
    /// The hosts that the site answers to.
    async fn first_contact(&self, site: &SiteName) -> Result<Vec<Host>, Failure> {
        let client = self.app.client.with_patience(Patience::for_each_call(FIRST_CONTACT));
        let mut seen = client.site(site).await;
        if let Err(error) = &seen
            && error.is_passing()
            && !error.is_unreachable()
        {
            // Control is there, and what it needs will be.
            self.app.console.note(&format!("wait     {error}"));
            seen = self.app.client.with_patience(Patience::until(self.deadline)).site(site).await;
        }
        let error = match seen {
            Ok(view) => return Ok(view.hosts),
            Err(error) => error,
        };
        if error.code() == Some("site_unknown") && self.args.create && !self.args.dry_run {
            let new = NewSite { name: site.clone(), hosts: Vec::new() };
            let made =
                client.create_site(&new).await.or_fail(|| format!("site {site} was not made"))?;
            self.app.console.note(&format!("site     {} is made: {}", made.name, made.url));
            return Ok(made.hosts);
        }
        let what = format!("{} was not pushed to {site}", self.dir.display());
        let failure = self.app.site_failure(site, what, &error).await;
        Err(match error.code() {
            Some("site_unknown") => failure.hint("or let the push make it: --create"),
            _ => failure,
        })
    }

    /// The `[hosts] aliases` of `nigh.toml` that the site does not answer to; a preview needs none.
    fn lacking_hosts(&self, hosts: &[Host]) -> Vec<Host> {
        let is_preview = self.args.preview.is_some();
        let wanted = self.found.file.hosts.aliases.iter().filter(|_| !is_preview);
        wanted.filter(|host| !hosts.contains(host)).cloned().collect()
    }

    async fn add_hosts(&self, site: &SiteName, hosts: Vec<Host>) -> Result<(), Failure> {
        let client = self.app.client.with_patience(Patience::until(self.deadline));
        for host in hosts {
            let what = || format!("{host} of [hosts] aliases was not added to {site}");
            let added = client.add_host(site, host.clone()).await.or_fail(what)?;
            self.app.console.note(&format!("host     {}", host::added_text(&added)));
        }
        Ok(())
    }

    /// Deletes what `[release] keep` of `nigh.toml` does not keep. The push is done: a failure is
    /// only told.
    async fn keep(&self, site: &SiteName, view: &ReleaseView) {
        let keep = self.found.file.release.keep.filter(|_| view.state == ReleaseState::Active);
        let Some(keep) = keep else { return };
        match self.app.client.prune_releases(site, keep).await {
            Ok(pruned) if pruned.releases.is_empty() => {}
            Ok(pruned) => {
                let count = pruned.releases.len() as u64;
                let count = units::count(count, "older release", "older releases");
                self.app.console.note(&format!("keep     {count} deleted, the newest {keep} kept"));
            }
            Err(error) => self.app.console.warning(&format!(
                "older releases of {site} were not deleted: {error}; repeat: nigh release prune --keep {keep} --site {site}"
            )),
        }
    }

    fn rules(&self, local: &Local) -> Result<Parsed, Failure> {
        let site = &self.found.file;
        let parsed = site_rules::read(&self.dir, site, Some(&local.manifest))?;
        site_rules::accept(&parsed, self.args.strict || site.rules.strict)?;
        for warning in &parsed.warnings {
            self.app.console.warning(&site_rules::line(warning));
        }
        Ok(parsed)
    }

    /// Uploads what control misses; reads the folder again when it changed meanwhile.
    async fn upload(
        &self,
        site: &SiteName,
        mut local: Local,
        parsed: &Parsed,
    ) -> Result<(ReleaseView, Files, bool), Failure> {
        let source = source::source(&self.dir, &self.environment.ci).await;
        if let Some(commit) = source.as_ref().and_then(|source| source.commit.as_deref()) {
            self.app.console.detail(&format!("source   commit {commit}"));
        }
        let mut changed = String::new();
        for attempt in 1..=ATTEMPTS_MAX {
            if attempt > 1 {
                self.app.console.note(&format!("again    {changed}"));
                // What changed within one tick of the clock has its old stamp.
                local = self.read(false).await?;
            }
            let release = NewRelease {
                manifest: local.manifest.encode(),
                rules: parsed.rules.clone(),
                message: self.args.message.clone(),
                source: source.clone(),
                preview: self.preview()?,
            };
            match self.attempt(site, &local, &release).await? {
                Attempt::Uploaded(view, files) => return Ok((view, files, true)),
                Attempt::Unchanged(view, files) => return Ok((view, files, false)),
                Attempt::Changed(why) => changed = why,
            }
        }
        Err(Failure::new(Exit::Conflict, format!("{} was not pushed", self.dir.display()))
            .why(format!("{changed}, {ATTEMPTS_MAX} times in a row"))
            .code("folder_changing")
            .hint("wait until whatever writes to the folder is done, then repeat the command"))
    }

    fn preview(&self) -> Result<Option<NewPreview>, Failure> {
        let Some(name) = &self.args.preview else { return Ok(None) };
        let in_file = self.found.file.release.preview_expires.as_deref();
        let in_file = in_file.map(units::parse_duration).transpose();
        let in_file =
            in_file.map_err(|why| Failure::new(Exit::Invalid, "preview_expires").why(why))?;
        let expires = self.args.expires.or(in_file);
        let expires_ms =
            expires.map(|expires| u64::try_from(expires.as_millis()).unwrap_or(u64::MAX));
        Ok(Some(NewPreview { name: name.clone(), expires_ms }))
    }

    async fn attempt(
        &self,
        site: &SiteName,
        local: &Local,
        release: &NewRelease,
    ) -> Result<Attempt, Failure> {
        let failed = || format!("{} was not pushed to {site}", self.dir.display());
        let client = self.app.client.with_patience(Patience::until(self.deadline));
        let begun = client.begin_release(site, release).await.or_fail(failed)?;
        let ReleaseBegun { release: view, missing, .. } = begun;
        let mut files = count(local, &missing);
        if view.state == ReleaseState::Active && missing.is_empty() {
            return Ok(Attempt::Unchanged(view, files));
        }
        self.app.console.note(&format!(
            "compare  {} new to control, {} there already",
            units::count(files.new, "file", "files"),
            files.reused,
        ));
        let started = Instant::now();
        let missing_bytes = local.files_with(&missing).iter().map(|wanted| wanted.2).sum();
        let bar = Bar::upload(self.app.console, missing_bytes);
        let uploader = Uploader {
            client: &client,
            deadline: self.deadline,
            bar: &bar,
            sent_bytes: AtomicU64::new(0),
        };
        match uploader.upload(local, &missing).await {
            Ok(()) => {}
            Err(changed @ UploadError::Changed { .. }) => {
                return Ok(Attempt::Changed(changed.to_string()));
            }
            Err(UploadError::Call(error)) => return Err(self.upload_failure(failed(), &error)),
            Err(error @ UploadError::Pack(_)) => {
                return Err(Failure::new(Exit::Failure, failed()).caused_by(&error));
            }
        }
        bar.finish();
        files.bytes_sent = uploader.sent_bytes.into_inner();
        if !missing.is_empty() {
            self.app.console.note(&format!(
                "upload   {} sent for {} in {}",
                units::bytes(files.bytes_sent),
                units::bytes(missing_bytes),
                units::duration(started.elapsed()),
            ));
        }
        let view = client.finalize_release(site, &view.id, true).await.or_fail(failed)?;
        Ok(Attempt::Uploaded(view, files))
    }

    fn upload_failure(&self, what: String, error: &nigh_client::CallError) -> Failure {
        let failure = Failure::of_call(what, error);
        if error.is_unreachable() && Instant::now() + Duration::from_secs(6) > self.deadline {
            return Failure { exit: Exit::Timeout, ..failure }
                .hint("repeat the command: what control has already is not sent again");
        }
        failure.hint("repeat the command when that is solved: what control has is not sent again")
    }

    /// Follows the release until the edges serve it.
    async fn activate(
        &self,
        site: &SiteName,
        view: ReleaseView,
        is_new: bool,
    ) -> Result<(ReleaseView, Ended), Failure> {
        if !is_new {
            return Ok((view, Ended::Live));
        }
        let edges = view.edges.len() as u64;
        self.app.console.note(&format!("stage    on {}", units::count(edges, "edge", "edges")));
        follow(&self.app.client, site, view, self.args.wait, self.deadline, self.app.console).await
    }
}

/// How many files of the folder control has, and how many it misses.
fn count(local: &Local, missing: &[Digest]) -> Files {
    let missing: HashSet<&Digest> = missing.iter().collect();
    let entries = local.manifest.entries();
    let new = entries.iter().filter(|entry| missing.contains(&entry.digest)).count() as u64;
    let total = entries.len() as u64;
    Files { total, new, reused: total - new, bytes_sent: 0 }
}
