//! What follows from the configuration, and what happens when it is another?

use std::sync::{Arc, PoisonError};

use nigh_proto::{Digest, FleetId};

use super::{App, AppError, certificates::PREVIEWS_CERTIFICATE};
use crate::{
    config::{CertificateMode, ControlConfig, InvalidConfig},
    fleet::state::Settings,
    random::random,
};

/// The configuration with everything that follows from it.
#[derive(Debug)]
pub(crate) struct Effective {
    pub(crate) config: ControlConfig,
    pub(crate) settings: Arc<Settings>,
}

impl Effective {
    pub(crate) fn new(config: ControlConfig) -> Result<Self, InvalidConfig> {
        config.check()?;
        let zones = config.zones.iter().map(|zone| zone.resolve(0)).collect::<Result<_, _>>()?;
        let networks =
            config.networks.iter().map(|network| network.resolve()).collect::<Result<_, _>>()?;
        let settings = Arc::new(Settings {
            https_redirect: config.sites.https_redirect
                && config.certificates.mode != CertificateMode::None,
            grace_releases_max: config.sites.grace_releases_max as usize,
            zones,
            networks,
            steered_ttl_s: config.dns.ttl_s,
            answer_addresses_max: config.dns.answer_addresses_max,
        });
        Ok(Self { config, settings })
    }
}

impl App {
    pub(crate) fn effective(&self) -> Arc<Effective> {
        Arc::clone(&self.0.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a new configuration; machines hear of what it changes.
    pub(crate) async fn reload(&self, effective: Effective) -> Result<(), AppError> {
        *self.0.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(effective);
        self.apply_config().await?;
        // Even when machines are told nothing new, other certificates may be wanted.
        self.0.certify.notify_one();
        Ok(())
    }

    /// Raises the revision when the settings say something else than those that the last revision
    /// was made with. A thousand machines that come back to a control that has only been restarted
    /// are told nothing.
    pub(super) async fn apply_config(&self) -> Result<(), AppError> {
        let effective = self.effective();
        let mode = effective.config.certificates.mode;
        let settings = format!("{} {mode:?} {:?}", self.version(), effective.settings);
        let mut tx = self.store().begin().await?;
        let mut has_changed = tx.set_settings(Digest::of(settings.as_bytes())).await?;
        has_changed |= tx.name_fleet(&FleetId::new(self.unix_ms(), random())).await?;
        match mode {
            CertificateMode::Internal => {
                let previews = self.previews_certificate()?;
                let there = tx.certificate(PREVIEWS_CERTIFICATE).await?;
                if there.is_none_or(|there| there.names != previews.names) {
                    tx.put_certificate(&previews).await?;
                    has_changed = true;
                }
                has_changed |= self.certify_sites(&mut tx).await?;
            }
            // `reconcile::acme` does what is to be done; until then what is there serves.
            CertificateMode::Acme => {}
            CertificateMode::None => tx.delete_made_certificates().await?,
        }
        if has_changed {
            tx.raise_revision().await?;
        }
        tx.commit().await?;
        self.publish().await?;
        Ok(())
    }
}
