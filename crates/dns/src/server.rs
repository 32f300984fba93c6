//! How does a DNS server start, reload and stop?

use std::net::SocketAddr;

use nigh_daemon::{BindError, Context, Role};

use crate::config::{DnsConfig, InvalidConfig};

/// Why a DNS server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the configuration cannot work")]
    Config(#[from] InvalidConfig),
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// A running DNS server.
#[derive(Debug)]
pub struct DnsServer {
    context: Context,
}

impl Role for DnsServer {
    const NAME: &'static str = "dns";

    type Config = DnsConfig;
    type Error = StartError;

    async fn start(config: DnsConfig, context: Context) -> Result<Self, StartError> {
        config.check()?;
        Ok(Self { context })
    }

    fn listeners(&self) -> Vec<(&'static str, SocketAddr)> {
        Vec::new()
    }

    async fn reload(&mut self, config: DnsConfig) -> Result<(), StartError> {
        config.check()?;
        Ok(())
    }

    async fn stop(self) {
        self.context.tasks.stop(self.context.grace).await;
    }
}
