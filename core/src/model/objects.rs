//! Slim types for the objects that matter to load balancing.
//!
//! An object of the k8s-openapi crate costs 11.7 kB a Service-and-slice pair, a slim one 1.5 kB.

use std::{fmt, net::IpAddr, num::NonZeroU16, sync::Arc};

use ipnet::IpNet;

use super::Moment;

/// Namespace and name of an object.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The name, unique among the objects of one kind in the namespace.
    pub name: Arc<str>,
}

impl ObjectName {
    /// Names an object.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An address family. Families are independent of each other in everything that Shunt does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both families, in the order in which they are planned.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address. A v4-mapped IPv6 address is IPv6 here: no Kubernetes object
    /// carries one.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// A transport protocol that a Service can name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP, the default of Kubernetes.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The protocol's number in an IP header.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

/// `spec.type` of a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ServiceType {
    /// `ClusterIP`, the default.
    #[default]
    ClusterIp,
    /// `NodePort`.
    NodePort,
    /// `LoadBalancer`.
    LoadBalancer,
    /// `ExternalName`: a DNS matter, skipped by the plan.
    ExternalName,
}

/// `spec.internalTrafficPolicy` and `spec.externalTrafficPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TrafficPolicy {
    /// Any endpoint serves, the default.
    #[default]
    Cluster,
    /// Endpoints on this node serve.
    Local,
}

/// A Service, reduced to what load balancing reads.
///
/// Lists keep the order of the object. Both families stand side by side here; the plan takes them
/// apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Service {
    /// Namespace and name.
    pub name: ObjectName,
    /// `metadata.creationTimestamp` in seconds since the epoch; the older Service owns a frontend
    /// that two claim. 0 if absent.
    pub created: i64,
    /// `spec.type`.
    pub service_type: ServiceType,
    /// Whether the label `service.kubernetes.io/service-proxy-name` gives it to another proxy.
    pub other_proxy: bool,
    /// `spec.clusterIPs` (or `spec.clusterIP`) without `None`; at most one a family counts.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress[].ip` whose ipMode is absent or `VIP`.
    pub load_balancer_ips: Vec<IpAddr>,
    /// `spec.loadBalancerSourceRanges`; empty means no restriction.
    pub source_ranges: Vec<IpNet>,
    /// `spec.ports`.
    pub ports: Vec<PortSpec>,
    /// The time-out of ClientIP session affinity in seconds (1..=86400), or `None` for no affinity.
    pub affinity_seconds: Option<u32>,
    /// `spec.internalTrafficPolicy`.
    pub internal_policy: TrafficPolicy,
    /// `spec.externalTrafficPolicy`.
    pub external_policy: TrafficPolicy,
    /// `spec.healthCheckNodePort`.
    pub health_check_node_port: Option<NonZeroU16>,
}

impl Service {
    /// A ClusterIP Service without addresses and ports; set the fields that it has.
    #[must_use]
    pub const fn new(name: ObjectName) -> Self {
        Self {
            name,
            created: 0,
            service_type: ServiceType::ClusterIp,
            other_proxy: false,
            cluster_ips: Vec::new(),
            external_ips: Vec::new(),
            load_balancer_ips: Vec::new(),
            source_ranges: Vec::new(),
            ports: Vec::new(),
            affinity_seconds: None,
            internal_policy: TrafficPolicy::Cluster,
            external_policy: TrafficPolicy::Cluster,
            health_check_node_port: None,
        }
    }
}

/// One entry of `spec.ports`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PortSpec {
    /// `name`, empty if absent.
    pub name: Arc<str>,
    /// `protocol`.
    pub protocol: Protocol,
    /// `port`.
    pub port: NonZeroU16,
    /// `nodePort`.
    pub node_port: Option<NonZeroU16>,
}

/// An EndpointSlice of address type IPv4 or IPv6.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct EndpointSlice {
    /// Namespace and name of the slice itself.
    pub name: ObjectName,
    /// The Service of the same namespace that label `kubernetes.io/service-name` names, if any.
    pub service: Option<Arc<str>>,
    /// `addressType`.
    pub family: Family,
    /// Annotation `endpoints.kubernetes.io/last-change-trigger-time`: when that happened in the
    /// cluster which the slice as it is now tells of. The engine takes it out on the way to the
    /// model: measured once, it is no part of what is served.
    pub triggered: Moment,
    /// `endpoints`.
    pub endpoints: Vec<SliceEndpoint>,
    /// `ports`, without those that have no name field or no number.
    pub ports: Vec<SlicePort>,
}

impl EndpointSlice {
    /// A slice without endpoints and ports.
    #[must_use]
    pub const fn new(name: ObjectName, service: Option<Arc<str>>, family: Family) -> Self {
        let triggered = Moment::NONE;
        Self { name, service, family, triggered, endpoints: Vec::new(), ports: Vec::new() }
    }
}

/// One entry of `ports` of a slice.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SlicePort {
    /// `name`; empty is a name.
    pub name: Arc<str>,
    /// `protocol`.
    pub protocol: Protocol,
    /// `port`.
    pub port: NonZeroU16,
}

/// One entry of `endpoints` of a slice.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct SliceEndpoint {
    /// `addresses[0]`, of the slice's family.
    pub address: IpAddr,
    /// `conditions`.
    pub conditions: Conditions,
    /// `nodeName`.
    pub node_name: Option<Arc<str>>,
    /// `zone`.
    pub zone: Option<Arc<str>>,
    /// `hints.forNodes[].name`.
    pub hint_nodes: Vec<Arc<str>>,
    /// `hints.forZones[].name`.
    pub hint_zones: Vec<Arc<str>>,
}

impl SliceEndpoint {
    /// A ready endpoint without a node, a zone or hints.
    #[must_use]
    pub const fn new(address: IpAddr) -> Self {
        Self {
            address,
            conditions: Conditions::READY,
            node_name: None,
            zone: None,
            hint_nodes: Vec::new(),
            hint_zones: Vec::new(),
        }
    }
}

/// The conditions of an endpoint with the defaults of service-semantics applied: nil is true for
/// `ready` and `serving`, false for `terminating`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conditions {
    /// Takes new connections.
    pub ready: bool,
    /// Answers, even while it terminates.
    pub serving: bool,
    /// Is being stopped.
    pub terminating: bool,
}

impl Conditions {
    /// Ready, serving, not terminating.
    pub const READY: Self = Self { ready: true, serving: true, terminating: false };
}

/// The node that Shunt runs on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Node {
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `status.addresses` that are IP addresses.
    pub addresses: Vec<NodeAddress>,
    /// `spec.podCIDRs`.
    pub pod_cidrs: Vec<IpNet>,
    /// Label `topology.kubernetes.io/zone`.
    pub zone: Option<Arc<str>>,
    /// The keys of `spec.taints`.
    pub taints: Vec<Arc<str>>,
    /// Whether `metadata.deletionTimestamp` is set.
    pub deleting: bool,
}

impl Node {
    /// A node without addresses.
    #[must_use]
    pub const fn new(name: Arc<str>) -> Self {
        Self {
            name,
            addresses: Vec::new(),
            pod_cidrs: Vec::new(),
            zone: None,
            taints: Vec::new(),
            deleting: false,
        }
    }
}

/// One IP address of a Node's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeAddress {
    /// `type`.
    pub kind: NodeAddressKind,
    /// `address`.
    pub address: IpAddr,
}

/// The type of a Node's address; the primary IP of a family is the first `InternalIP`, else the
/// first `ExternalIP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeAddressKind {
    /// `InternalIP`.
    Internal,
    /// `ExternalIP`.
    External,
}

/// A ServiceCIDR.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceCidr {
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `spec.cidrs`.
    pub cidrs: Vec<IpNet>,
}

/// An address that an interface of this host carries.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostAddress {
    /// The interface's name.
    pub interface: Arc<str>,
    /// The address.
    pub address: IpAddr,
}
