//! Both backends together, as the agent composes them, held to every behaviour.

#[path = "makers/connect.rs"]
mod connect;

#[path = "makers/nftables.rs"]
mod nftables;

use shunt_core::LbBackend;
use shunt_harness::{both::Both, conformance::Site};

fn make(site: &Site) -> Box<dyn LbBackend> {
    Box::new(Both::new(connect::make(site), nftables::make(site)))
}

shunt_harness::conformance!("both", make);
