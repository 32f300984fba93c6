//! How is a file sent: which form of it, how much of it, with which fields?
//!
//! [`Choice::make`] and [`decide`] are pure; [`file()`] then fetches the bytes that they ask for.

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use nigh_core::{
    blob::Store,
    http::{
        AcceptEncoding, ETag, RangeDecision, Representation, Verdict,
        multipart::Multipart,
        negotiate, precondition,
        range::{self, ByteRange},
    },
    release::{File, Served},
};
use nigh_proto::{pack::StoredCoding, variants::ContentCoding};

use crate::{
    body::{AnswerBody, Part},
    edge::Edge,
    load::Loaded,
    metrics::Cache,
    plain,
    shelf::{Found, From, Unavailable, Wanted},
};

/// Frames smaller than this save nothing worth a header.
const FRAME_SAVES_BYTES: u64 = 256;

/// The representation that was chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    pub(crate) wanted: Wanted,
    pub(crate) coding: Option<ContentCoding>,
    pub(crate) etag: ETag,
    /// Bytes on the wire.
    pub(crate) size_bytes: u64,
}

impl Choice {
    /// The file as it is.
    fn identity(file: &File<'_>) -> Self {
        let (digest, size_bytes) = (*file.digest(), file.size_bytes());
        Choice {
            wanted: Wanted { digest, size_bytes, is_stored_frame: false },
            coding: None,
            etag: ETag::new(&digest, None),
            size_bytes,
        }
    }

    /// The form that the client likes best. Ranges are of the file as it is, so that parts that
    /// were fetched at different times fit together.
    fn make(store: &Store, file: &File<'_>, headers: &HeaderMap) -> Self {
        let identity = Self::identity(file);
        if !file.is_negotiable()
            || headers.contains_key(header::RANGE)
            || !headers.contains_key(header::ACCEPT_ENCODING)
        {
            return identity;
        }
        let accepted = AcceptEncoding::parse(headers);
        let frame = stored_frame(store, file, &accepted);
        let coding = accepted.choose(file.size_bytes(), file.forms().chain(frame));
        let Some(coding) = coding else { return identity };
        match file.variants().iter().find(|variant| variant.coding == coding) {
            Some(variant) => Choice {
                wanted: Wanted {
                    digest: variant.digest,
                    size_bytes: variant.size_bytes,
                    is_stored_frame: false,
                },
                coding: Some(coding),
                etag: ETag::new(&variant.digest, None),
                size_bytes: variant.size_bytes,
            },
            None => Choice {
                wanted: Wanted { is_stored_frame: true, ..identity.wanted },
                coding: Some(coding),
                // Its bytes have no digest of their own; ranges are never of it.
                etag: ETag::new(file.digest(), Some(coding)),
                size_bytes: frame.map_or(file.size_bytes(), |frame| frame.size_bytes),
            },
        }
    }
}

/// The zstd frame that a packed blob lies in, where no variant is better.
fn stored_frame(
    store: &Store,
    file: &File<'_>,
    accepted: &AcceptEncoding,
) -> Option<negotiate::Form> {
    let is_wanted = accepted.weight(Some(ContentCoding::Zstd)) > 0
        && file.variants().iter().all(|variant| variant.coding != ContentCoding::Zstd);
    let stat = is_wanted.then(|| store.stat(file.digest())).flatten()?;
    let is_frame = stat.coding == StoredCoding::Zstd && !stat.is_loose;
    let is_worth_it = stat.stored_len + FRAME_SAVES_BYTES < stat.raw_len;
    (is_frame && is_worth_it)
        .then_some(negotiate::Form { coding: ContentCoding::Zstd, size_bytes: stat.stored_len })
}

/// How much of a representation is sent.
#[derive(Debug)]
enum Extent {
    NotModified,
    Failed,
    Whole,
    One(ByteRange),
    Many(Multipart),
    Unsatisfiable,
}

/// Decides preconditions and ranges, in the order of RFC 9110, section 13.2.2.
fn decide(
    method: &Method,
    headers: &HeaderMap,
    served: &Served<'_>,
    choice: &Choice,
    modified_unix_s: u64,
) -> Extent {
    if served.status != 200 {
        return Extent::Whole;
    }
    let selected = Representation { etag: choice.etag, modified_unix_s };
    match precondition::evaluate(headers, &selected) {
        Verdict::NotModified => return Extent::NotModified,
        Verdict::Failed => return Extent::Failed,
        Verdict::Proceed => {}
    }
    if *method != Method::GET {
        return Extent::Whole;
    }
    match range::decide(headers, &selected, choice.size_bytes) {
        RangeDecision::Whole => Extent::Whole,
        RangeDecision::One(range) => Extent::One(range),
        RangeDecision::Unsatisfiable => Extent::Unsatisfiable,
        RangeDecision::Many(ranges) => {
            let content_type = served.content_type();
            let digest = &choice.wanted.digest;
            let multipart = Multipart::new(digest, content_type, &ranges, choice.size_bytes);
            if multipart.is_wasteful() { Extent::Whole } else { Extent::Many(multipart) }
        }
    }
}

/// An answer with a file, and what it took.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) response: Response<AnswerBody>,
    pub(crate) cache: Cache,
    pub(crate) coding: Option<ContentCoding>,
    pub(crate) saved_bytes: u64,
}

/// Answers with `served`.
pub(crate) async fn file(
    edge: &Edge,
    loaded: &Loaded,
    served: &Served<'_>,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Sent, Unavailable> {
    let choice = Choice::make(edge.shelf.store(), &served.file, headers);
    match send(edge, loaded, served, method, headers, choice).await {
        // A variant is derived data: without it the file goes out as it is.
        Err(Unavailable) if choice.coding.is_some() => {
            let identity = Choice::identity(&served.file);
            send(edge, loaded, served, method, headers, identity).await
        }
        sent => sent,
    }
}

async fn send(
    edge: &Edge,
    loaded: &Loaded,
    served: &Served<'_>,
    method: &Method,
    headers: &HeaderMap,
    choice: Choice,
) -> Result<Sent, Unavailable> {
    let extent = decide(method, headers, served, &choice, loaded.modified_unix_s);
    let (body, cache) = body(edge, method, &choice, &extent).await?;
    let mut response = Response::new(body);
    *response.status_mut() = status(served.status, &extent);
    *response.headers_mut() = fields(edge, loaded, served, &choice, &extent);
    let is_whole = matches!(extent, Extent::Whole) && *method == Method::GET;
    let saved_bytes = if is_whole && choice.coding.is_some() {
        served.file.size_bytes().saturating_sub(choice.size_bytes)
    } else {
        0
    };
    Ok(Sent { response, cache, coding: choice.coding, saved_bytes })
}

fn status(served: u16, extent: &Extent) -> StatusCode {
    match extent {
        Extent::NotModified => StatusCode::NOT_MODIFIED,
        Extent::Failed => StatusCode::PRECONDITION_FAILED,
        Extent::One(_) | Extent::Many(_) => StatusCode::PARTIAL_CONTENT,
        Extent::Unsatisfiable => StatusCode::RANGE_NOT_SATISFIABLE,
        Extent::Whole => StatusCode::from_u16(served).unwrap_or(StatusCode::OK),
    }
}

async fn body(
    edge: &Edge,
    method: &Method,
    choice: &Choice,
    extent: &Extent,
) -> Result<(AnswerBody, Cache), Unavailable> {
    let is_bodiless =
        matches!(extent, Extent::NotModified | Extent::Failed | Extent::Unsatisfiable);
    if is_bodiless || *method == Method::HEAD {
        return Ok((AnswerBody::empty(), Cache::None));
    }
    let (found, from) = edge.shelf.get(choice.wanted).await?;
    let cache = match from {
        From::Memory => Cache::Memory,
        From::Disk => Cache::Disk,
    };
    let body = match (extent, &found) {
        (Extent::One(range), _) => AnswerBody::parts([part(&found, range.clone())]),
        (Extent::Many(multipart), _) => {
            let parts = multipart.parts().iter().flat_map(|one| {
                [Part::Bytes(one.head.clone().into()), part(&found, one.range.clone())]
            });
            AnswerBody::parts(parts.chain([Part::Bytes(multipart.tail().into())]))
        }
        (_, Found::Memory(bytes)) => AnswerBody::bytes(bytes.clone()),
        (_, Found::File(_)) => AnswerBody::parts([part(&found, 0..choice.size_bytes)]),
    };
    Ok((body, cache))
}

fn part(found: &Found, range: ByteRange) -> Part {
    match found {
        Found::File(file) => Part::File { file: file.clone(), range },
        Found::Memory(bytes) => {
            // The manifest's size may be a lie; what is not there cannot be sent.
            let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            Part::Bytes(bytes.slice(at(range.start)..at(range.end)))
        }
    }
}

const BYTES: HeaderValue = HeaderValue::from_static("bytes");
const ACCEPT_ENCODING: HeaderValue = HeaderValue::from_static("accept-encoding");

fn fields(
    edge: &Edge,
    loaded: &Loaded,
    served: &Served<'_>,
    choice: &Choice,
    extent: &Extent,
) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(16);
    headers.insert(header::SERVER, plain::SERVER);
    headers.insert(header::ETAG, choice.etag.to_value());
    headers.insert(header::LAST_MODIFIED, loaded.last_modified.clone());
    if served.file.is_negotiable() {
        headers.insert(header::VARY, ACCEPT_ENCODING);
    }
    headers.insert("cache-status", edge.cache_status.hit());
    plain::append(&mut headers, &served.fields);
    if matches!(extent, Extent::NotModified) {
        return headers;
    }
    headers.insert(header::ACCEPT_RANGES, BYTES);
    if let Some(coding) = choice.coding
        && matches!(extent, Extent::Whole)
    {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.token()));
    }
    add_extent(&mut headers, served, choice, extent);
    headers
}

fn add_extent(headers: &mut HeaderMap, served: &Served<'_>, choice: &Choice, extent: &Extent) {
    let size = choice.size_bytes;
    let (length, content_type) = match extent {
        Extent::Whole => (size, Some(served.content_type().clone())),
        Extent::One(range) => {
            headers.insert(header::CONTENT_RANGE, range::content_range(range, size));
            (range.end - range.start, Some(served.content_type().clone()))
        }
        Extent::Many(multipart) => (multipart.content_length(), Some(multipart.content_type())),
        Extent::Unsatisfiable => {
            headers.insert(header::CONTENT_RANGE, range::content_range_unsatisfied(size));
            (0, None)
        }
        Extent::Failed | Extent::NotModified => (0, None),
    };
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if let Some(content_type) = content_type {
        headers.insert(header::CONTENT_TYPE, content_type);
    }
}
