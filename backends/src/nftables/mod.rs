//! The packet path: nftables rules that never grow.

pub mod conntrack;
