//! Which CAs are there, and what do they say of themselves?

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{
    http::Calls,
    trouble::{Fault, of_whole_ca},
};
use crate::config::AcmeConfig;

/// For how long what a directory says is taken to be so.
const DIRECTORY_LASTS: Duration = Duration::from_secs(24 * 60 * 60);
/// How many profiles of a CA are looked at; none has more than a handful.
const PROFILES_MAX: usize = 20;

/// A CA that is configured.
#[derive(Debug)]
pub(crate) struct Issuer {
    pub(crate) config: AcmeConfig,
    pub(crate) calls: Calls,
    /// What it said last, and when.
    directory: tokio::sync::Mutex<Option<(Instant, Arc<Directory>)>>,
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
            directory: tokio::sync::Mutex::default(),
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

    /// What the CA says of itself, as far as it was asked within a day.
    pub(crate) async fn directory(&self) -> Result<Arc<Directory>, Fault> {
        self.directory_within(DIRECTORY_LASTS).await
    }

    /// What it said no longer ago than `age`.
    async fn directory_within(&self, age: Duration) -> Result<Arc<Directory>, Fault> {
        let mut known = self.directory.lock().await;
        if let Some((_, directory)) = known.as_ref().filter(|(at, _)| at.elapsed() < age) {
            return Ok(Arc::clone(directory));
        }
        let read = self.calls.get_json(self.url()).await;
        let json = read.map_err(|error| Fault::of_ca(&error, self, &[]))?;
        let directory = Arc::new(Directory::read(&json));
        *known = Some((Instant::now(), Arc::clone(&directory)));
        Ok(directory)
    }

    /// The kind of certificate to ask for (draft-ietf-acme-profiles); one that the CA does not offer
    /// is an error, since the CA's own choice would be another one than the operator's.
    pub(crate) async fn profile(&self) -> Result<Option<&str>, Fault> {
        let Some(profile) = self.config.profile.as_deref() else { return Ok(None) };
        let offers = |directory: &Directory| directory.profiles.iter().any(|own| own == profile);
        if offers(&*self.directory().await?) {
            return Ok(Some(profile));
        }
        // It may have come since.
        let directory = self.directory_within(Duration::ZERO).await?;
        match offers(&directory) {
            true => Ok(Some(profile)),
            false => Err(of_whole_ca(directory.lacks(profile, self.url()))),
        }
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
            profiles: profiles.map(|(name, _)| name.clone()).take(PROFILES_MAX).collect(),
        }
    }

    /// Why `ca` is not asked for a certificate of `profile`, and what to write instead.
    fn lacks(&self, profile: &str, ca: &str) -> String {
        let why = format!("certificates.acme.profile is {profile:?}, which {ca} does not offer");
        match self.profiles.as_slice() {
            [] => format!("{why}: it has no profiles; remove the line"),
            own => format!("{why}; it has: {}", own.join(", ")),
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
