//! The packet path: nftables rules that never grow.

mod beside;
pub mod conntrack;

pub use beside::kube_proxy;
