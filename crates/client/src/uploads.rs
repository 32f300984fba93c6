//! Blobs on their way to control: small ones in packs, large ones in parts.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use nigh_proto::{
    Digest,
    api::{PACK_MEDIA_TYPE, PackStored, UPLOAD_LENGTH, UPLOAD_OFFSET},
};

use crate::{Body, Call, CallError, Client, line::Line};

/// How long one pack or part may take: 64 MiB at two megabits per second.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(300);

/// How far control is with a large blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobUpload {
    /// Whole and verified.
    Stored,
    /// So many bytes are there; the next part begins here.
    Partial { offset: u64 },
}

impl Client {
    /// `POST /v1/packs`; the same pack twice does no harm.
    pub async fn upload_pack(&self, pack: Bytes) -> Result<PackStored, CallError> {
        let body = Body::Bytes { media_type: PACK_MEDIA_TYPE, bytes: pack };
        let call = Call::new(Method::POST, &["v1", "packs"]).body(body);
        self.call(&call.timeout(UPLOAD_TIMEOUT)).await
    }

    /// `HEAD /v1/blobs/{digest}`: how far is control with this blob?
    pub async fn blob_upload(&self, digest: &Digest) -> Result<BlobUpload, CallError> {
        let digest = digest.to_string();
        let call = Call::new(Method::HEAD, &["v1", "blobs", &digest]);
        let foreign = |url, status: StatusCode| CallError::Foreign { url, status: status.as_u16() };
        let looked = async |line: &Line| {
            let answer = self.send(line, &call).await?;
            match answer.status {
                status if status.is_server_error() => Err(foreign(answer.url, status)),
                _ => Ok(answer),
            }
        };
        let answer = self.patiently(&call, looked).await?;
        match answer.status {
            StatusCode::OK => Ok(BlobUpload::Stored),
            StatusCode::NOT_FOUND => {
                Ok(BlobUpload::Partial { offset: offset(&answer.headers).unwrap_or(0) })
            }
            // A `HEAD` has no body that could say why; the `PUT` that follows a 401 would.
            status => Err(foreign(answer.url, status)),
        }
    }

    /// `PUT /v1/blobs/{digest}`: the part of a large blob that begins at `from`.
    ///
    /// When control stands elsewhere, the answer says where. Not repeated here: after a broken
    /// connection only [`blob_upload`](Self::blob_upload) knows how much arrived.
    pub async fn upload_part(
        &self,
        digest: &Digest,
        length: u64,
        from: u64,
        part: Bytes,
    ) -> Result<BlobUpload, CallError> {
        let digest = digest.to_string();
        let body = Body::Bytes { media_type: "application/octet-stream", bytes: part };
        let call = Call::new(Method::PUT, &["v1", "blobs", &digest])
            .header(HeaderName::from_static(UPLOAD_LENGTH), HeaderValue::from(length))
            .header(HeaderName::from_static(UPLOAD_OFFSET), HeaderValue::from(from))
            .body(body)
            .timeout(UPLOAD_TIMEOUT)
            .once();
        let answer = self.answer(&call).await?;
        match (answer.status, offset(&answer.headers)) {
            (StatusCode::CREATED | StatusCode::OK, _) => Ok(BlobUpload::Stored),
            (StatusCode::ACCEPTED | StatusCode::CONFLICT, Some(offset)) => {
                Ok(BlobUpload::Partial { offset })
            }
            _ => Err(crate::call::refusal(answer)),
        }
    }
}

fn offset(headers: &HeaderMap) -> Option<u64> {
    headers.get(UPLOAD_OFFSET)?.to_str().ok()?.parse().ok()
}
