//! `/v1/backup`: everything that control knows, in one file.

use axum::{
    body::Body,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use nigh_proto::api::{Problem, Scope};
use serde::Deserialize;

use super::{caller::Caller, page::Params, problem::Refusal};
use crate::{
    app::App,
    backup::{BackupError, MEDIA_TYPE},
    blobs::stream,
};

/// `?blobs=`.
#[derive(Debug, Deserialize)]
pub(crate) struct Wanted {
    /// Whether the blobs of all releases are in it.
    #[serde(default = "yes")]
    blobs: bool,
}

const fn yes() -> bool {
    true
}

/// Read a backup of one moment; pushes go on.
#[utoipa::path(get, path = "/v1/backup", tag = "fleet",
    params(("blobs" = Option<bool>, Query, description = "false: rows only; edges can give blobs back")),
    responses((status = 200, description = "a zstd stream, for `nigh restore`", content_type = "application/zstd"),
        (status = 403, body = Problem)))]
pub(crate) async fn read(
    State(app): State<App>,
    caller: Caller,
    Params(Wanted { blobs }): Params<Wanted>,
) -> Result<Response, Refusal> {
    caller.require_everywhere(Scope::Admin)?;
    let backup = app.back_up(blobs).await?;
    let (writer, body) = stream();
    app.blobs().send(move || backup.send(writer)).await;
    Ok(([(header::CONTENT_TYPE, MEDIA_TYPE)], Body::from_stream(body)).into_response())
}

impl From<BackupError> for Refusal {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Store(source) => source.into(),
            error => Self::internal(&error),
        }
    }
}
