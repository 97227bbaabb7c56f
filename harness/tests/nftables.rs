//! The nftables backend, held to every behaviour.

#[path = "makers/nftables.rs"]
mod nftables;

shunt_harness::conformance!("nftables", nftables::make);
