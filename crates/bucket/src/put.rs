//! How does an object get into the bucket, whatever its length?
//!
//! Small ones with one request, large ones in parts of which a few are on their way at once. Every
//! request is tried a few times by the client. Afterwards the bucket is asked how long the object is:
//! only what it has is told to be there.

use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata as _, SdkError},
    primitives::ByteStream,
    types::{CompletedMultipartUpload, CompletedPart},
};
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};

use crate::{Bucket, Cause, Content, Error};

/// Objects of more bytes are put in parts of so many: 10,000 of them are more than any blob has.
const PART_BYTES: u64 = 8 << 20;
/// Parts of one object that are on their way at once, each in memory.
const PARTS_AT_ONCE: usize = 4;
/// What S3 takes.
const PARTS_MAX: u64 = 10_000;

impl Bucket {
    /// Puts an object that nobody has put before, and sees that it is there.
    pub async fn put(&self, key: &str, content: &Content) -> Result<(), Error> {
        if content.bytes() <= PART_BYTES {
            self.put_at_once(key, content).await?;
        } else {
            self.put_in_parts(key, content).await?;
        }
        match self.head(key).await? {
            Some(bytes) if bytes == content.bytes() => Ok(()),
            Some(bytes) => {
                let detail = format!("{} bytes were put and {bytes} are there", content.bytes());
                Err(self.refused(key, Cause::Damaged, detail))
            }
            None => Err(self.refused(key, Cause::Damaged, "it was put and is not there")),
        }
    }

    async fn put_at_once(&self, key: &str, content: &Content) -> Result<(), Error> {
        let bytes = self.part(key, content, 0, content.bytes()).await?;
        let request = self.client.put_object().bucket(&self.name).key(self.full(key));
        let put = request.body(ByteStream::from(bytes)).send().boxed().await;
        put.map(drop).map_err(|error| self.failed(format!("put {key}"), &error))
    }

    async fn put_in_parts(&self, key: &str, content: &Content) -> Result<(), Error> {
        let begin = self.client.create_multipart_upload().bucket(&self.name).key(self.full(key));
        let begun = begin.send().boxed().await;
        let begun = begun.map_err(|error| self.failed(format!("put {key} in parts"), &error))?;
        let Some(id) = begun.upload_id() else {
            return Err(self.refused(key, Cause::Refused, "the upload was given no name"));
        };
        let put = self.put_parts(key, id, content).await;
        if put.is_err() {
            // Best effort: a collection aborts what is left.
            if let Err(error) = self.abort(key, id).await {
                tracing::debug!(%error, "an upload in parts was left behind");
            }
        }
        put
    }

    async fn put_parts(&self, key: &str, id: &str, content: &Content) -> Result<(), Error> {
        let count = content.bytes().div_ceil(PART_BYTES);
        if count > PARTS_MAX {
            let detail = format!("{} bytes are more than {PARTS_MAX} parts", content.bytes());
            return Err(self.refused(key, Cause::Refused, detail));
        }
        let parts: Vec<CompletedPart> = stream::iter(0..count)
            .map(|number| self.put_part(key, id, content, number))
            .buffered(PARTS_AT_ONCE)
            .try_collect()
            .await?;
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = self.client.complete_multipart_upload().bucket(&self.name);
        let request = request.key(self.full(key)).upload_id(id).multipart_upload(parts);
        let completed = request.send().boxed().await;
        let is_unreadable = |error: &SdkError<_, HttpResponse>| {
            let status = error.raw_response().map(|response| response.status());
            status.is_some_and(|status| status.is_success()) && error.code().is_none()
        };
        match completed {
            // Some servers say yes in words that the SDK does not know; whoever puts looks anyway.
            Err(error) if is_unreadable(&error) => Ok(()),
            Err(error) => Err(self.failed(format!("put {key} together"), &error)),
            Ok(_) => Ok(()),
        }
    }

    async fn put_part(
        &self,
        key: &str,
        id: &str,
        content: &Content,
        number: u64,
    ) -> Result<CompletedPart, Error> {
        let offset = number * PART_BYTES;
        let bytes =
            self.part(key, content, offset, PART_BYTES.min(content.bytes() - offset)).await?;
        // Parts count from one.
        let number = i32::try_from(number + 1).unwrap_or(i32::MAX);
        let request = self.client.upload_part().bucket(&self.name).key(self.full(key));
        let request = request.upload_id(id).part_number(number).body(ByteStream::from(bytes));
        let put = request.send().boxed().await;
        let put =
            put.map_err(|error| self.failed(format!("put part {number} of {key}"), &error))?;
        let part = CompletedPart::builder().part_number(number);
        Ok(part.set_e_tag(put.e_tag().map(str::to_owned)).build())
    }

    async fn part(
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
