//! Sites and their hosts.

use http::{HeaderValue, Method, header};
use nigh_proto::{
    Host, SiteName,
    api::{HostView, NewHost, NewSite, SiteChange, SiteView},
};

use crate::{Call, CallError, Client};

impl Client {
    /// `POST /v1/sites`.
    pub async fn create_site(&self, site: &NewSite) -> Result<SiteView, CallError> {
        self.call(&Call::new(Method::POST, &["v1", "sites"]).json(site)).await
    }

    /// `GET /v1/sites`, every page.
    pub async fn sites(&self) -> Result<Vec<SiteView>, CallError> {
        self.list(&Call::new(Method::GET, &["v1", "sites"])).await
    }

    /// `GET /v1/sites/{site}`.
    pub async fn site(&self, site: &SiteName) -> Result<SiteView, CallError> {
        self.call(&Call::new(Method::GET, &["v1", "sites", site.as_str()])).await
    }

    /// `PATCH /v1/sites/{site}`: changes the named settings, whatever the others are meanwhile.
    pub async fn change_site(
        &self,
        site: &SiteName,
        change: &SiteChange,
    ) -> Result<SiteView, CallError> {
        let call = Call::new(Method::PATCH, &["v1", "sites", site.as_str()]).json(change);
        self.call(&call.header(header::IF_MATCH, HeaderValue::from_static("*"))).await
    }

    /// `DELETE /v1/sites/{site}`.
    pub async fn delete_site(&self, site: &SiteName) -> Result<(), CallError> {
        self.command(&Call::new(Method::DELETE, &["v1", "sites", site.as_str()])).await
    }

    /// `GET /v1/sites/{site}/hosts`, every page.
    pub async fn hosts(&self, site: &SiteName) -> Result<Vec<HostView>, CallError> {
        self.list(&Call::new(Method::GET, &["v1", "sites", site.as_str(), "hosts"])).await
    }

    /// `POST /v1/sites/{site}/hosts`.
    pub async fn add_host(&self, site: &SiteName, host: Host) -> Result<HostView, CallError> {
        let call = Call::new(Method::POST, &["v1", "sites", site.as_str(), "hosts"]);
        self.call(&call.json(&NewHost { host })).await
    }

    /// `DELETE /v1/sites/{site}/hosts/{host}`.
    pub async fn remove_host(&self, site: &SiteName, host: &Host) -> Result<(), CallError> {
        let path = ["v1", "sites", site.as_str(), "hosts", host.as_str()];
        self.command(&Call::new(Method::DELETE, &path)).await
    }
}
