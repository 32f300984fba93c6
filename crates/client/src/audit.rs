//! Who changed what.

use http::Method;
use nigh_proto::{
    Timestamp,
    api::Page,
    audit::{AuditChain, AuditEntry},
};

use crate::{Call, CallError, Client};

/// Which entries of the audit log are asked for.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    pub site: Option<String>,
    /// The id of a token or machine.
    pub actor: Option<String>,
    pub verb: Option<String>,
    pub since: Option<Timestamp>,
    pub is_oldest_first: bool,
}

impl Client {
    /// `GET /v1/audit`: one page of at most `limit`, from `cursor` on.
    pub async fn audit(
        &self,
        query: &AuditQuery,
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<Page<AuditEntry>, CallError> {
        let order = if query.is_oldest_first { "oldest_first" } else { "newest_first" };
        let call = Call::new(Method::GET, &["v1", "audit"]).query("order", order);
        let since = query.since.map(|since| since.to_string());
        let given = [
            ("site", query.site.as_deref()),
            ("actor", query.actor.as_deref()),
            ("verb", query.verb.as_deref()),
            ("since", since.as_deref()),
            ("cursor", cursor),
        ];
        let call =
            given.into_iter().fold(call.query("limit", limit), |call, (name, value)| match value {
                Some(value) => call.query(name, value),
                None => call,
            });
        self.call(&call).await
    }

    /// `GET /v1/audit/chain`: where the log begins and ends.
    pub async fn audit_chain(&self) -> Result<AuditChain, CallError> {
        self.call(&Call::new(Method::GET, &["v1", "audit", "chain"])).await
    }
}
