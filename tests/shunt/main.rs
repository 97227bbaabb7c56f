//! The binary, as its users meet it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agent;
mod command_line;
#[cfg(feature = "demo")]
mod demo;
mod http;
mod packets;
mod running;
mod state;
