//! From the plan to the tables: which frontends this dataplane serves, each from which list.
//!
//! Pure. The rules are requirement 2 of the connect-time contract: a socket has no source address
//! yet, so source ranges and the silent drop of policy Local belong to the packet path, and an
//! external frontend of policy Local gives pod and host the cluster list.

use std::net::{IpAddr, SocketAddr};

use shunt_core::{
    backend::LeftReason,
    model::{Protocol, TrafficPolicy},
    plan::{self, FrontendKind, ServicePort, ServicePortKey},
};
use shunt_ebpf::{
    address::Address,
    tables::{self, Endpoint},
};

use super::slot::{Slot, table_kind};

#[cfg(test)]
mod tests;

/// The frontends of a ServicePort that this dataplane serves, and why not all of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Frontends {
    /// Where programs find them, sorted by the plan's order.
    pub(super) slots: Vec<Served>,
    /// Why some or all are left to others.
    pub(super) left: Option<LeftReason>,
}

/// One frontend that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Served {
    /// Where programs find it.
    pub(super) slot: Slot,
    /// What kind it is.
    pub(super) kind: tables::FrontendKind,
    /// What it is served from.
    pub(super) from: Use,
}

/// The two uses of lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Everything but the next.
    Cluster,
    /// The ClusterIP under internal policy Local.
    Local,
}

impl Use {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::Cluster, Self::Local];
}

impl Frontends {
    /// Decides which frontends are served.
    pub(super) fn of(key: &ServicePortKey, port: &ServicePort) -> Self {
        if key.protocol == Protocol::Sctp {
            return Self::left_whole(LeftReason::Protocol(key.protocol));
        }
        // One place for each: a Vec that grows begins with four.
        let slots = Vec::with_capacity(port.frontends.len());
        let mut frontends = Self { slots, left: None };
        for frontend in &port.frontends {
            if let Some(reason) = reason_to_leave(port, frontend) {
                frontends.left.get_or_insert(reason);
                continue;
            }
            let Some(slot) = Slot::of(key, frontend) else { continue };
            let is_local =
                frontend.kind.is_internal() && port.internal_policy == TrafficPolicy::Local;
            let from = if is_local { Use::Local } else { Use::Cluster };
            frontends.slots.push(Served { slot, kind: table_kind(frontend.kind), from });
        }
        // The packet path remembers clients by address, this one by namespace: an affinity that
        // were kept in both places would be two.
        if port.affinity_seconds.is_some()
            && let Some(reason) = frontends.left
        {
            return Self::left_whole(reason);
        }
        frontends
    }

    /// Nothing is served.
    pub(super) const fn left_whole(reason: LeftReason) -> Self {
        Self { slots: Vec::new(), left: Some(reason) }
    }

    /// Whether nothing is served, although there would be something to serve.
    pub(super) fn is_left_whole(&self) -> bool {
        self.slots.is_empty() && self.left.is_some()
    }

    /// Whether some frontend is served from the list of this use.
    pub(super) fn uses(&self, list: Use) -> bool {
        self.slots.iter().any(|served| served.from == list)
    }
}

fn reason_to_leave(port: &ServicePort, frontend: &plan::Frontend) -> Option<LeftReason> {
    match frontend.kind {
        FrontendKind::LoadBalancerIp(_) if !port.source_ranges.is_empty() => {
            Some(LeftReason::SourceRanges)
        }
        FrontendKind::ClusterIp(_) if frontend.on_interface.is_some() => {
            Some(LeftReason::OnInterface(frontend.clone()))
        }
        _ => None,
    }
}

/// What a list is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// One of these, sorted for the programs' search by halves.
    Endpoints(Vec<Endpoint>),
    /// A refusal.
    Refuse,
    /// Nothing: the call is left untranslated, and why.
    Left(LeftReason),
}

impl Content {
    /// What the lists of a ServicePort that `frontends` names say, in the order of [`Use::ALL`].
    ///
    /// `can_refuse`: whether the kernel can make connect() return ECONNREFUSED.
    pub(super) fn of(
        port: &ServicePort,
        frontends: &Frontends,
        can_refuse: bool,
    ) -> [Option<Self>; 2] {
        let lists = Use::ALL
            .map(|list| frontends.uses(list).then(|| Self::of_list(port, list, can_refuse)));
        let reason = lists.iter().flatten().find_map(Self::left);
        match reason {
            Some(reason) if port.affinity_seconds.is_some() => {
                let reason = reason.clone();
                lists.map(|list| list.map(|_| Self::Left(reason.clone())))
            }
            _ => lists,
        }
    }

    fn of_list(port: &ServicePort, list: Use, can_refuse: bool) -> Self {
        let mut endpoints: Vec<Endpoint> = match list {
            Use::Cluster => port.cluster_list().map(encode_endpoint).collect(),
            Use::Local => port.local_list().map(encode_endpoint).collect(),
        };
        if endpoints.is_empty() {
            return match (port.has_any, can_refuse) {
                (true, _) => Self::Left(LeftReason::NoLocalEndpoint),
                (false, true) => Self::Refuse,
                (false, false) => Self::Left(LeftReason::NoRefusal),
            };
        }
        endpoints.sort_unstable_by_key(sort_key);
        endpoints.dedup();
        Self::Endpoints(endpoints)
    }

    /// Why it is left, if it is.
    pub(super) const fn left(&self) -> Option<&LeftReason> {
        match self {
            Self::Left(reason) => Some(reason),
            Self::Endpoints(_) | Self::Refuse => None,
        }
    }
}

fn encode_endpoint(endpoint: &plan::Endpoint) -> Endpoint {
    Endpoint::new(encode_address(endpoint.address.ip()), endpoint.address.port())
}

/// The order of endpoints in a run: programs search by the first part, the rest makes the same set
/// the same run.
pub(super) const fn sort_key(endpoint: &Endpoint) -> (u64, Address, u16) {
    (endpoint.order, endpoint.address, endpoint.port)
}

/// An address as the tables have it: IPv4 in its v4-mapped form.
pub(super) const fn encode_address(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(address) => Address::from_octets(address.to_ipv6_mapped().octets()),
        IpAddr::V6(address) => Address::from_octets(address.octets()),
    }
}

/// The way back.
pub(super) fn decode_address(address: Address) -> IpAddr {
    IpAddr::from(address.octets()).to_canonical()
}

/// The way back from an endpoint.
pub(super) fn decode_endpoint(endpoint: &Endpoint) -> SocketAddr {
    SocketAddr::new(decode_address(endpoint.address), endpoint.port)
}
