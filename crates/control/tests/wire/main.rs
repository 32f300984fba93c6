//! Does control keep its word over the real protocols?
//!
//! Each test runs a real control on ports of its own, a client over TLS and fake machines over
//! mutual TLS.

#![expect(clippy::unwrap_used, reason = "what cannot be unwrapped has failed its test")]

mod access;
mod audit;
mod auth;
mod bad_bodies;
mod bad_input;
mod conditional;
mod database;
mod events;
mod fleet;
mod fleet_machine;
mod idempotency;
mod machines;
mod operations;
mod protocols;
mod push;
mod restart;
mod takeover;
mod trust;
mod upkeep;
mod webhooks;
