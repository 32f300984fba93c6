//! Who makes the certificates that edges serve with?

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::InvalidConfig;

/// As many names as public CAs put into one certificate.
const NAMES_MAX: u32 = 100;

/// Certificates of sites, and the keys of TLS session tickets.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct CertificatesConfig {
    pub mode: CertificateMode,
    /// How many names one certificate holds at most.
    pub names_max: u32,
    /// How long a CA may be down until the next one is asked.
    pub fallback_after_ms: u64,
    /// How long machines may take to show the answer to a challenge.
    pub challenge_deadline_ms: u64,
    /// Where names outside of the own zones are looked up; the system's resolvers when empty.
    pub resolvers: Vec<SocketAddr>,
    /// How often edges get a new key for TLS session tickets; each lives three times as long.
    pub ticket_period_ms: u64,
    /// Public CAs, the preferred one first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub acme: Vec<AcmeConfig>,
}

impl Default for CertificatesConfig {
    fn default() -> Self {
        Self {
            mode: CertificateMode::default(),
            names_max: NAMES_MAX,
            fallback_after_ms: 60 * 60 * 1000,
            challenge_deadline_ms: 120_000,
            resolvers: Vec::new(),
            ticket_period_ms: 12 * 60 * 60 * 1000,
            acme: Vec::new(),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CertificateMode {
    /// Control's own CA, for fleets whose visitors trust it.
    #[default]
    Internal,
    /// The CAs of `[[certificates.acme]]`.
    Acme,
    /// Nobody: sites are served over plain HTTP, or with certificates that were imported.
    None,
}

/// One CA that speaks ACME (RFC 8555).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AcmeConfig {
    /// The URL of its directory.
    pub directory: String,
    /// Whom it may tell of trouble: `mailto:` URLs.
    #[serde(default)]
    pub contact: Vec<String>,
    /// Whether the operator agrees to its terms of service; nothing is asked of it otherwise.
    #[serde(default)]
    pub agree_to_terms: bool,
    /// External account binding: the key's id, and a file with the key in base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eab_key_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eab_key_file: Option<PathBuf>,
    /// The kind of certificate to ask for, where the CA has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// PEM of the authorities that its own HTTPS comes from; the system's otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// What CAA records call it, when its directory does not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caa_identities: Vec<String>,
}

impl CertificatesConfig {
    /// Refuses what could never work.
    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        let value = |key, value: String, rule| Err(InvalidConfig::Value { key, value, rule });
        if !(1..=NAMES_MAX).contains(&self.names_max) {
            let shown = self.names_max.to_string();
            return value("certificates.names_max", shown, "must be 1 to 100");
        }
        if self.ticket_period_ms < 60_000 {
            let shown = self.ticket_period_ms.to_string();
            return value("certificates.ticket_period_ms", shown, "must be at least 60000");
        }
        if self.mode == CertificateMode::Acme && self.acme.is_empty() {
            let rule = "needs at least one [[certificates.acme]]";
            return value("certificates.mode", "\"acme\"".to_owned(), rule);
        }
        self.acme.iter().try_for_each(AcmeConfig::check)?;
        let mut directories: Vec<&str> = self.acme.iter().map(|ca| ca.directory.as_str()).collect();
        directories.sort_unstable();
        match directories.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => {
                let rule = "must be in one [[certificates.acme]] only";
                value("certificates.acme.directory", pair[0].to_owned(), rule)
            }
            None => Ok(()),
        }
    }
}

impl AcmeConfig {
    fn check(&self) -> Result<(), InvalidConfig> {
        let (key, rule) = if !self.directory.starts_with("https://") {
            ("certificates.acme.directory", "must be a URL that begins with https://")
        } else if !self.agree_to_terms {
            (
                "certificates.acme.agree_to_terms",
                "must be true: read the CA's terms of service; without it no account is made",
            )
        } else if self.eab_key_id.is_some() != self.eab_key_file.is_some() {
            ("certificates.acme.eab_key_id", "needs certificates.acme.eab_key_file beside it")
        } else {
            return Ok(());
        };
        Err(InvalidConfig::Value { key, value: format!("that of {}", self.directory), rule })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(), String> {
        let config: CertificatesConfig =
            serde_json::from_str(text).map_err(|error| error.to_string())?;
        config.check().map_err(|error| error.to_string())
    }

    #[test]
    fn what_could_never_work_is_refused_before_a_ca_hears_of_it() {
        let ca = r#"{"directory": "https://ca.test/dir", "agree_to_terms": true}"#;
        assert_eq!(read(&format!(r#"{{"mode": "acme", "acme": [{ca}]}}"#)), Ok(()));
        for (text, key) in [
            (r#"{"mode": "acme"}"#.to_owned(), "certificates.mode"),
            (format!(r#"{{"acme": [{ca}, {ca}]}}"#), "directory"),
            (r#"{"acme": [{"directory": "https://ca.test"}]}"#.to_owned(), "agree_to_terms"),
            (
                r#"{"acme": [{"directory": "http://ca.test", "agree_to_terms": true}]}"#.to_owned(),
                "directory",
            ),
            (ca.replace('}', r#", "eab_key_id": "k"}"#), "eab_key_file"),
            (r#"{"names_max": 101}"#.to_owned(), "names_max"),
            (r#"{"ticket_period_ms": 1}"#.to_owned(), "ticket_period_ms"),
        ] {
            let text = if text.starts_with(r#"{"directory"#) {
                format!(r#"{{"acme": [{text}]}}"#)
            } else {
                text
            };
            let error = read(&text).unwrap_err();
            assert!(error.contains(key), "{text}: {error}");
        }
    }
}
