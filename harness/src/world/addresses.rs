//! Who has which address. Worlds are closed, so all have the same ones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use shunt_core::model::Family;

/// The ServiceCIDR of IPv4, a /16. Packets to it go to the pod `beyond`.
pub const SERVICE4: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 0);
/// The ServiceCIDR of IPv6, a /64.
pub const SERVICE6: Ipv6Addr = Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 0, 0);
/// Addresses for externalIPs and load-balancer VIPs, a /24. Packets go to the pod `beyond`.
pub const EXTERNAL4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 0);
/// The same for IPv6, a /64.
pub const EXTERNAL6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0);

/// The addresses of a pod or of the host, one in each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// IPv4, within 10.77.0.0/16.
    pub v4: Ipv4Addr,
    /// IPv6, within fd77::/64.
    pub v6: Ipv6Addr,
}

impl Addresses {
    /// The host's `number`th address: 0 is the node's primary one.
    pub(super) const fn of_host(number: u8) -> Self {
        Self::new(0, number + 1)
    }

    /// The pod to which go all packets that nobody else is concerned with.
    pub(super) const fn of_beyond() -> Self {
        Self::new(0, 9)
    }

    /// The `number`th pod, on the agent's own node or on another.
    pub(super) const fn of_pod(own_node: bool, number: u8) -> Self {
        Self::new(if own_node { 1 } else { 2 }, number + 1)
    }

    const fn new(net: u8, host: u8) -> Self {
        Self {
            v4: Ipv4Addr::new(10, 77, net, host),
            v6: Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, net as u16, host as u16),
        }
    }

    /// The address of one family.
    #[must_use]
    pub const fn of(self, family: Family) -> IpAddr {
        match family {
            Family::V4 => IpAddr::V4(self.v4),
            Family::V6 => IpAddr::V6(self.v6),
        }
    }

    /// The address of one family with a port.
    #[must_use]
    pub const fn at(self, family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(self.of(family), port)
    }
}
