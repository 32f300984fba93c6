//! Control's own CA.

use http::Method;
use nigh_proto::api::CaView;

use crate::{Call, CallError, Client};

impl Client {
    /// `GET /v1/ca`.
    pub async fn ca(&self) -> Result<CaView, CallError> {
        self.call(&Call::new(Method::GET, &["v1", "ca"])).await
    }

    /// `POST /v1/ca/rotate`.
    pub async fn rotate_ca(&self) -> Result<CaView, CallError> {
        self.call(&Call::new(Method::POST, &["v1", "ca", "rotate"])).await
    }

    /// `POST /v1/ca/retire`.
    pub async fn retire_ca(&self) -> Result<CaView, CallError> {
        self.call(&Call::new(Method::POST, &["v1", "ca", "retire"])).await
    }
}
