//! What do control's own listeners show, and whom do they trust?

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::Reconcile;
use crate::{
    app::{App, AppError},
    blobs::blocking,
    ca::{
        self, Authorities, Issued, Port, TlsError, api_config, certified, is_due, machine_config,
    },
};

const WAIT: Duration = Duration::from_secs(10 * 60);

/// Keeps control's own certificate, the CAs that the machine port takes and the CA file in line
/// with the CAs that there are.
#[derive(Debug)]
pub(crate) struct Own {
    app: App,
    pub(crate) api: Arc<Port>,
    pub(crate) machines: Arc<Port>,
    ca_file: PathBuf,
    issued: Issued,
    made_with: Arc<Authorities>,
}

impl Own {
    /// The ports of control's listeners, ready to be used.
    pub(crate) fn new(app: App, ca_file: PathBuf) -> Result<Self, OwnError> {
        let authorities = app.authority();
        let names = app.effective().config.certificate_names();
        let issued = authorities.issue_own(&names, app.now())?;
        let (api, machines) = configs(&issued, &authorities)?;
        let (api, machines) = (Port::new(api), Port::new(machines));
        Ok(Self { app, api, machines, ca_file, issued, made_with: authorities })
    }

    /// The file last, so that what it says is true when it can be read.
    async fn renew(&mut self, authorities: Arc<Authorities>) -> Result<(), AppError> {
        let names = self.app.effective().config.certificate_names();
        let issued = authorities.issue_own(&names, self.app.now())?;
        let (api, machines) = match configs(&issued, &authorities) {
            Ok(configs) => configs,
            Err(error) => {
                // The old one goes on working.
                tracing::error!(%error, "control's own certificate was not renewed");
                return Ok(());
            }
        };
        self.machines.replace(machines);
        self.api.replace(api);
        let (file, pem) = (self.ca_file.clone(), authorities.bundle_pem());
        if let Err(error) = blocking(move || nigh_durable::write(&file, pem.as_bytes())).await {
            tracing::warn!(%error, "{} cannot be written", self.ca_file.display());
        }
        self.issued = issued;
        self.made_with = authorities;
        Ok(())
    }
}

/// Why control's listeners have no TLS.
#[derive(Debug, thiserror::Error)]
pub enum OwnError {
    #[error(transparent)]
    Ca(#[from] ca::CaError),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

fn configs(
    issued: &Issued,
    authorities: &Authorities,
) -> Result<(rustls::ServerConfig, rustls::ServerConfig), TlsError> {
    let own = certified(issued)?;
    let machines = machine_config(Arc::clone(&own), &authorities.bundle_pem())?;
    Ok((api_config(own)?, machines))
}

impl Reconcile for Own {
    const NAME: &'static str = "own-certificate";

    type Error = AppError;

    async fn pass(&mut self) -> Result<Duration, AppError> {
        let authorities = self.app.authority();
        let is_over = is_due(self.issued.not_before, self.issued.not_after, self.app.now());
        if is_over || !Arc::ptr_eq(&authorities, &self.made_with) {
            self.renew(authorities).await?;
        }
        Ok(WAIT)
    }
}
