//! Which GeoIP files are in use, and was one of them replaced?
//!
//! Files are looked at by time, size and inode. A new one is read as a whole and tried out before
//! it is used; one that is missing, cut short or broken leaves the last good one in place, which
//! the log and `nigh_dns_geoip_ok` say. A file that changes while it is read is read again.

#[cfg(test)]
mod tests;

use std::{error::Error as _, path::Path, sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    config::GeoipConfig,
    geo::{GeoError, GeoFile, Stamp},
    metrics::DnsMetrics,
    snapshot::Geo,
};

/// The files of one configuration.
#[derive(Debug)]
pub struct GeoFiles {
    config: GeoipConfig,
    city: Followed,
    asn: Followed,
    metrics: DnsMetrics,
}

/// One file, by what was last seen of it.
#[derive(Debug)]
struct Followed {
    label: &'static str,
    /// `Some(None)`: seen to be missing.
    seen: Option<Option<Stamp>>,
    current: Option<Arc<GeoFile>>,
}

impl GeoFiles {
    pub fn new(config: GeoipConfig, metrics: DnsMetrics) -> Self {
        let followed = |label| Followed { label, seen: None, current: None };
        Self { config, city: followed("city"), asn: followed("asn"), metrics }
    }

    /// Looks at the files and reads what is new. Blocking. `Some` when what is in use has changed.
    pub fn check(&mut self) -> Option<Geo> {
        let GeoipConfig { city, asn, file_bytes_max, .. } = &self.config;
        let changes = [
            self.city.check(city.as_deref(), *file_bytes_max, &self.metrics),
            self.asn.check(asn.as_deref(), *file_bytes_max, &self.metrics),
        ];
        changes.contains(&true).then(|| self.current())
    }

    /// What is in use.
    pub fn current(&self) -> Geo {
        Geo { city: self.city.current.clone(), asn: self.asn.current.clone() }
    }

    /// Follows other files from the next [`check`](Self::check) on.
    fn set_config(&mut self, config: GeoipConfig) {
        if config != self.config {
            self.config = config;
            self.city.seen = None;
            self.asn.seen = None;
        }
    }
}

impl Followed {
    /// Whether what is in use has changed.
    fn check(&mut self, path: Option<&Path>, bytes_max: u64, metrics: &DnsMetrics) -> bool {
        let Some(path) = path else { return self.current.take().is_some() };
        let stamp = Stamp::of(path).ok();
        if self.seen.as_ref() == Some(&stamp) {
            return false;
        }
        let opened = GeoFile::open(path, bytes_max);
        let is_settled = Stamp::of(path).ok() == stamp;
        if !is_settled {
            // Somebody writes at this moment: what was read may be half of each.
            return false;
        }
        self.seen = Some(stamp);
        match opened {
            Ok(file) => {
                self.take(path, file, metrics);
                true
            }
            Err(error) => {
                metrics.geoip_failed(self.label);
                self.complain(&error);
                false
            }
        }
    }

    fn take(&mut self, path: &Path, file: GeoFile, metrics: &DnsMetrics) {
        metrics.geoip_taken(self.label, file.built_at_s());
        tracing::info!(
            file.path = %path.display(),
            file.r#type = file.database_type(),
            "GeoIP file {} is in use",
            path.display()
        );
        self.current = Some(Arc::new(file));
    }

    fn complain(&self, error: &GeoError) {
        let cause = error.source().map(|cause| format!(" ({cause})")).unwrap_or_default();
        let meanwhile = match self.current {
            Some(_) => "the one before stays in use",
            None => "clients are placed without it",
        };
        tracing::warn!(file.label = self.label, "{error}{cause}; {meanwhile}");
    }
}

/// Looks at the files again and again until `stopping`; what changes goes to `geo`.
pub(crate) async fn follow(
    mut files: GeoFiles,
    mut config: watch::Receiver<GeoipConfig>,
    geo: watch::Sender<Geo>,
    stopping: CancellationToken,
) {
    loop {
        let pause = Duration::from_millis(files.config.reload_ms);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = config.changed() => if changed.is_err() { return },
            () = stopping.cancelled() => return,
        }
        files.set_config(config.borrow_and_update().clone());
        let checked = tokio::task::spawn_blocking(move || {
            let changed = files.check();
            (files, changed)
        });
        let Ok((back, changed)) = checked.await else {
            tracing::error!("GeoIP files are no longer followed: reading one failed by a bug");
            return;
        };
        files = back;
        if let Some(changed) = changed {
            geo.send_replace(changed);
        }
    }
}
