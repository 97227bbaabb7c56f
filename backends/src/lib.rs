//! The dataplanes: what brings a Delta into the kernel.

#[cfg(feature = "connect")]
pub mod connect;

#[cfg(feature = "nftables")]
pub mod nftables;
