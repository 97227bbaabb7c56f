//! How large the tables are.

/// How many entries each table has room for.
///
/// The defaults are good for 50,000 Services and 250,000 endpoints, both families, with room for
/// changes: a new run lies beside the old one until a grace period has passed. They cost 60 MB of
/// kernel memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct TableSizes {
    /// IPv4 addresses and ports of Services.
    pub frontends4: u32,
    /// IPv6 addresses and ports of Services.
    pub frontends6: u32,
    /// Lists of endpoints: one for each ServicePort and family, two with internal policy Local.
    pub lists: u32,
    /// Endpoints of all lists.
    pub endpoints: u32,
    /// ServicePorts, each family by itself.
    pub services: u32,
    /// Clients that ClientIP affinity remembers; beyond it the least recently used are forgotten.
    pub affinity: u32,
    /// Addresses at which NodePorts are answered.
    pub node_addresses: u32,
}

impl Default for TableSizes {
    fn default() -> Self {
        Self {
            frontends4: 131_072,
            frontends6: 131_072,
            lists: 262_144,
            endpoints: 524_288,
            services: 262_144,
            affinity: 65_536,
            node_addresses: 1024,
        }
    }
}
