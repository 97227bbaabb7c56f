//! Who has which address. Worlds are closed, so all have the same ones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use shunt_core::model::Family;

/// The ServiceCIDR of IPv4, a /16. Packets to it go to the pod `beyond`.
pub const SERVICE4: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 0);
/// The ServiceCIDR of IPv6, a /64.
pub const SERVICE6: Ipv6Addr = Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 0, 0);
/// Addresses for externalIPs and load-balancer VIPs, a /24. Packets go to the pod `beyond`.
pub const EXTERNAL4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 0);
/// The same for IPv6, a /64.
pub const EXTERNAL6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0);

/// The net of all pods of the cluster; nodes have their addresses elsewhere.
#[must_use]
pub const fn cluster_cidr(family: Family) -> IpNet {
    match family {
        Family::V4 => net4(Ipv4Addr::new(10, 77, POD_NET as u8, 0), 20),
        Family::V6 => net6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, POD_NET, 0), 108),
    }
}

/// The net of the pods of one node: the agent's own or the other one.
#[must_use]
pub const fn pod_cidr(own_node: bool, family: Family) -> IpNet {
    let net = pod_net(own_node);
    match family {
        Family::V4 => net4(Ipv4Addr::new(10, 77, net as u8, 0), 24),
        Family::V6 => net6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, net, 0), 112),
    }
}

/// The first net of pods, that of the agent's own node; the other node's is the next.
const POD_NET: u16 = 16;

const fn pod_net(own_node: bool) -> u16 {
    if own_node { POD_NET } else { POD_NET + 1 }
}

const fn net4(address: Ipv4Addr, length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(address, length))
}

const fn net6(address: Ipv6Addr, length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(address, length))
}

/// The addresses of a pod or of the host, one in each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// IPv4, within 10.77.0.0/16 for all that belongs to the cluster.
    pub v4: Ipv4Addr,
    /// IPv6, within fd77::/64 for all that belongs to the cluster.
    pub v6: Ipv6Addr,
}

impl Addresses {
    /// The host's `number`th address: 0 is the node's primary one.
    pub(super) const fn of_host(number: u8) -> Self {
        Self::new(0, number + 1)
    }

    /// The other node.
    pub(super) const fn of_other_node() -> Self {
        Self::new(0, 8)
    }

    /// The pod to which go all packets that nobody else is concerned with.
    pub(super) const fn of_beyond() -> Self {
        Self::new(0, 10)
    }

    /// The `number`th pod, on the agent's own node or on another.
    pub(super) const fn of_pod(own_node: bool, number: u8) -> Self {
        Self::new(pod_net(own_node), number + 1)
    }

    /// The client that is no part of the cluster.
    pub(super) const fn of_outside() -> Self {
        Self {
            v4: Ipv4Addr::new(198, 51, 100, 7),
            v6: Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 7),
        }
    }

    const fn new(net: u16, host: u8) -> Self {
        Self {
            v4: Ipv4Addr::new(10, 77, net as u8, host),
            v6: Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, net, host as u16),
        }
    }

    /// The link address of whoever has these addresses, on all links.
    pub(super) const fn link(self) -> [u8; 6] {
        let [a, b, c, d] = self.v4.octets();
        // The second bit says that it is administered locally.
        [2, 0, a, b, c, d]
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
