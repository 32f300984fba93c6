//! How does an error leave control?
//!
//! As `application/problem+json` (RFC 9457) with a code that programs rely on. Causes that are
//! control's own stay in the log.

use std::{error::Error, fmt};

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use nigh_core::blob::{FileError, InsertError, ReadError};
use nigh_daemon::logging::causes;
use nigh_proto::api::{FieldProblem, Problem};

use crate::{
    app::AppError, blobs::BlobError, ca::CaError, certificates::inspect::BadChain,
    request::Request, store::StoreError,
};

/// The longest sentence of a problem.
const DETAIL_MAX_BYTES: usize = 1000;

/// A request that was not carried out.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    detail: String,
    errors: Vec<FieldProblem>,
    /// The bytes that control has of an upload.
    offset: Option<u64>,
    /// Seconds to wait before it is worth asking again.
    retry_after_s: Option<u64>,
}

/// The code of a refusal, for whoever sees only the answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RefusalCode(pub(crate) &'static str);

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: &'static str, why: impl fmt::Display) -> Self {
        Self {
            status,
            code,
            detail: shortened(why.to_string()),
            errors: Vec::new(),
            offset: None,
            retry_after_s: None,
        }
    }

    /// Something that only control's operator can mend; the cause goes to the log.
    pub(crate) fn internal(error: &(dyn Error + 'static)) -> Self {
        tracing::error!(error = causes(error), "a request failed: {error}");
        let why = "control could not do this; its log says why";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", why)
    }

    pub(crate) fn with_field(mut self, pointer: &str, detail: impl fmt::Display) -> Self {
        let (pointer, detail) = (shortened(pointer.to_owned()), shortened(detail.to_string()));
        self.errors.push(FieldProblem { pointer, detail });
        self
    }

    /// The whole of it is about one field.
    pub(crate) fn at(self, pointer: &str) -> Self {
        let detail = self.detail.clone();
        self.with_field(pointer, detail)
    }

    pub(crate) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    pub(crate) fn with_offset(mut self, offset: u64) -> Self {
        self.offset = Some(offset);
        self
    }
}

/// What somebody sent is part of many an error, however long it was.
fn shortened(mut text: String) -> String {
    if text.len() > DETAIL_MAX_BYTES {
        let end = (0..=DETAIL_MAX_BYTES).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let problem = Problem {
            kind: format!("/problems/{}", self.code),
            title: self.status.canonical_reason().unwrap_or("Error").to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
            code: self.code.to_owned(),
            errors: self.errors,
            request_id: Request::current().map(|request| request.id.clone()),
        };
        let mut response = (self.status, Json(problem)).into_response();
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, json);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        let is_passing = self.status == StatusCode::SERVICE_UNAVAILABLE;
        if let Some(seconds) = self.retry_after_s.or(is_passing.then_some(1)) {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(offset) = self.offset {
            headers.insert(nigh_proto::api::UPLOAD_OFFSET, offset.into());
        }
        response.extensions_mut().insert(RefusalCode(self.code));
        response
    }
}

const NOT_FOUND: StatusCode = StatusCode::NOT_FOUND;
const CONFLICT: StatusCode = StatusCode::CONFLICT;
const UNPROCESSABLE: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;
const FULL: StatusCode = StatusCode::INSUFFICIENT_STORAGE;

/// The field of the body that an error is about, as far as that does not depend on the route.
fn pointer_of(error: &AppError) -> Option<String> {
    let pointer = match error {
        AppError::SiteTaken(_) => "/name",
        AppError::ManifestEmpty => "/manifest",
        AppError::PreviewTooLong(_) => "/preview/name",
        AppError::CertificateBad(BadChain::Key | BadChain::Mismatch) => "/key_pem",
        AppError::CertificateBad(_) | AppError::CertificateForeign { .. } => "/chain_pem",
        AppError::WebhookTarget(_) => "/url",
        AppError::TokenPowerless => "/verbs",
        AppError::TokenWider { field, .. }
        | AppError::Text { field, .. }
        | AppError::TooMany { field: Some(field), .. }
        | AppError::Duration { field, .. } => return Some(format!("/{}", field.replace('.', "/"))),
        _ => return None,
    };
    Some(pointer.to_owned())
}

impl From<AppError> for Refusal {
    fn from(error: AppError) -> Self {
        let pointer = pointer_of(&error);
        let refusal = Self::of_app(error);
        match pointer {
            Some(pointer) => refusal.at(&pointer),
            None => refusal,
        }
    }
}

impl Refusal {
    fn of_app(error: AppError) -> Self {
        let (status, code) = match &error {
            AppError::CertificateUnknown(_) => (NOT_FOUND, "certificate_unknown"),
            AppError::CertificateBad(_) | AppError::CertificateForeign { .. } => {
                (UNPROCESSABLE, "certificate_invalid")
            }
            AppError::CertificateKind { .. } => (CONFLICT, "certificate_kind"),
            AppError::CaFailed { .. } => (StatusCode::BAD_GATEWAY, "ca_failed"),
            AppError::SiteUnknown(_) => (NOT_FOUND, "site_unknown"),
            AppError::StateBad(_) => (UNPROCESSABLE, "state_invalid"),
            AppError::TakeoverEarly => (CONFLICT, "takeover_early"),
            AppError::ZonesMissing(_) => (CONFLICT, "zones_missing"),
            AppError::SiteTaken(_) => (CONFLICT, "site_taken"),
            AppError::HostTaken(_) => (CONFLICT, "host_taken"),
            AppError::HostUnknown(_) => (NOT_FOUND, "host_unknown"),
            AppError::HostDefault(_) => (CONFLICT, "host_default"),
            AppError::HostReserved(_) => (UNPROCESSABLE, "host_reserved"),
            AppError::HostOwn(_) => (UNPROCESSABLE, "host_reserved"),
            AppError::HostsFull { .. } => (CONFLICT, "hosts_full"),
            AppError::ReleaseUnknown { .. } => (NOT_FOUND, "release_unknown"),
            AppError::ReleaseAmbiguous(_) => (CONFLICT, "release_ambiguous"),
            AppError::ReleaseIncomplete { .. } => (CONFLICT, "release_incomplete"),
            AppError::ReleaseActive(_) => (CONFLICT, "release_active"),
            AppError::ReleaseState { .. } => (CONFLICT, "release_state"),
            AppError::NothingToRollBack(_) => (CONFLICT, "nothing_to_roll_back"),
            AppError::Manifest(source) => return invalid("manifest_invalid", "/manifest", source),
            AppError::Rules(source) => return invalid("rules_invalid", "/rules", source),
            AppError::ManifestEmpty => (UNPROCESSABLE, "manifest_empty"),
            AppError::SizeMismatch { files } => {
                let refusal = Self::new(UNPROCESSABLE, "size_mismatch", &error);
                return files.iter().fold(refusal, |refusal, file| {
                    let (claimed, actual) = (file.claimed_bytes, file.actual_bytes);
                    let detail = format!("{}: {claimed} bytes claimed, {actual} stored", file.path);
                    refusal.with_field("/manifest", detail)
                });
            }
            AppError::PreviewTooLong(_) => (UNPROCESSABLE, "preview_too_long"),
            AppError::Duration { .. } => (UNPROCESSABLE, "duration_invalid"),
            AppError::MachineUnknown(_) => (NOT_FOUND, "machine_unknown"),
            AppError::EventsGone { .. } => (StatusCode::GONE, "events_gone"),
            AppError::EventsAhead { .. } => (CONFLICT, "events_ahead"),
            AppError::OperationUnknown => (NOT_FOUND, "operation_unknown"),
            AppError::WebhookUnknown => (NOT_FOUND, "webhook_unknown"),
            AppError::WebhookTarget(_) => (UNPROCESSABLE, "webhook_url"),
            AppError::TokenUnknown => (NOT_FOUND, "token_unknown"),
            AppError::Quota { what, .. } => {
                let pointer = if *what == "releases" { "" } else { "/manifest" };
                let refusal = Self::new(UNPROCESSABLE, "quota_exceeded", &error);
                return refusal.with_field(pointer, &error);
            }
            AppError::QuotaInvalid { what } => {
                let refusal = Self::new(UNPROCESSABLE, "quota_invalid", &error);
                return refusal.with_field(&format!("/quotas/{what}"), &error);
            }
            AppError::EditedMeanwhile => (StatusCode::PRECONDITION_FAILED, "edited_meanwhile"),
            AppError::TokenStronger(_) => (StatusCode::FORBIDDEN, "token_stronger"),
            AppError::TokenWider { .. } => (UNPROCESSABLE, "token_wider"),
            AppError::TokenPowerless => (UNPROCESSABLE, "token_powerless"),
            AppError::LastAdmin => (CONFLICT, "last_admin"),
            AppError::Text { .. } => (UNPROCESSABLE, "text_invalid"),
            AppError::TooMany { .. } => (UNPROCESSABLE, "too_many"),
            AppError::JoinRefused(_) => (StatusCode::UNAUTHORIZED, "join_refused"),
            AppError::ClockWrong { .. } => (UNPROCESSABLE, "clock_wrong"),
            AppError::MachineRemoved(_) => (StatusCode::FORBIDDEN, "machine_removed"),
            AppError::MachineDuplicate(_) => (CONFLICT, "machine_duplicate"),
            AppError::Nonsense(_) => (UNPROCESSABLE, "report_invalid"),
            AppError::CaRotating => (CONFLICT, "ca_rotating"),
            AppError::JoinName { .. } => (StatusCode::UNAUTHORIZED, "join_name"),
            AppError::Ca(CaError::Request(_)) => (UNPROCESSABLE, "csr_invalid"),
            AppError::Ca(source) => return Self::internal(source),
            AppError::Store(StoreError::Full(_)) => (FULL, "store_full"),
            AppError::Store(StoreError::ReadOnly(_)) => (FULL, "store_read_only"),
            AppError::Store(StoreError::Locked(_) | StoreError::Unreachable(_)) => {
                (StatusCode::SERVICE_UNAVAILABLE, "database_unavailable")
            }
            AppError::Store(StoreError::LeadLost) => (StatusCode::SERVICE_UNAVAILABLE, "lead_lost"),
            AppError::Store(source) => return Self::internal(source),
            AppError::File(source) => return Self::internal(source),
            AppError::Pack(source) => return Self::internal(&**source),
            AppError::Bucket(source) => {
                let why = causes(&**source);
                tracing::error!(error = why, "the bucket cannot be used");
                let why = format!("{error}: {why}");
                return Self::new(StatusCode::SERVICE_UNAVAILABLE, "bucket_unavailable", why);
            }
            AppError::Insert(_) | AppError::Read(_) => return Self::of_blobs(error),
        };
        Self::new(status, code, error)
    }
}

/// A document that was refused; the cause is what the sender must know.
fn invalid(code: &'static str, pointer: &str, source: &(dyn Error + 'static)) -> Refusal {
    let why = causes(source);
    Refusal::new(UNPROCESSABLE, code, &why).with_field(pointer, why)
}

impl Refusal {
    fn of_blobs(error: AppError) -> Self {
        match error {
            AppError::Insert(error) => error.into(),
            AppError::Read(error) => error.into(),
            error => Self::internal(&error),
        }
    }
}

impl From<InsertError> for Refusal {
    fn from(error: InsertError) -> Self {
        let (status, code) = match &error {
            InsertError::Mismatch { .. } => (UNPROCESSABLE, "digest_mismatch"),
            InsertError::Full { .. } => (FULL, "store_full"),
            // Another push, or this one before its connection broke, is in the middle of a part.
            InsertError::Busy { .. } => (StatusCode::SERVICE_UNAVAILABLE, "upload_busy"),
            InsertError::Receive { .. } => (StatusCode::BAD_REQUEST, "body_broken"),
            InsertError::Write { source } => return source.into(),
            // Everything else is about what was sent.
            _ => {
                return Self::new(UNPROCESSABLE, "pack_invalid", causes(&error));
            }
        };
        Self::new(status, code, causes(&error))
    }
}

impl From<&FileError> for Refusal {
    fn from(error: &FileError) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        if matches!(error.source.kind(), StorageFull | QuotaExceeded) {
            return Self::new(FULL, "store_full", "control's disk is full; make room on it");
        }
        Self::internal(error)
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Missing { .. } => Self::new(NOT_FOUND, "blob_unknown", error),
            error => Self::internal(&error),
        }
    }
}

impl From<BlobError> for Refusal {
    fn from(error: BlobError) -> Self {
        AppError::from(error).into()
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        AppError::from(error).into()
    }
}
