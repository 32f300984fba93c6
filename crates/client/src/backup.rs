//! Everything that control knows.

use std::time::Duration;

use bytes::Bytes;
use http::Method;

use crate::{Call, CallError, Client};

/// A whole backup may take as long as its bytes need.
const BACKUP_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// A body that is on its way.
#[derive(Debug)]
pub struct Download {
    response: reqwest::Response,
    api_url: String,
}

impl Download {
    pub(crate) fn new(response: reqwest::Response, api_url: String) -> Self {
        Self { response, api_url }
    }

    /// The next piece, `None` at the end. A body that breaks off is an error.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, CallError> {
        let api_url = self.api_url.clone();
        self.response.chunk().await.map_err(|source| CallError::Unreachable { api_url, source })
    }
}

impl Client {
    /// `GET /v1/backup`.
    pub async fn backup(&self, with_blobs: bool) -> Result<Download, CallError> {
        let call = Call::new(Method::GET, &["v1", "backup"]).query("blobs", with_blobs);
        self.download(&call.timeout(BACKUP_TIMEOUT)).await
    }
}
