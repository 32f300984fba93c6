//! Why was something not done with a bucket?

use std::fmt::{Debug, Write as _};

use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{DisplayErrorContext, ProvideErrorMetadata, SdkError},
};

/// Something that could not be done with an object or the bucket.
#[derive(Clone, Debug, thiserror::Error)]
#[error("could not {action} in bucket {bucket}: {cause} ({detail})")]
pub struct Error {
    /// Such as `put packs/…`.
    pub action: String,
    pub bucket: String,
    pub cause: Cause,
    /// What the server or the connection said.
    pub detail: String,
}

/// What a caller, or an operator, can act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    #[error("there is no such object")]
    Missing,
    #[error("there is no such bucket; make it, or correct blobs.bucket")]
    NoBucket,
    #[error("the bucket refuses these credentials; correct them or what they allow")]
    Denied,
    #[error(
        "no credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a shared file"
    )]
    NoCredentials,
    #[error("the bucket says that this machine's clock is wrong; correct it")]
    Clock,
    #[error("the bucket asks to be asked less, or fails")]
    Busy,
    #[error("the bucket cannot be reached")]
    Unreachable,
    #[error("the bucket did not answer in time")]
    Late,
    #[error("the server does not know this request")]
    Unsupported,
    #[error("the bucket holds other bytes than were put")]
    Damaged,
    #[error("a file could not be read")]
    Read,
    #[error("the bucket refused the request")]
    Refused,
}

impl Cause {
    /// Whether the same may well succeed later, with nobody doing anything.
    pub const fn is_passing(self) -> bool {
        match self {
            Cause::Busy | Cause::Unreachable | Cause::Late | Cause::Damaged => true,
            Cause::Missing
            | Cause::NoBucket
            | Cause::Denied
            | Cause::NoCredentials
            | Cause::Clock
            | Cause::Unsupported
            | Cause::Read
            | Cause::Refused => false,
        }
    }
}

impl Error {
    pub(crate) fn new(bucket: &str, action: String, cause: Cause, detail: impl ToString) -> Self {
        Self { action, bucket: bucket.to_owned(), cause, detail: shortened(&detail.to_string()) }
    }

    pub(crate) fn of_sdk<E>(bucket: &str, action: String, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: std::error::Error + ProvideErrorMetadata + Debug + 'static,
    {
        let code = error.code();
        let status = error.raw_response().map(|response| response.status().as_u16());
        let context = DisplayErrorContext(error).to_string();
        let cause = match error {
            SdkError::TimeoutError(_) => Cause::Late,
            SdkError::DispatchFailure(_) | SdkError::ConstructionFailure(_)
                if context.contains("redentials") =>
            {
                Cause::NoCredentials
            }
            SdkError::DispatchFailure(failure) if failure.is_timeout() => Cause::Late,
            SdkError::DispatchFailure(_) => Cause::Unreachable,
            _ => cause(code, status),
        };
        let mut detail = String::new();
        match (code, status) {
            (Some(code), Some(status)) => {
                let _ = write!(detail, "{status} {code}");
                if let Some(message) = error.message() {
                    let _ = write!(detail, ": {message}");
                }
            }
            (None, Some(status)) => _ = write!(detail, "status {status}"),
            (_, None) => detail = context,
        }
        Self::new(bucket, action, cause, detail)
    }
}

/// What S3's codes and statuses come down to.
fn cause(code: Option<&str>, status: Option<u16>) -> Cause {
    match (code, status) {
        (Some("NoSuchKey" | "NotFound" | "NoSuchUpload"), _) => Cause::Missing,
        (Some("NoSuchBucket"), _) => Cause::NoBucket,
        (Some("RequestTimeTooSkewed"), _) => Cause::Clock,
        (Some("NotImplemented" | "MethodNotAllowed"), _) | (_, Some(405 | 501)) => {
            Cause::Unsupported
        }
        (Some("RequestTimeout"), _) => Cause::Late,
        (Some("SlowDown" | "ServiceUnavailable" | "InternalError"), _) => Cause::Busy,
        (_, Some(401 | 403)) => Cause::Denied,
        (_, Some(404)) => Cause::Missing,
        (_, Some(408 | 429 | 500..=599)) => Cause::Busy,
        (_, Some(_)) => Cause::Refused,
        // The answer broke off.
        (_, None) => Cause::Unreachable,
    }
}

/// Servers may say anything; a line of the log has an end.
fn shortened(text: &str) -> String {
    const MAX: usize = 300;
    match text.char_indices().nth(MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_before_statuses() {
        for (code, status, expected) in [
            (Some("NoSuchKey"), 404, Cause::Missing),
            (Some("NoSuchBucket"), 404, Cause::NoBucket),
            (None, 404, Cause::Missing),
            (Some("RequestTimeTooSkewed"), 403, Cause::Clock),
            (Some("SignatureDoesNotMatch"), 403, Cause::Denied),
            (Some("InvalidAccessKeyId"), 403, Cause::Denied),
            (Some("SlowDown"), 503, Cause::Busy),
            (None, 500, Cause::Busy),
            (Some("NotImplemented"), 501, Cause::Unsupported),
            (Some("InvalidPart"), 400, Cause::Refused),
        ] {
            assert_eq!(cause(code, Some(status)), expected, "{code:?} {status}");
        }
        assert_eq!(cause(None, None), Cause::Unreachable);
    }

    #[test]
    fn what_a_server_says_is_cut_at_a_character() {
        let error = Error::new("b", "put x".to_owned(), Cause::Busy, "é".repeat(1000));
        assert_eq!(error.detail.chars().count(), 301);
    }
}
