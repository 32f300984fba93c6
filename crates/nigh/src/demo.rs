//! What does the demo show?
//!
//! `sample` is the site it pushes, `tour` what it prints.

pub(crate) mod sample;
pub(crate) mod tour;
