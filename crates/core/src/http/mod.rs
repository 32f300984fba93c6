//! What does RFC 9110 ask of an answer, given the fields of the request?
//!
//! Pure functions over header values: [`path`] reads a request's path, [`precondition`] decides
//! between 200, 304 and 412, [`range`] between 200, 206 and 416, [`multipart`] frames several
//! ranges, [`negotiate`] chooses a content coding, [`media`] names a file's type. None of them
//! fails on what a stranger may send: a field that cannot be read is ignored where the RFC says so
//! and refused where ignoring it would do harm.

pub mod cache_status;
pub mod etag;
pub mod media;
pub mod multipart;
pub mod negotiate;
pub mod path;
pub mod precondition;
pub mod range;

pub use cache_status::CacheStatus;
pub use etag::{ETag, ETagList};
pub use negotiate::AcceptEncoding;
pub use path::BadPath;
pub use precondition::{Representation, Verdict};
pub use range::{ByteRange, RangeDecision};
