//! Which CAs are there, and what do they say of themselves?

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    http::Calls,
    trouble::{Fault, of_whole_ca},
};
use crate::config::AcmeConfig;

/// A CA that is configured.
#[derive(Debug)]
pub(crate) struct Issuer {
    pub(crate) config: AcmeConfig,
    pub(crate) calls: Calls,
    directory: tokio::sync::OnceCell<Directory>,
    /// Held while an account is made, so that there is one.
    pub(crate) registering: tokio::sync::Mutex<()>,
}

/// What its directory says besides what the ACME library reads (RFC 8555, section 7.1.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Directory {
    pub caa_identities: Vec<String>,
    /// Whether it says when to renew (RFC 9773).
    pub has_renewal_info: bool,
    pub profiles: Vec<String>,
}

/// The CAs by their directory; each is made once, as long as its configuration stays.
#[derive(Debug, Default)]
pub(crate) struct Issuers(Mutex<BTreeMap<String, Arc<Issuer>>>);

impl Issuers {
    /// The CA as it is configured now.
    pub(crate) fn of(&self, config: &AcmeConfig) -> Result<Arc<Issuer>, Fault> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(issuer) = known.get(&config.directory).filter(|known| known.config == *config) {
            return Ok(Arc::clone(issuer));
        }
        let calls = Calls::new(config.ca_file.as_deref()).map_err(|error| {
            let file = config.ca_file.clone().unwrap_or_default();
            of_whole_ca(format!("ca_file {} cannot be used: {error}", file.display()))
        })?;
        let issuer = Arc::new(Issuer {
            config: config.clone(),
            calls,
            directory: tokio::sync::OnceCell::new(),
            registering: tokio::sync::Mutex::default(),
        });
        known.insert(config.directory.clone(), Arc::clone(&issuer));
        Ok(issuer)
    }
}

impl Issuer {
    pub(crate) fn url(&self) -> &str {
        &self.config.directory
    }

    pub(crate) async fn directory(&self) -> Result<&Directory, Fault> {
        let read = self.directory.get_or_try_init(|| self.read_directory()).await;
        read.map_err(|error| Fault::of_ca(&error, self, &[]))
    }

    async fn read_directory(&self) -> Result<Directory, instant_acme::Error> {
        Ok(Directory::read(&self.calls.get_json(self.url()).await?))
    }

    /// What CAA records call it.
    pub(crate) async fn caa_identities(&self) -> Result<Vec<String>, Fault> {
        match self.config.caa_identities.as_slice() {
            [] => Ok(self.directory().await?.caa_identities.clone()),
            configured => Ok(configured.to_vec()),
        }
    }
}

impl Directory {
    fn read(json: &serde_json::Value) -> Self {
        let meta = &json["meta"];
        let texts = |value: &serde_json::Value| -> Vec<String> {
            let list = value.as_array().into_iter().flatten();
            list.filter_map(|text| text.as_str()).map(str::to_owned).take(20).collect()
        };
        let profiles = meta["profiles"].as_object().into_iter().flatten();
        Directory {
            caa_identities: texts(&meta["caaIdentities"]),
            has_renewal_info: json["renewalInfo"].is_string(),
            profiles: profiles.map(|(name, _)| name.clone()).take(20).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_read_whatever_it_holds() {
        let json = serde_json::json!({
            "renewalInfo": "https://ca.test/ari",
            "meta": { "caaIdentities": ["ca.test", 7], "profiles": { "shortlived": "https://x" } }
        });
        let expected = Directory {
            caa_identities: vec!["ca.test".to_owned()],
            has_renewal_info: true,
            profiles: vec!["shortlived".to_owned()],
        };
        assert_eq!(Directory::read(&json), expected);
        for strange in
            [serde_json::json!(null), serde_json::json!([]), serde_json::json!({"meta": 1})]
        {
            assert_eq!(Directory::read(&strange), Directory::default());
        }
    }
}
