//! How are bytes kept in a bucket that speaks S3?
//!
//! [`Bucket`] puts, gets, lists and removes objects and makes URLs that others may fetch one object
//! with for a while. It says [why](Error) something could not be done in the words of a caller, not
//! of S3's many dialects. The SDK stays inside this crate.
//!
//! An object is put once and never replaced: names are the caller's to make unique. Nothing rests
//! on conditional puts, which some servers ignore and others only promise.

mod bucket;
mod client;
mod config;
mod content;
mod error;
mod marker;
mod put;
#[cfg(feature = "server")]
pub mod server;

pub use bucket::{Body, Bucket, Listed, Upload};
pub use client::OpenError;
pub use config::BucketConfig;
pub use content::Content;
pub use error::{Cause, Error};
pub use marker::{Claim, ClaimError};
pub use put::{PART_BYTES, Part};
