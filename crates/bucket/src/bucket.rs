//! What can be done with objects?

use std::{ops::Range, time::Duration};

use aws_sdk_s3::{
    Client,
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
    presigning::PresigningConfig,
    types::{Delete, ObjectIdentifier},
};
use bytes::Bytes;
use futures_util::{FutureExt as _, Stream, stream};

use crate::{BucketConfig, Cause, Error, OpenError, client};

// The SDK's futures are boxed: those that wait for them would be types of hundreds of layers.

/// Objects removed with one request.
const DELETE_MAX: usize = 500;

/// A bucket, or the part of it below a prefix; cheap to clone. Names of objects are relative to the
/// prefix, and nothing outside of it is ever touched.
#[derive(Clone, Debug)]
pub struct Bucket {
    pub(crate) client: Client,
    pub(crate) name: String,
    pub(crate) prefix: String,
    ca_pem: Option<String>,
}

/// An object as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub key: String,
    pub bytes: u64,
}

/// An upload in parts that was begun and not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    pub key: String,
    pub id: String,
    pub begun_unix_s: i64,
}

/// The bytes of an object, as they come.
#[derive(Debug)]
pub struct Body {
    stream: aws_sdk_s3::primitives::ByteStream,
    /// What was asked for and is still to come.
    left: u64,
    bucket: String,
    action: String,
}

impl Bucket {
    /// A bucket as it is configured. Asks nobody for anything yet.
    ///
    /// # Errors
    ///
    /// When the configuration can never work.
    pub async fn open(config: &BucketConfig) -> Result<Self, OpenError> {
        client::check(config)?;
        let ca_pem = client::ca_pem(config)?;
        let client = client::connect(config, ca_pem.as_deref()).await?;
        Ok(Self { client, name: config.name.clone(), prefix: config.prefix.clone(), ca_pem })
    }

    /// The bucket's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The CA of the endpoint, when no public one vouches for it.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// The length of the object, `None` when there is none.
    pub async fn head(&self, key: &str) -> Result<Option<u64>, Error> {
        let asked =
            self.client.head_object().bucket(&self.name).key(self.full(key)).send().boxed().await;
        match asked {
            Ok(head) => Ok(Some(unsigned(head.content_length()))),
            Err(error) => match self.failed(format!("look for {key}"), &error) {
                error if error.cause == Cause::Missing => Ok(None),
                error => Err(error),
            },
        }
    }

    /// The bytes of `range` of an object, which is not empty.
    pub async fn get(&self, key: &str, range: Range<u64>) -> Result<Body, Error> {
        let action = format!("get {key}");
        let Range { start, end } = range;
        let request = self.client.get_object().bucket(&self.name).key(self.full(key));
        let last = end.saturating_sub(1);
        let request = request.range(format!("bytes={start}-{last}"));
        let answer =
            request.send().boxed().await.map_err(|error| self.failed(action.clone(), &error))?;
        let left = end - start;
        if answer.content_length().map(unsigned_of) != Some(left) {
            let detail =
                format!("{left} bytes were asked for and {:?} are sent", answer.content_length());
            return Err(Error::new(&self.name, action, Cause::Damaged, detail));
        }
        Ok(Body { stream: answer.body, left, bucket: self.name.clone(), action })
    }

    /// The whole of a small object, `None` when there is none.
    pub async fn get_small(&self, key: &str, bytes_max: u64) -> Result<Option<Bytes>, Error> {
        let action = format!("get {key}");
        let request = self.client.get_object().bucket(&self.name).key(self.full(key));
        let answer = match request.send().boxed().await {
            Ok(answer) => answer,
            Err(error) => match self.failed(action, &error) {
                error if error.cause == Cause::Missing => return Ok(None),
                error => return Err(error),
            },
        };
        let left = unsigned(answer.content_length());
        if left > bytes_max {
            let detail = format!("it has {left} bytes, more than {bytes_max}");
            return Err(Error::new(&self.name, action, Cause::Refused, detail));
        }
        let body = Body { stream: answer.body, left, bucket: self.name.clone(), action };
        body.collect().await.map(Some)
    }

    /// Removes objects; those that are gone already are no error.
    pub async fn remove(&self, keys: &[String]) -> Result<(), Error> {
        for keys in keys.chunks(DELETE_MAX) {
            let action = || format!("remove {} objects", keys.len());
            let named = |key: &String| ObjectIdentifier::builder().key(self.full(key)).build().ok();
            let objects = keys.iter().filter_map(named).collect();
            let delete = Delete::builder().set_objects(Some(objects)).quiet(true).build();
            let delete =
                delete.map_err(|error| Error::new(&self.name, action(), Cause::Refused, error))?;
            let request = self.client.delete_objects().bucket(&self.name).delete(delete);
            let removed =
                request.send().boxed().await.map_err(|error| self.failed(action(), &error))?;
            if let Some(error) = removed.errors().first() {
                let detail = format!(
                    "{}: {}",
                    error.key().unwrap_or_default(),
                    error.code().unwrap_or("no reason given")
                );
                return Err(Error::new(&self.name, action(), Cause::Refused, detail));
            }
        }
        Ok(())
    }

    /// A page of the objects whose names come after `after`, in order; empty at the end.
    pub async fn list(&self, after: Option<&str>) -> Result<Vec<Listed>, Error> {
        let request = self.client.list_objects_v2().bucket(&self.name).prefix(&self.prefix);
        let request = request.set_start_after(after.map(|after| self.full(after)));
        let page = request.send().boxed().await;
        let page = page.map_err(|error| self.failed("list objects".to_owned(), &error))?;
        let listed = page.contents().iter().filter_map(|object| {
            let key = object.key()?.strip_prefix(&self.prefix)?.to_owned();
            Some(Listed { key, bytes: unsigned(object.size()) })
        });
        Ok(listed.collect())
    }

    /// Uploads in parts that were begun and not ended, as many as one page has.
    pub async fn uploads(&self) -> Result<Vec<Upload>, Error> {
        let request = self.client.list_multipart_uploads().bucket(&self.name);
        let page = request.prefix(&self.prefix).send().boxed().await;
        let page = page.map_err(|error| self.failed("list uploads".to_owned(), &error))?;
        let uploads = page.uploads().iter().filter_map(|upload| {
            Some(Upload {
                key: upload.key()?.strip_prefix(&self.prefix)?.to_owned(),
                id: upload.upload_id()?.to_owned(),
                begun_unix_s: upload.initiated()?.secs(),
            })
        });
        Ok(uploads.collect())
    }

    /// Whether an upload can be gone on with, as far as the server tells. One that it does not know is
    /// asked about first: a server may break off while a part for it is still being sent.
    pub async fn knows_upload(&self, key: &str, id: &str) -> Result<bool, Error> {
        let request = self.client.list_parts().bucket(&self.name).key(self.full(key));
        let asked = request.upload_id(id).max_parts(1).send().boxed().await;
        match asked.map_err(|error| self.failed(format!("look for the parts of {key}"), &error)) {
            Ok(_) => Ok(true),
            Err(error) if error.cause == Cause::Missing => Ok(false),
            Err(error) if error.cause.is_passing() => Err(error),
            // It does not say, or not to this key: sending a part tells.
            Err(_) => Ok(true),
        }
    }

    /// Gives up an upload; its parts are removed.
    pub async fn abort(&self, key: &str, id: &str) -> Result<(), Error> {
        let request = self.client.abort_multipart_upload().bucket(&self.name);
        let aborted = request.key(self.full(key)).upload_id(id).send().boxed().await;
        match aborted.map_err(|error| self.failed(format!("abort {key}"), &error)) {
            Err(error) if error.cause != Cause::Missing => Err(error),
            _ => Ok(()),
        }
    }

    /// A URL that anyone may `GET` the object with for `expires_in`, any range of it.
    pub async fn url(&self, key: &str, expires_in: Duration) -> Result<String, Error> {
        let action = format!("make a URL for {key}");
        let expires = PresigningConfig::expires_in(expires_in)
            .map_err(|error| Error::new(&self.name, action.clone(), Cause::Refused, error))?;
        let request = self.client.get_object().bucket(&self.name).key(self.full(key));
        let signed = request.presigned(expires).boxed().await;
        Ok(signed.map_err(|error| self.failed(action, &error))?.uri().to_owned())
    }

    pub(crate) fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    pub(crate) fn failed<E>(&self, action: String, error: &SdkError<E, HttpResponse>) -> Error
    where
        E: std::error::Error + ProvideErrorMetadata + std::fmt::Debug + 'static,
    {
        Error::of_sdk(&self.name, action, error)
    }
}

impl Body {
    /// The next piece, `None` at the end. Fewer bytes than were asked for are an error.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        match self.stream.next().await {
            Some(Ok(piece)) if piece.len() as u64 <= self.left => {
                self.left -= piece.len() as u64;
                Ok(Some(piece))
            }
            Some(Ok(_)) => Err(self.failed(Cause::Damaged, "more was sent than was asked for")),
            Some(Err(error)) => Err(self.failed(Cause::Unreachable, error)),
            None if self.left > 0 => Err(self.failed(Cause::Unreachable, "the answer broke off")),
            None => Ok(None),
        }
    }

    /// All of it in memory.
    pub async fn collect(mut self) -> Result<Bytes, Error> {
        let mut bytes = Vec::with_capacity(usize::try_from(self.left).unwrap_or(0));
        while let Some(piece) = self.next().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.into())
    }

    /// The pieces as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, Error>> + Send + 'static {
        stream::try_unfold(self, |mut body| async move {
            Ok(body.next().await?.map(|piece| (piece, body)))
        })
    }

    fn failed(&self, cause: Cause, detail: impl ToString) -> Error {
        Error::new(&self.bucket, self.action.clone(), cause, detail)
    }
}

fn unsigned(bytes: Option<i64>) -> u64 {
    bytes.map_or(0, unsigned_of)
}

fn unsigned_of(bytes: i64) -> u64 {
    u64::try_from(bytes).unwrap_or(0)
}
