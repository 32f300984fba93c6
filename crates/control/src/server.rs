//! How does control start, reload and stop?

use std::net::SocketAddr;

use nigh_daemon::{BindError, Context, Role};

use crate::config::{ControlConfig, InvalidConfig};

/// Why control did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the configuration cannot work")]
    Config(#[from] InvalidConfig),
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// A running control.
#[derive(Debug)]
pub struct ControlServer {
    context: Context,
}

impl Role for ControlServer {
    const NAME: &'static str = "control";

    type Config = ControlConfig;
    type Error = StartError;

    async fn start(config: ControlConfig, context: Context) -> Result<Self, StartError> {
        config.check()?;
        Ok(Self { context })
    }

    fn listeners(&self) -> Vec<(&'static str, SocketAddr)> {
        Vec::new()
    }

    async fn reload(&mut self, config: ControlConfig) -> Result<(), StartError> {
        config.check()?;
        Ok(())
    }

    async fn stop(self) {
        self.context.tasks.stop(self.context.grace).await;
    }
}
