//! Releases: begun, finalized, followed, activated, rolled back.
//!
//! A release is named by its full id or by any end of it that is unambiguous.

use std::time::Duration;

use http::{HeaderValue, Method, header};
use nigh_proto::{
    ReleaseId, SiteName,
    api::{Finalize, NewRelease, Prune, Pruned, ReleaseBegun, ReleaseView, Rollback},
};

use crate::{Body, Call, CallError, Client};

/// How much longer than control's own wait a long poll may take.
const POLL_MARGIN: Duration = Duration::from_secs(15);
/// How long control may take over a manifest of a million files.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(300);

fn path<'a>(site: &'a SiteName, rest: &[&'a str]) -> Vec<&'a str> {
    [&["v1", "sites", site.as_str(), "releases"], rest].concat()
}

impl Client {
    /// `POST /v1/sites/{site}/releases`; the body travels compressed.
    ///
    /// Repeated when the connection breaks: a release that was begun and never finalized expires.
    pub async fn begin_release(
        &self,
        site: &SiteName,
        release: &NewRelease,
    ) -> Result<ReleaseBegun, CallError> {
        let json = serde_json::to_vec(release)
            .expect("a release is texts, numbers, lists and maps of texts");
        let mut call = Call::new(Method::POST, &path(site, &[]));
        let bytes = match zstd::bulk::compress(&json, 1) {
            Ok(packed) => {
                let coding = HeaderValue::from_static("zstd");
                call = call.header(header::CONTENT_ENCODING, coding);
                packed
            }
            Err(_) => json,
        };
        let body = Body::Bytes { media_type: "application/json", bytes: bytes.into() };
        self.call(&call.body(body).timeout(BEGIN_TIMEOUT)).await
    }

    /// `POST …/releases/{release}/finalize`.
    pub async fn finalize_release(
        &self,
        site: &SiteName,
        release: &ReleaseId,
        activate: bool,
    ) -> Result<ReleaseView, CallError> {
        let call = Call::new(Method::POST, &path(site, &[release.as_str(), "finalize"]));
        self.call(&call.json(&Finalize { activate }).timeout(BEGIN_TIMEOUT)).await
    }

    /// `GET …/releases`, newest first: all of them, or the newest `limit`.
    pub async fn releases(
        &self,
        site: &SiteName,
        limit: Option<u32>,
    ) -> Result<Vec<ReleaseView>, CallError> {
        let call = Call::new(Method::GET, &path(site, &[]));
        match limit {
            None => self.list(&call).await,
            Some(limit) => {
                let page: nigh_proto::api::Page<ReleaseView> =
                    self.call(&call.query("limit", limit)).await?;
                Ok(page.items)
            }
        }
    }

    /// `GET …/releases/{release}`.
    pub async fn release(&self, site: &SiteName, release: &str) -> Result<ReleaseView, CallError> {
        self.call(&Call::new(Method::GET, &path(site, &[release]))).await
    }

    /// Waits, at most `wait`, until the release has come further than `after`.
    pub async fn release_after(
        &self,
        site: &SiteName,
        release: &ReleaseId,
        after: u64,
        wait: Duration,
    ) -> Result<ReleaseView, CallError> {
        let call = Call::new(Method::GET, &path(site, &[release.as_str()]))
            .query("after", after)
            .query("wait_ms", wait.as_millis())
            .timeout(wait + POLL_MARGIN);
        self.call(&call).await
    }

    /// `GET …/releases/{release}/manifest`: the text; `release` may be `active`.
    pub async fn manifest(&self, site: &SiteName, release: &str) -> Result<Vec<u8>, CallError> {
        let call = Call::new(Method::GET, &path(site, &[release, "manifest"]))
            .header(header::ACCEPT, HeaderValue::from_static("text/plain"));
        Ok(self.accepted(&call).await?.body.into())
    }

    /// `POST …/releases/{release}/activate`.
    pub async fn activate_release(
        &self,
        site: &SiteName,
        release: &str,
    ) -> Result<ReleaseView, CallError> {
        self.call(&Call::new(Method::POST, &path(site, &[release, "activate"]))).await
    }

    /// `DELETE …/releases/{release}`.
    pub async fn delete_release(&self, site: &SiteName, release: &str) -> Result<(), CallError> {
        self.command(&Call::new(Method::DELETE, &path(site, &[release]))).await
    }

    /// `POST …/releases/prune`.
    pub async fn prune_releases(&self, site: &SiteName, keep: u32) -> Result<Pruned, CallError> {
        let call = Call::new(Method::POST, &path(site, &["prune"]));
        self.call(&call.json(&Prune { keep })).await
    }

    /// `POST /v1/sites/{site}/rollback`. Never repeated: twice would go back two releases.
    pub async fn roll_back(
        &self,
        site: &SiteName,
        release: Option<ReleaseId>,
    ) -> Result<ReleaseView, CallError> {
        let call = Call::new(Method::POST, &["v1", "sites", site.as_str(), "rollback"]);
        self.call(&call.json(&Rollback { release })).await
    }
}
