//! The backends that Shunt comes with, as plug-ins.

#[cfg(feature = "backend-connect")]
mod connect;
#[cfg(feature = "backend-nftables")]
mod nftables;

use crate::registry::BackendPlugin;

/// The backends of this build, in the order in which a connection meets them.
pub(crate) const PLUGINS: &[&dyn BackendPlugin] = &[
    #[cfg(feature = "backend-connect")]
    &connect::Connect,
    #[cfg(feature = "backend-nftables")]
    &nftables::Nftables,
];

/// Every name that a cargo feature brings, on or off.
pub(crate) const FEATURES: &[(&str, &str)] =
    &[("connect", "backend-connect"), ("nftables", "backend-nftables")];

/// The tables of the packet path whose size can be set: `packet_affinity`, the clients that
/// session affinity remembers in each family.
#[cfg(any(feature = "backend-connect", feature = "backend-nftables"))]
pub(crate) const PACKET_TABLES: [&str; 1] = ["packet_affinity"];
