//! The agent in a cluster: a real API server, and applications that connect.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod objects;
mod outages;
mod refusals;
mod rig;
