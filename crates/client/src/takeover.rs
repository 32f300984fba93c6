//! What machines hold of a fleet whose control is lost.

use http::Method;
use nigh_proto::api::{NewTakeover, TakenOver, TakeoverView};

use crate::{Call, CallError, Client};

impl Client {
    /// `GET /v1/takeover`.
    pub async fn takeover(&self) -> Result<TakeoverView, CallError> {
        self.call(&Call::new(Method::GET, &["v1", "takeover"])).await
    }

    /// `POST /v1/takeover`.
    pub async fn take_over(&self, new: &NewTakeover) -> Result<TakenOver, CallError> {
        self.call(&Call::new(Method::POST, &["v1", "takeover"]).json(new)).await
    }

    /// `DELETE /v1/takeover`.
    pub async fn drop_held(&self) -> Result<TakeoverView, CallError> {
        self.call(&Call::new(Method::DELETE, &["v1", "takeover"])).await
    }
}
