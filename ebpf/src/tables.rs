//! Frontends, lists and endpoints: what a connect reads.
//!
//! A frontend names a list by number, the list names a run of endpoints, and a run is never
//! written while a list names it. All change of endpoints is one store of a [`ListWord`].

use crate::address::Address;

/// Key of map `FRONTENDS4`: 8 bytes, one comparison.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FrontendKey4 {
    /// Network byte order.
    pub address: u32,
    /// Host byte order.
    pub port: u16,
    /// 6 or 17.
    pub protocol: u8,
    /// Always 0.
    pub zero: u8,
}

/// Value of map `FRONTENDS4`.
///
/// The kernel reuses the memory of a deleted element at once, so what a program finds may be, or
/// may while it reads become, another key's value. It therefore copies the value and believes it
/// only if the key is the one that it asked for and the seal fits.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frontend4 {
    /// The key again.
    pub key: FrontendKey4,
    /// The list that serves it and the kind of frontend.
    pub target: Target,
    /// [`FrontendKey4::seal`] of key and target.
    pub seal: u32,
}

/// Key of map `FRONTENDS6`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FrontendKey6 {
    /// Network byte order.
    pub address: [u32; 4],
    /// Host byte order.
    pub port: u16,
    /// 6 or 17.
    pub protocol: u8,
    /// Always 0.
    pub zero: u8,
}

/// Value of map `FRONTENDS6`; see [`Frontend4`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frontend6 {
    /// The key again.
    pub key: FrontendKey6,
    /// The list that serves it and the kind of frontend.
    pub target: Target,
    /// [`FrontendKey6::seal`] of key and target.
    pub seal: u32,
}

/// The list that serves a frontend, and the frontend's kind: `kind << 28 | list`.
///
/// 0 is no list: list 0 is never given out. Also the value of array `NODEPORTS`.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Target(pub u32);

impl Target {
    /// List numbers are below this.
    pub const MAX_LISTS: u32 = 1 << 28;

    /// A target.
    #[must_use]
    pub const fn new(kind: FrontendKind, list: u32) -> Self {
        Self((kind as u32) << 28 | list)
    }

    /// The number of the list.
    #[must_use]
    #[inline(always)]
    pub const fn list(self) -> u32 {
        self.0 & (Self::MAX_LISTS - 1)
    }

    /// The kind, or `None` where no version of Shunt wrote this.
    #[must_use]
    pub const fn kind(self) -> Option<FrontendKind> {
        Some(match self.0 >> 28 {
            1 => FrontendKind::ClusterIp,
            2 => FrontendKind::ExternalIp,
            3 => FrontendKind::LoadBalancerIp,
            4 => FrontendKind::NodePort,
            5 => FrontendKind::Canary,
            _ => return None,
        })
    }
}

/// What kind of frontend a [`Target`] belongs to; the programs do not care, people do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrontendKind {
    /// A Service's clusterIP.
    ClusterIp = 1,
    /// An externalIP.
    ExternalIp = 2,
    /// A load-balancer VIP.
    LoadBalancerIp = 3,
    /// A NodePort.
    NodePort = 4,
    /// The agent's own canary, by which it proves that the programs run.
    Canary = 5,
}

impl FrontendKey4 {
    /// A number that another key's value has by chance only once in 2³².
    #[must_use]
    #[inline(always)]
    pub const fn seal(self, target: Target) -> u32 {
        let ports = (self.port as u32) << 16 | (self.protocol as u32) << 8;
        mix(mix(mix(SEAL, self.address), ports), target.0)
    }
}

impl FrontendKey6 {
    /// A number that another key's value has by chance only once in 2³².
    #[must_use]
    #[inline(always)]
    pub const fn seal(self, target: Target) -> u32 {
        let ports = (self.port as u32) << 16 | (self.protocol as u32) << 8;
        let upper = mix(mix(SEAL, self.address[0]), self.address[1]);
        let lower = mix(mix(upper, self.address[2]), self.address[3]);
        mix(mix(lower, ports), target.0)
    }
}

/// Where a seal begins; an all-zero value has another seal.
pub const SEAL: u32 = 0x5348_554e;

/// One step of FNV-1a over a word, with a turn so that high bits reach low ones.
#[inline(always)]
#[must_use]
pub const fn mix(seal: u32, word: u32) -> u32 {
    (seal ^ word).wrapping_mul(0x0100_0193).rotate_left(13)
}

/// An element of array `LISTS` (mmapable): one list of endpoints.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// A [`ListWord`]: what serves. Published by a release store after the run was written.
    pub word: u64,
    /// Whose list it is: `affinity time-out in seconds << 32 | service number`.
    pub owner: u64,
}

impl List {
    /// The number of the ServicePort in map `SERVICES`, which is also its identity for affinity.
    #[must_use]
    #[inline(always)]
    pub const fn service(self) -> u32 {
        self.owner as u32
    }

    /// The time-out of ClientIP affinity in seconds, 0 for none.
    #[must_use]
    #[inline(always)]
    pub const fn affinity_seconds(self) -> u32 {
        (self.owner >> 32) as u32
    }

    /// The owner word.
    #[must_use]
    pub const fn owner(service: u32, affinity_seconds: u32) -> u64 {
        (affinity_seconds as u64) << 32 | service as u64
    }
}

/// What a list says, in one word that a program reads at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListWord {
    /// Nothing yet, or nothing for this dataplane: leave the call untranslated.
    Left,
    /// No endpoint anywhere: refuse the call.
    Refuse,
    /// `count` endpoints from entry `base` of `ENDPOINTS`, sorted by address and port.
    Run {
        /// First entry.
        base: u32,
        /// Entries; at least 1.
        count: u32,
    },
}

impl ListWord {
    /// Decodes a word.
    #[must_use]
    #[inline(always)]
    pub const fn decode(word: u64) -> Self {
        let count = word as u32;
        if word == u64::MAX {
            Self::Refuse
        } else if count == 0 {
            Self::Left
        } else {
            Self::Run { base: (word >> 32) as u32, count }
        }
    }

    /// Encodes a word: `base << 32 | count`; 0 for left, all ones for refuse.
    #[must_use]
    pub const fn encode(self) -> u64 {
        match self {
            Self::Left => 0,
            Self::Refuse => u64::MAX,
            Self::Run { base, count } => (base as u64) << 32 | count as u64,
        }
    }
}

/// An element of array `ENDPOINTS` (mmapable): 32 bytes.
///
/// Runs are sorted by [`Self::order`], so that a program finds out in a few steps whether a list
/// has an endpoint.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The address.
    pub address: Address,
    /// The port, host byte order.
    pub port: u16,
    /// Always 0.
    pub zero: [u16; 3],
    /// [`order`] of address and port.
    pub order: u64,
}

impl Endpoint {
    /// An endpoint.
    #[must_use]
    pub const fn new(address: Address, port: u16) -> Self {
        Self { address, port, zero: [0; 3], order: order(address, port) }
    }
}

/// One number for address and port: exact for IPv4, a hash for IPv6.
///
/// Comparing one number needs no branch, and branches in a search multiply what the verifier has
/// to look at: with three fields it gave up after a million instructions.
#[must_use]
#[inline(always)]
pub const fn order(address: Address, port: u16) -> u64 {
    if address.is_ip4() {
        return (address.lo & 0xffff_ffff) << 16 | port as u64;
    }
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let hashed = (address.hi ^ port as u64).wrapping_mul(ODD);
    (hashed ^ hashed >> 29 ^ address.lo).wrapping_mul(ODD)
}

/// The index in array `NODEPORTS` (mmapable, elements of 8 bytes of which a [`Target`] is the
/// first 4) of a NodePort: `family << 17 | protocol << 16 | port`.
#[must_use]
#[inline(always)]
pub const fn node_port_index(is_ip4: bool, is_udp: bool, port: u16) -> u32 {
    (!is_ip4 as u32) << 17 | (is_udp as u32) << 16 | port as u32
}

/// Elements of array `NODEPORTS`.
pub const NODE_PORTS: u32 = 1 << 18;

/// An element of array `NODEPORTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodePort {
    /// What serves this node port; 0 if it is not one.
    pub target: Target,
    /// Always 0.
    pub zero: u32,
}

/// Key of hash `NODE_ADDRESSES`: an address at which NodePorts are answered. The value is a `u32`
/// that means nothing.
pub type NodeAddressKey = Address;

/// Value of hash `SERVICES` (key: the service number, a `u32` from 1 on): the name of a
/// ServicePort, for people and for take-over. The programs do not read it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ServiceName {
    /// Namespace, padded with zeros.
    pub namespace: [u8; 63],
    /// 6, 17 or 132.
    pub protocol: u8,
    /// Name of the Service, padded with zeros.
    pub name: [u8; 63],
    /// 4 or 6.
    pub family: u8,
    /// Name of the port, padded with zeros.
    pub port: [u8; 63],
    /// 0: served here. Otherwise the code of the reason for which all of it is left to others.
    pub left: u8,
}
