//! The connect-time backend, held to every behaviour.

#[path = "makers/connect.rs"]
mod connect;

shunt_harness::conformance!("connect", connect::make);
