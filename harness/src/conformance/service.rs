//! ServicePorts as the plan would make them, in few words.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU16,
};

use ipnet::IpNet;
use shunt_core::{
    model::{Family, ObjectName, Protocol, TrafficPolicy},
    plan::{Endpoint, Frontend, FrontendKind, ServicePort, ServicePortKey},
};

use crate::world::{EXTERNAL4, EXTERNAL6, SERVICE4, SERVICE6};

/// One ServicePort of one family and what serves it.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its identity.
    pub key: ServicePortKey,
    /// Its state.
    pub port: ServicePort,
}

impl Service {
    /// A ServicePort without frontends and endpoints.
    #[must_use]
    pub fn new(name: &str, protocol: Protocol, family: Family) -> Self {
        let service = ObjectName::new("default", name);
        let key = ServicePortKey { service, port: "".into(), protocol, family };
        Self { key, port: ServicePort::new() }
    }

    /// Adds the clusterIP `address`.
    #[must_use]
    pub fn cluster_ip(self, address: SocketAddr) -> Self {
        self.frontend(FrontendKind::ClusterIp(address.ip()), address.port())
    }

    /// Adds an externalIP.
    #[must_use]
    pub fn external_ip(self, address: SocketAddr) -> Self {
        self.frontend(FrontendKind::ExternalIp(address.ip()), address.port())
    }

    /// Adds a load-balancer VIP.
    #[must_use]
    pub fn load_balancer_ip(self, address: SocketAddr) -> Self {
        self.frontend(FrontendKind::LoadBalancerIp(address.ip()), address.port())
    }

    /// Adds a NodePort.
    #[must_use]
    pub fn node_port(self, port: u16) -> Self {
        self.frontend(FrontendKind::NodePort, port)
    }

    fn frontend(mut self, kind: FrontendKind, port: u16) -> Self {
        // Port 0 is no port: such a frontend does not exist.
        self.port.frontends.extend(NonZeroU16::new(port).map(|port| Frontend::new(kind, port)));
        self.port.frontends.sort_unstable();
        self
    }

    /// Has an interface carry the clusterIPs.
    #[must_use]
    pub fn on_interface(mut self, interface: &str) -> Self {
        for frontend in &mut self.port.frontends {
            if frontend.kind.is_internal() {
                frontend.on_interface = Some(interface.into());
            }
        }
        self
    }

    /// Sets the endpoints: ready ones on other nodes.
    #[must_use]
    pub fn endpoints(mut self, addresses: &[SocketAddr]) -> Self {
        let mut addresses = addresses.to_vec();
        addresses.sort_by_cached_key(SocketAddr::to_string);
        self.port.endpoints = addresses.into_iter().map(Endpoint::new).collect();
        self.port.has_any = !self.port.endpoints.is_empty();
        self
    }

    /// Says which of the endpoints are on this node.
    #[must_use]
    pub fn local(mut self, local: &[SocketAddr]) -> Self {
        for endpoint in &mut self.port.endpoints {
            endpoint.local = local.contains(&endpoint.address);
            endpoint.in_local = endpoint.local;
        }
        self
    }

    /// Sets `internalTrafficPolicy: Local`.
    #[must_use]
    pub fn internal_local(mut self) -> Self {
        self.port.internal_policy = TrafficPolicy::Local;
        self.port.lists.local = true;
        // The cluster list is in use only if something external is served from it.
        self.port.lists.cluster = self.port.frontends.iter().any(|f| !f.kind.is_internal());
        self
    }

    /// Sets `externalTrafficPolicy: Local`.
    #[must_use]
    pub fn external_local(mut self) -> Self {
        self.port.external_policy = TrafficPolicy::Local;
        self.port.lists.local = true;
        self
    }

    /// Sets ClientIP affinity with a time-out.
    #[must_use]
    pub const fn affinity(mut self, seconds: u32) -> Self {
        self.port.affinity_seconds = Some(seconds);
        self
    }

    /// Has a topology, or what is left when nothing is ready, keep only some endpoints in the
    /// cluster list.
    #[must_use]
    pub fn keep_in_cluster(mut self, kept: &[SocketAddr]) -> Self {
        for endpoint in &mut self.port.endpoints {
            endpoint.in_cluster = kept.contains(&endpoint.address);
        }
        self
    }

    /// Has all endpoints be terminating and still serving.
    #[must_use]
    pub fn terminating(mut self) -> Self {
        for endpoint in &mut self.port.endpoints {
            endpoint.conditions.ready = false;
            endpoint.conditions.terminating = true;
        }
        self
    }

    /// Has some endpoints be terminating and out of the lists; they still serve.
    #[must_use]
    pub fn leaving(mut self, addresses: &[SocketAddr]) -> Self {
        let mut endpoints = self.port.endpoints.iter_mut();
        while let Some(endpoint) = endpoints.find(|e| addresses.contains(&e.address)) {
            endpoint.conditions.ready = false;
            endpoint.conditions.terminating = true;
            (endpoint.in_cluster, endpoint.in_local) = (false, false);
        }
        self
    }

    /// Restricts the load-balancer VIPs to a source range.
    #[must_use]
    pub fn source_range(mut self, range: IpNet) -> Self {
        let mut ranges = self.port.source_ranges.to_vec();
        ranges.push(range);
        self.port.source_ranges = ranges.into();
        self
    }
}

/// The `number`th address of the ServiceCIDR of a family.
#[must_use]
pub const fn service_ip(family: Family, number: u16) -> IpAddr {
    nth(family, SERVICE4, SERVICE6, number)
}

/// The `number`th address of those outside the cluster.
#[must_use]
pub const fn external_ip(family: Family, number: u16) -> IpAddr {
    nth(family, EXTERNAL4, EXTERNAL6, number)
}

const fn nth(family: Family, net4: Ipv4Addr, net6: Ipv6Addr, number: u16) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(net4.to_bits() + number as u32)),
        Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(net6.to_bits() + number as u128)),
    }
}
