//! Which bucket, and how is it reached?

use std::path::PathBuf;

/// A bucket. Who may use it is said by `credentials_file`, or found by the usual chain:
/// `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, the files that `AWS_SHARED_CREDENTIALS_FILE` and
/// `AWS_CONFIG_FILE` name or those in the home folder, web identity, and the role of the container
/// or the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketConfig {
    /// The bucket's name.
    pub name: String,
    /// Such as `https://s3.example:3900`; Amazon's own unless told otherwise.
    pub endpoint: Option<String>,
    pub region: String,
    /// Whether the bucket's name is in the path of URLs, not in the host.
    pub path_style: bool,
    /// What the names of all objects begin with.
    pub prefix: String,
    /// Keys in the format of `~/.aws/credentials`; nothing else is looked at then.
    pub credentials_file: Option<PathBuf>,
    /// The profile in that file; `default` unless told otherwise.
    pub profile: Option<String>,
    /// The CA of an endpoint that no public CA vouches for, PEM.
    pub ca_file: Option<PathBuf>,
}

impl BucketConfig {
    /// The bucket `name`, with everything at its default.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            endpoint: None,
            region: "us-east-1".to_owned(),
            path_style: false,
            prefix: String::new(),
            credentials_file: None,
            profile: None,
            ca_file: None,
        }
    }
}
