//! (being written)

pub mod geo_fixture;
pub mod mmdb;
