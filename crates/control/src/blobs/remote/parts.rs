//! How does a large object get into the bucket when control, or the bucket, stops in the middle?
//!
//! In parts. The database knows the upload before its first part is sent, and each part that has
//! arrived: whoever puts the same blob from the same folder again sends only what is missing. An upload
//! belongs to one folder, so that two controls never go on with the same. What nobody goes on with
//! is given up at once where that is known, and by a collection when it is a day old.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use nigh_bucket::{Cause, Content, Error, PART_BYTES, Part};
use nigh_proto::Digest;

use super::Remote;
use crate::{
    blobs::BlobError,
    store::{StoreError, UploadRow},
};

/// Parts of one object that are on their way at once, each in memory.
const PARTS_AT_ONCE: usize = 4;
/// Of an upload that nothing was heard of for so long, parts may be gone.
pub(super) const GIVEN_UP_MS: i64 = 24 * 60 * 60 * 1000;
/// One that cannot be given up either is the server's own after so long.
const FORGOTTEN_MS: i64 = 7 * GIVEN_UP_MS;

impl Remote {
    /// Puts an object, however large, and gives its name: a new one, or that of an upload of the same
    /// blob that stopped. It has no row yet.
    pub(super) async fn put_object(
        &self,
        folder: &str,
        content: &Content,
        digest: Option<Digest>,
    ) -> Result<String, BlobError> {
        if content.bytes() <= PART_BYTES {
            let key = self.new_key(folder);
            self.bucket.put(&key, content).await?;
            return Ok(key);
        }
        if let Some(upload) = self.stopped(content, digest).await? {
            // Control, or another one with a copy of this folder, stopped before it noted that.
            if self.bucket.head(&upload.object).await? == Some(upload.bytes) {
                return Ok(upload.object);
            }
            if self.bucket.knows_upload(&upload.object, &upload.upload).await? {
                match self.send_missing(&upload, content).await {
                    Err(BlobError::Bucket(error)) if !error.cause.is_passing() => {
                        tracing::info!(%error, "an upload cannot be gone on with");
                    }
                    ended => return ended.map(|()| upload.object),
                }
            }
            self.give_up(&upload).await?;
        }
        let upload = self.begin(folder, content, digest).await?;
        let ended = self.send_missing(&upload, content).await;
        if let Err(error) = &ended
            && (digest.is_none() || !may_go_on(error))
        {
            self.give_up(&upload).await?;
        }
        ended.map(|()| upload.object)
    }

    /// The upload of this blob that stopped, if its parts are as they would be sent now.
    async fn stopped(
        &self,
        content: &Content,
        digest: Option<Digest>,
    ) -> Result<Option<UploadRow>, BlobError> {
        let Some(digest) = digest else { return Ok(None) };
        let Some(upload) = self.database.bucket_upload(&digest, &self.folder_name).await? else {
            return Ok(None);
        };
        let is_alike = upload.part_bytes == PART_BYTES && upload.bytes == content.bytes();
        let is_young = upload.touched_at > self.now().plus_ms(-GIVEN_UP_MS);
        if is_alike && is_young && self.touch(&upload).await? {
            return Ok(Some(upload));
        }
        self.give_up(&upload).await?;
        Ok(None)
    }

    async fn begin(
        &self,
        folder: &str,
        content: &Content,
        digest: Option<Digest>,
    ) -> Result<UploadRow, BlobError> {
        let object = self.new_key(folder);
        let row = UploadRow {
            upload: self.bucket.begin(&object).await?,
            object,
            digest,
            folder: self.folder_name.clone(),
            bytes: content.bytes(),
            part_bytes: PART_BYTES,
            touched_at: self.now(),
        };
        let mut tx = self.database.begin().await?;
        tx.insert_upload(&row).await?;
        tx.commit().await?;
        Ok(row)
    }

    /// Sends the parts that have not arrived and makes an object of all.
    async fn send_missing(&self, upload: &UploadRow, content: &Content) -> Result<(), BlobError> {
        let UploadRow { object, upload: id, bytes, .. } = upload;
        let count = self.bucket.parts_of(object, *bytes)?;
        let mut parts = self.database.bucket_parts(object).await?;
        let missing: Vec<u32> =
            (1..=count).filter(|number| !parts.iter().any(|part| part.number == *number)).collect();
        let sent: Vec<Part> = stream::iter(missing)
            .map(|number| async move {
                let part = self.bucket.put_part(object, id, content, number).await?;
                self.arrived(object, &part).await?;
                Ok::<Part, BlobError>(part)
            })
            .buffer_unordered(PARTS_AT_ONCE)
            .try_collect()
            .await?;
        parts.extend(sent);
        parts.sort_unstable_by_key(|part| part.number);
        Ok(self.bucket.put_together(object, id, &parts, *bytes).await?)
    }

    /// Notes that a part need not be sent again.
    async fn arrived(&self, object: &str, part: &Part) -> Result<(), BlobError> {
        let mut tx = self.database.begin().await?;
        if !tx.touch_upload(object, self.now()).await? {
            let gone = "a collection gave the upload up";
            return Err(self.ended(object, gone).into());
        }
        tx.insert_part(object, part).await?;
        Ok(tx.commit().await?)
    }

    async fn touch(&self, upload: &UploadRow) -> Result<bool, StoreError> {
        let mut tx = self.database.begin().await?;
        let is_there = tx.touch_upload(&upload.object, self.now()).await?;
        tx.commit().await?;
        Ok(is_there)
    }

    /// Nobody goes on with this upload: the bucket drops its parts, now or when a collection asks again.
    async fn give_up(&self, upload: &UploadRow) -> Result<(), BlobError> {
        let mut tx = self.database.begin().await?;
        tx.give_up_upload(&upload.object).await?;
        tx.commit().await?;
        if let Err(error) = self.drop_parts(upload).await {
            tracing::debug!(%error, "an upload in parts was left behind");
        }
        Ok(())
    }

    async fn drop_parts(&self, upload: &UploadRow) -> Result<(), BlobError> {
        self.bucket.abort(&upload.object, &upload.upload).await?;
        self.forget_upload(&upload.object).await
    }

    pub(super) async fn forget_upload(&self, object: &str) -> Result<(), BlobError> {
        let mut tx = self.database.begin().await?;
        tx.forget_upload(object).await?;
        Ok(tx.commit().await?)
    }

    /// Gives up what nobody went on with for a day, and drops what was given up before.
    pub(super) async fn sweep_uploads(&self) -> Result<(), BlobError> {
        let now = self.now();
        for upload in self.database.bucket_uploads().await? {
            if upload.touched_at > now.plus_ms(-GIVEN_UP_MS) {
                continue;
            }
            match self.drop_parts(&upload).await {
                Err(BlobError::Bucket(error)) if !error.cause.is_passing() => {
                    tracing::warn!(
                        %error, object = upload.object,
                        "the parts of an upload that stopped stay in the bucket; let control's key abort multipart uploads"
                    );
                    if upload.touched_at < now.plus_ms(-FORGOTTEN_MS) {
                        self.forget_upload(&upload.object).await?;
                    }
                }
                dropped => dropped?,
            }
        }
        Ok(())
    }

    fn ended(&self, object: &str, detail: &str) -> Error {
        Error {
            action: format!("put {object}"),
            bucket: self.bucket.name().to_owned(),
            cause: Cause::Missing,
            detail: detail.to_owned(),
        }
    }
}

/// Whether the same upload may well be gone on with later.
fn may_go_on(error: &BlobError) -> bool {
    !matches!(error, BlobError::Bucket(error) if !error.cause.is_passing())
}
