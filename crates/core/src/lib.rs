//! What an edge stores, and the HTTP decisions made from it.
//!
//! `blob` keeps bytes by digest. `http` decides what RFC 9110 asks of an answer. `rules` reads
//! `_redirects` and `_headers` and applies them. `release` turns a path into a blob. `hot` keeps
//! small bodies in memory. None opens a socket or reads the clock.

pub mod blob;
pub mod hot;
pub mod http;
pub mod release;
pub mod rules;
