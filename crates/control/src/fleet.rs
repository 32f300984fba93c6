//! What does the fleet look like, and what follows from it?
//!
//! [`World`] is what the database says at one revision, `presence` what machines last reported.
//! From these two, and nothing else, `activation` decides when a release goes live, `lagging`
//! which edges are left out of a site's answers, `progress` how far each edge is with a release and
//! `board` what of it is new to a waiting person, `held` which machines are told nothing, `state`
//! what each is told, and `edition` what of it is news to one. `sense` keeps of a report what can be
//! true, `starts` and `copies` tell two machines of one identity apart. All of it is pure;
//! `reconcile` and `machines` act on it.

pub(crate) mod activation;
pub(crate) mod board;
pub(crate) mod copies;
pub(crate) mod edition;
pub(crate) mod held;
pub(crate) mod lagging;
pub(crate) mod offers;
pub(crate) mod presence;
pub(crate) mod progress;
pub(crate) mod sense;
pub(crate) mod starts;
pub(crate) mod state;
pub(crate) mod takeover;
pub(crate) mod wanted;
mod world;

#[cfg(test)]
pub(crate) mod fixture;

pub(crate) use world::{Site, World};
