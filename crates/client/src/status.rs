//! The fleet at a glance.

use http::Method;
use nigh_proto::api::StatusView;

use crate::{Call, CallError, Client};

impl Client {
    /// `GET /v1/status`.
    pub async fn status(&self) -> Result<StatusView, CallError> {
        self.call(&Call::new(Method::GET, &["v1", "status"])).await
    }
}
