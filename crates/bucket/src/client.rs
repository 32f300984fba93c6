//! How is a bucket connected to, and how long is it tried?

use std::{path::PathBuf, time::Duration};

use aws_config::{
    BehaviorVersion, Region, profile::ProfileFileCredentialsProvider, retry::RetryConfig,
    timeout::TimeoutConfig,
};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_s3::{
    Client,
    config::{Builder, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient},
};
use aws_smithy_http_client::{
    Builder as HttpBuilder,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};

use crate::BucketConfig;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// One try, with all of its bytes: 8 MiB in this time are 400 KiB a second.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(20);
/// One operation with all of its tries.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(45);
/// Tries of one operation, each after a longer wait, with jitter.
const ATTEMPTS_MAX: u32 = 4;
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Why a bucket cannot be connected to, whatever the network does.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("blobs.endpoint {endpoint:?} is not an address such as https://s3.example")]
    Endpoint { endpoint: String },
    #[error("blobs.bucket {name:?} is not the name of a bucket")]
    Name { name: String },
    #[error("blobs.prefix {prefix:?} begins with a slash or does not end with one")]
    Prefix { prefix: String },
    #[error("could not read {}, which blobs.credentials_file names", .path.display())]
    CredentialsFile { path: PathBuf, source: std::io::Error },
    #[error("could not read {}", .path.display())]
    CaFile { path: PathBuf, source: std::io::Error },
    #[error("{} is not a PEM file with certificates", .path.display())]
    Ca { path: PathBuf },
}

/// Refuses what could never work.
pub(crate) fn check(config: &BucketConfig) -> Result<(), OpenError> {
    if let Some(endpoint) = &config.endpoint {
        let rest = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
        let is_address = |rest: &str| {
            !rest.is_empty() && !rest.starts_with('/') && !rest.contains(char::is_whitespace)
        };
        if !rest.is_some_and(is_address) {
            return Err(OpenError::Endpoint { endpoint: endpoint.clone() });
        }
    }
    let name = &config.name;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if !(3..=63).contains(&name.len()) || !name.bytes().all(is_name) {
        return Err(OpenError::Name { name: name.clone() });
    }
    if let Some(path) = &config.credentials_file {
        std::fs::File::open(path)
            .map_err(|source| OpenError::CredentialsFile { path: path.clone(), source })?;
    }
    let prefix = &config.prefix;
    if !prefix.is_empty() && (prefix.starts_with('/') || !prefix.ends_with('/')) {
        return Err(OpenError::Prefix { prefix: prefix.clone() });
    }
    Ok(())
}

/// The PEM of the operator's CA.
pub(crate) fn ca_pem(config: &BucketConfig) -> Result<Option<String>, OpenError> {
    let Some(path) = &config.ca_file else { return Ok(None) };
    let pem = std::fs::read_to_string(path)
        .map_err(|source| OpenError::CaFile { path: path.clone(), source })?;
    if !pem.contains("-----BEGIN CERTIFICATE-----") {
        return Err(OpenError::Ca { path: path.clone() });
    }
    Ok(Some(pem))
}

/// A client for the bucket. Asks nobody for anything; credentials are looked for when first used.
pub(crate) async fn connect(
    config: &BucketConfig,
    ca_pem: Option<&str>,
) -> Result<Client, OpenError> {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build();
    let retries = RetryConfig::standard()
        .with_max_attempts(ATTEMPTS_MAX)
        .with_initial_backoff(BACKOFF_FIRST)
        .with_max_backoff(BACKOFF_MAX);
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(config.region.clone()))
        .http_client(http(config, ca_pem)?);
    if let Some(endpoint) = &config.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    if let Some(provider) = from_file(config) {
        loader = loader.credentials_provider(provider);
    } else if let Some(profile) = &config.profile {
        loader = loader.profile_name(profile);
    }
    let shared = loader.load().await;
    // Checksums beyond the signed SHA-256 of every body are what other servers know least.
    let service = Builder::from(&shared)
        .timeout_config(timeouts)
        .retry_config(retries)
        .force_path_style(config.path_style)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .build();
    Ok(Client::from_conf(service))
}

/// The keys of the operator's own file, which is read again when they are needed again.
fn from_file(config: &BucketConfig) -> Option<ProfileFileCredentialsProvider> {
    let path = config.credentials_file.as_ref()?;
    let files = EnvConfigFiles::builder().with_file(EnvConfigFileKind::Credentials, path).build();
    let provider = ProfileFileCredentialsProvider::builder().profile_files(files);
    let profile = config.profile.as_deref().unwrap_or("default");
    Some(provider.profile_name(profile).build())
}

fn http(config: &BucketConfig, ca_pem: Option<&str>) -> Result<SharedHttpClient, OpenError> {
    let builder = HttpBuilder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc));
    let mut trust = TrustStore::default();
    if let Some(pem) = ca_pem {
        trust = trust.with_pem_certificate(pem.as_bytes());
    }
    let context = TlsContext::builder().with_trust_store(trust).build();
    let context =
        context.map_err(|_| OpenError::Ca { path: config.ca_file.clone().unwrap_or_default() })?;
    Ok(builder.tls_context(context).build_https())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_never_work_is_refused() {
        let good = BucketConfig::new("blobs");
        check(&good).unwrap();
        let with = |edit: fn(&mut BucketConfig)| {
            let mut config = good.clone();
            edit(&mut config);
            check(&config)
        };
        for endpoint in ["s3.example", "ftp://s3", "https://", "https:///x", "https://a b"] {
            let config = BucketConfig { endpoint: Some(endpoint.to_owned()), ..good.clone() };
            assert!(matches!(check(&config), Err(OpenError::Endpoint { .. })), "{endpoint}");
        }
        assert!(matches!(with(|config| config.name = "a/b".into()), Err(OpenError::Name { .. })));
        assert!(matches!(with(|config| config.name = "ab".into()), Err(OpenError::Name { .. })));
        assert!(matches!(with(|config| config.prefix = "a".into()), Err(OpenError::Prefix { .. })));
        assert!(matches!(with(|config| config.prefix = "/".into()), Err(OpenError::Prefix { .. })));
        with(|config| config.prefix = "nigh/fleet/".into()).unwrap();
    }
}
