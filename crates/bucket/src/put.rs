//! How does an object get into the bucket, whatever its length?
//!
//! Small ones with one request. Large ones in parts, which the caller sends: it remembers which have
//! arrived, so that nobody has to send them again. Every request is tried a few times by the client.
//! Afterwards the bucket is asked how long the object is: only what it has is told to be there.

use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata as _, SdkError},
    primitives::ByteStream,
    types::{CompletedMultipartUpload, CompletedPart},
};
use futures_util::FutureExt as _;

use crate::{Bucket, Cause, Content, Error};

/// Objects of more bytes are put in parts of so many: 10,000 of them are more than any blob has.
pub const PART_BYTES: u64 = 8 << 20;
/// What S3 takes.
const PARTS_MAX: u64 = 10_000;

/// A part that has arrived. The first one is number 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub number: u32,
    /// What the server calls it.
    pub etag: Option<String>,
}

impl Bucket {
    /// Puts a small object that nobody has put before, and sees that it is there.
    pub async fn put(&self, key: &str, content: &Content) -> Result<(), Error> {
        let bytes = self.read(key, content, 0, content.bytes()).await?;
        let request = self.client.put_object().bucket(&self.name).key(self.full(key));
        let put = request.body(ByteStream::from(bytes)).send().boxed().await;
        put.map_err(|error| self.failed(format!("put {key}"), &error))?;
        self.see(key, content.bytes()).await
    }

    /// Begins an upload in parts; the name that the server gives it.
    pub async fn begin(&self, key: &str) -> Result<String, Error> {
        let begin = self.client.create_multipart_upload().bucket(&self.name).key(self.full(key));
        let begun = begin.send().boxed().await;
        let begun = begun.map_err(|error| self.failed(format!("put {key} in parts"), &error))?;
        let id = begun.upload_id().map(str::to_owned);
        id.ok_or_else(|| self.refused(key, Cause::Refused, "the upload was given no name"))
    }

    /// Sends part `number` of `content`, of [`PART_BYTES`] unless it is the last.
    pub async fn put_part(
        &self,
        key: &str,
        id: &str,
        content: &Content,
        number: u32,
    ) -> Result<Part, Error> {
        let offset = u64::from(number.saturating_sub(1)) * PART_BYTES;
        let length = PART_BYTES.min(content.bytes().saturating_sub(offset));
        let bytes = self.read(key, content, offset, length).await?;
        let request = self.client.upload_part().bucket(&self.name).key(self.full(key));
        let request = request.upload_id(id).part_number(i32::try_from(number).unwrap_or(i32::MAX));
        let put = request.body(ByteStream::from(bytes)).send().boxed().await;
        let put =
            put.map_err(|error| self.failed(format!("put part {number} of {key}"), &error))?;
        Ok(Part { number, etag: put.e_tag().map(str::to_owned) })
    }

    /// Makes an object of `bytes` of the parts, which are in order, and sees that it is there.
    pub async fn put_together(
        &self,
        key: &str,
        id: &str,
        parts: &[Part],
        bytes: u64,
    ) -> Result<(), Error> {
        let completed = parts.iter().map(|part| {
            let number = i32::try_from(part.number).unwrap_or(i32::MAX);
            CompletedPart::builder().part_number(number).set_e_tag(part.etag.clone()).build()
        });
        let parts =
            CompletedMultipartUpload::builder().set_parts(Some(completed.collect())).build();
        let request = self.client.complete_multipart_upload().bucket(&self.name);
        let request = request.key(self.full(key)).upload_id(id).multipart_upload(parts);
        let completed = request.send().boxed().await;
        let is_unreadable = |error: &SdkError<_, HttpResponse>| {
            let status = error.raw_response().map(|response| response.status());
            status.is_some_and(|status| status.is_success()) && error.code().is_none()
        };
        match completed {
            // Some servers say yes in words that the SDK does not know; it is looked for anyway.
            Err(error) if !is_unreadable(&error) => {
                Err(self.failed(format!("put {key} together"), &error))
            }
            _ => self.see(key, bytes).await,
        }
    }

    /// How many parts an object of `bytes` has.
    pub fn parts_of(&self, key: &str, bytes: u64) -> Result<u32, Error> {
        let count = bytes.div_ceil(PART_BYTES);
        match u32::try_from(count) {
            Ok(parts) if count <= PARTS_MAX => Ok(parts),
            _ => {
                let detail = format!("{bytes} bytes are more than {PARTS_MAX} parts");
                Err(self.refused(key, Cause::Refused, detail))
            }
        }
    }

    /// Sees that the object is there and has so many bytes.
    async fn see(&self, key: &str, bytes: u64) -> Result<(), Error> {
        match self.head(key).await? {
            Some(there) if there == bytes => Ok(()),
            Some(there) => {
                let detail = format!("{bytes} bytes were put and {there} are there");
                Err(self.refused(key, Cause::Damaged, detail))
            }
            None => Err(self.refused(key, Cause::Damaged, "it was put and is not there")),
        }
    }

    async fn read(
        &self,
        key: &str,
        content: &Content,
        offset: u64,
        length: u64,
    ) -> Result<bytes::Bytes, Error> {
        let read = content.part(offset, length).await;
        read.map_err(|error| self.refused(key, Cause::Read, error))
    }

    fn refused(&self, key: &str, cause: Cause, detail: impl ToString) -> Error {
        Error::new(&self.name, format!("put {key}"), cause, detail)
    }
}
