//! How large the tables are.

/// How many entries each table has room for.
///
/// The defaults are good for 50,000 Services and 250,000 endpoints, both families, with room for
/// changes: a new run lies beside the old one until a grace period has passed. They cost 65 MB of
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
    /// Seats of connected UDP sockets; a power of two, or else the next one. A socket whose seat is
    /// taken pays for storage of its own. Seats that are there already keep their number, for
    /// living sockets sit there.
    pub seats: u32,
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
            seats: 65_536,
        }
    }
}

impl TableSizes {
    /// FNV-1a over all sizes but the seats', which lie elsewhere; stable over versions of Rust: it
    /// is part of a path.
    pub(super) fn hash(&self) -> u32 {
        let sizes = [
            self.frontends4,
            self.frontends6,
            self.lists,
            self.endpoints,
            self.services,
            self.affinity,
            self.node_addresses,
        ];
        let bytes = sizes.iter().flat_map(|size| size.to_le_bytes());
        bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
    }

    /// The size of a table by the name that settings use, to be changed.
    pub fn by_name(&mut self, name: &str) -> Option<&mut u32> {
        Some(match name {
            "frontends4" => &mut self.frontends4,
            "frontends6" => &mut self.frontends6,
            "lists" => &mut self.lists,
            "endpoints" => &mut self.endpoints,
            "services" => &mut self.services,
            "affinity" => &mut self.affinity,
            "node_addresses" => &mut self.node_addresses,
            "seats" => &mut self.seats,
            _ => return None,
        })
    }

    /// The names that [`Self::by_name`] knows.
    pub const NAMES: [&str; 8] = [
        "frontends4",
        "frontends6",
        "lists",
        "endpoints",
        "services",
        "affinity",
        "node_addresses",
        "seats",
    ];

    /// As many entries in each table: for a trial.
    pub(super) const fn equal(entries: u32) -> Self {
        Self {
            frontends4: entries,
            frontends6: entries,
            lists: entries,
            endpoints: entries,
            services: entries,
            affinity: entries,
            node_addresses: entries,
            seats: entries,
        }
    }

    /// How many seats new ones are.
    pub(super) fn seat_count(&self) -> u32 {
        self.seats.checked_next_power_of_two().unwrap_or(1 << 31)
    }

    /// The sizes of the maps that have one, by the map's name.
    pub(super) fn by_map(&self) -> [(&'static str, u32); 8] {
        [
            ("FRONTENDS4", self.frontends4),
            ("FRONTENDS6", self.frontends6),
            ("LISTS", self.lists),
            ("ENDPOINTS", self.endpoints),
            ("SERVICES", self.services),
            ("AFFINITY", self.affinity),
            ("NODE_ADDRESSES", self.node_addresses),
            ("SEATS", self.seat_count()),
        ]
    }
}
