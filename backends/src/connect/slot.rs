//! A place where programs look a frontend up, and the way back to the frontend.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU16,
};

use shunt_core::{
    model::{Family, Protocol},
    plan::{Frontend, FrontendKind, ServicePortKey},
};
use shunt_ebpf::tables::{self, FrontendKey4, FrontendKey6, Target, node_port_index};

/// Where programs look a frontend up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Slot {
    /// A key of `FRONTENDS4`.
    V4(FrontendKey4),
    /// A key of `FRONTENDS6`.
    V6(FrontendKey6),
    /// An index of `NODEPORTS`.
    NodePort(u32),
}

impl Slot {
    /// The slot of a ServicePort's frontend, or `None` if programs see none of its protocol or the
    /// address is of another family.
    pub(super) fn of(key: &ServicePortKey, frontend: &Frontend) -> Option<Self> {
        if key.protocol == Protocol::Sctp {
            return None;
        }
        let Some(address) = frontend.kind.address() else {
            let is_udp = key.protocol == Protocol::Udp;
            let is_ip4 = key.family == Family::V4;
            return Some(Self::NodePort(node_port_index(is_ip4, is_udp, frontend.port.get())));
        };
        if Family::of(address) != key.family {
            return None;
        }
        Some(Self::at(address, frontend.port.get(), key.protocol.number()))
    }

    /// The slot of an address and port.
    pub(super) const fn at(address: IpAddr, port: u16, protocol: u8) -> Self {
        match address {
            IpAddr::V4(address) => {
                let address = u32::from_ne_bytes(address.octets());
                Self::V4(FrontendKey4 { address, port, protocol, zero: 0 })
            }
            IpAddr::V6(address) => {
                Self::V6(FrontendKey6 { address: words(address), port, protocol, zero: 0 })
            }
        }
    }

    /// The frontend that a slot with this target stands for, or `None` where no version of Shunt
    /// wrote such a thing, and for the canary.
    pub(super) fn frontend(self, target: Target) -> Option<Frontend> {
        let address = match self {
            Self::V4(key) => Some(IpAddr::V4(Ipv4Addr::from(key.address.to_ne_bytes()))),
            Self::V6(key) => Some(IpAddr::V6(address6(key.address))),
            Self::NodePort(_) => None,
        };
        let kind = match (target.kind()?, address) {
            (tables::FrontendKind::ClusterIp, Some(address)) => FrontendKind::ClusterIp(address),
            (tables::FrontendKind::ExternalIp, Some(address)) => FrontendKind::ExternalIp(address),
            (tables::FrontendKind::LoadBalancerIp, Some(address)) => {
                FrontendKind::LoadBalancerIp(address)
            }
            (tables::FrontendKind::NodePort, None) => FrontendKind::NodePort,
            _ => return None,
        };
        Some(Frontend::new(kind, NonZeroU16::new(self.port())?))
    }

    const fn port(self) -> u16 {
        match self {
            Self::V4(key) => key.port,
            Self::V6(key) => key.port,
            Self::NodePort(index) => index as u16,
        }
    }
}

/// The kind by which the tables know a frontend.
pub(super) const fn table_kind(kind: FrontendKind) -> tables::FrontendKind {
    match kind {
        FrontendKind::ClusterIp(_) => tables::FrontendKind::ClusterIp,
        FrontendKind::ExternalIp(_) => tables::FrontendKind::ExternalIp,
        FrontendKind::LoadBalancerIp(_) => tables::FrontendKind::LoadBalancerIp,
        FrontendKind::NodePort => tables::FrontendKind::NodePort,
    }
}

/// An IPv6 address as the kernel has it: four words in network byte order.
const fn words(address: Ipv6Addr) -> [u32; 4] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = address.octets();
    [
        u32::from_ne_bytes([a, b, c, d]),
        u32::from_ne_bytes([e, f, g, h]),
        u32::from_ne_bytes([i, j, k, l]),
        u32::from_ne_bytes([m, n, o, p]),
    ]
}

fn address6(words: [u32; 4]) -> Ipv6Addr {
    let [w, x, y, z] = words.map(u32::from_be);
    let upper = u128::from(w) << 96 | u128::from(x) << 64;
    Ipv6Addr::from(upper | u128::from(y) << 32 | u128::from(z))
}
