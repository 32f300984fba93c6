//! What can go wrong between a caller and control?

use nigh_proto::api::Problem;

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(transparent)]
    Urls(#[from] nigh_dial::InvalidUrls),
    #[error("{api_url} is not https, and a token must not travel in the clear")]
    Insecure { api_url: String },
    #[error("the CA file holds no certificate in PEM form")]
    CaPem,
    #[error("TLS could not be set up")]
    Tls(#[source] rustls::Error),
    #[error("the HTTP client could not be set up")]
    Build(#[source] reqwest::Error),
}

/// Why a call was not carried out, or is not known to have been.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Control understood and said no.
    #[error("{}", .0.detail)]
    Refused(Box<Problem>),
    /// No answer came: control is down, the address is wrong or the connection broke.
    #[error("control at {api_url} cannot be reached")]
    Unreachable { api_url: String, source: reqwest::Error },
    /// Something answered that does not speak nigh's API.
    #[error("{url} answered {status} with something that is not nigh's API")]
    Foreign { url: String, status: u16 },
    #[error("the answer of {url} could not be read")]
    Body { url: String, source: serde_json::Error },
    #[error("the answer of {url} is larger than {max_bytes} bytes")]
    TooLarge { url: String, max_bytes: usize },
}

impl CallError {
    /// The stable code of a refusal, such as `site_unknown`.
    pub fn code(&self) -> Option<&str> {
        match self {
            CallError::Refused(problem) => Some(&problem.code),
            _ => None,
        }
    }

    /// The HTTP status, when there was an answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            CallError::Refused(problem) => Some(problem.status),
            CallError::Foreign { status, .. } => Some(*status),
            CallError::Unreachable { .. } | CallError::Body { .. } | CallError::TooLarge { .. } => {
                None
            }
        }
    }

    /// Whether nobody is known to have answered.
    pub const fn is_unreachable(&self) -> bool {
        matches!(self, CallError::Unreachable { .. })
    }

    /// Whether the same call may succeed a little later, with nothing changed here.
    pub fn is_passing(&self) -> bool {
        match self {
            CallError::Unreachable { source, .. } => !is_certificate_error(source),
            _ if self.code() == Some("idempotency_running") => true,
            _ => matches!(self.status(), Some(429 | 502 | 503 | 504)),
        }
    }

    /// Whether control was reached and its certificate was not believed.
    pub fn is_untrusted(&self) -> bool {
        matches!(self, CallError::Unreachable { source, .. } if is_certificate_error(source))
    }
}

/// A certificate that is not trusted now will not be in a second either.
fn is_certificate_error(error: &reqwest::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
            return true;
        }
        // `io::Error` hides what it was made from behind `get_ref`.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        source = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}
