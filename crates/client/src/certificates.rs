//! Certificates of sites.

use http::Method;
use nigh_proto::{
    SiteName,
    api::{CertificateView, NewCertificate, NewRevocation, RevocationReason},
};

use crate::{Call, CallError, Client};

impl Client {
    /// `GET /v1/certificates`.
    pub async fn certificates(&self) -> Result<Vec<CertificateView>, CallError> {
        self.list(&Call::new(Method::GET, &["v1", "certificates"])).await
    }

    /// `GET /v1/certificates/{id}`.
    pub async fn certificate(&self, id: &str) -> Result<CertificateView, CallError> {
        self.call(&Call::new(Method::GET, &["v1", "certificates", id])).await
    }

    /// `POST /v1/certificates/{id}/renew`.
    pub async fn renew_certificate(&self, id: &str) -> Result<CertificateView, CallError> {
        self.call(&Call::new(Method::POST, &["v1", "certificates", id, "renew"])).await
    }

    /// `POST /v1/certificates/{id}/revoke`.
    pub async fn revoke_certificate(
        &self,
        id: &str,
        reason: RevocationReason,
    ) -> Result<CertificateView, CallError> {
        let call = Call::new(Method::POST, &["v1", "certificates", id, "revoke"]);
        self.call(&call.json(&NewRevocation { reason })).await
    }

    /// `PUT /v1/sites/{site}/certificate`.
    pub async fn import_certificate(
        &self,
        site: &SiteName,
        certificate: &NewCertificate,
    ) -> Result<CertificateView, CallError> {
        let call = Call::new(Method::PUT, &["v1", "sites", site.as_str(), "certificate"]);
        self.call(&call.json(certificate)).await
    }

    /// `DELETE /v1/sites/{site}/certificate`.
    pub async fn remove_certificate(&self, site: &SiteName) -> Result<(), CallError> {
        self.command(&Call::new(Method::DELETE, &["v1", "sites", site.as_str(), "certificate"]))
            .await
    }
}
