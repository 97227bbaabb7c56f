//! Slim types for the objects that matter to load balancing.
//!
//! An object of the k8s-openapi crate costs 11.7 kB a Service-and-slice pair, a slim one 1.5 kB.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    net::IpAddr,
    num::NonZeroU16,
    ops::Deref,
    sync::Arc,
};

use ipnet::IpNet;
use smallvec::SmallVec;

use super::Moment;

/// Namespace and name of an object.
///
/// A pointer, because an object is named in a dozen places: cloning costs a reference count, and
/// names that were cloned from one another are compared without being read.
#[derive(Clone, Eq)]
pub struct ObjectName(Arc<NameParts>);

/// What an [`ObjectName`] consists of.
#[derive(PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NameParts {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The name, unique among the objects of one kind in the namespace.
    pub name: Arc<str>,
}

impl ObjectName {
    /// Names an object.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self::of(namespace.into(), name.into())
    }

    /// Names an object in texts that others may share.
    #[must_use]
    pub fn of(namespace: Arc<str>, name: Arc<str>) -> Self {
        Self(Arc::new(NameParts { namespace, name }))
    }

    /// Whether somebody else has a clone of it.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl Deref for ObjectName {
    type Target = NameParts;

    fn deref(&self) -> &NameParts {
        &self.0
    }
}

impl PartialEq for ObjectName {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Hash for ObjectName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl PartialOrd for ObjectName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ObjectName {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
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
/// Lists keep the order of the object, and those of which most Services have one are without an
/// allocation then. Both families stand side by side here; the plan takes them
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
    pub cluster_ips: SmallVec<[IpAddr; 1]>,
    /// `spec.externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress[].ip` whose ipMode is absent or `VIP`.
    pub load_balancer_ips: Vec<IpAddr>,
    /// `spec.loadBalancerSourceRanges`; empty means no restriction.
    pub source_ranges: Vec<IpNet>,
    /// `spec.ports`.
    pub ports: SmallVec<[PortSpec; 1]>,
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
            cluster_ips: SmallVec::new_const(),
            external_ips: Vec::new(),
            load_balancer_ips: Vec::new(),
            source_ranges: Vec::new(),
            ports: SmallVec::new_const(),
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
    pub service: Option<ObjectName>,
    /// `addressType`.
    pub family: Family,
    /// Annotation `endpoints.kubernetes.io/last-change-trigger-time`: when that happened in the
    /// cluster which the slice as it is now tells of. The engine takes it out on the way to the
    /// model: measured once, it is no part of what is served.
    pub triggered: Moment,
    /// `endpoints`.
    pub endpoints: Vec<SliceEndpoint>,
    /// `ports`, without those that have no name field or no number.
    pub ports: SmallVec<[SlicePort; 1]>,
}

impl EndpointSlice {
    /// A slice without endpoints and ports, of the Service of that name.
    #[must_use]
    pub fn new(name: ObjectName, service: Option<Arc<str>>, family: Family) -> Self {
        let service = service.map(|service| match service == name.name {
            true => name.clone(),
            false => ObjectName::of(Arc::clone(&name.namespace), service),
        });
        let triggered = Moment::NONE;
        Self { name, service, family, triggered, endpoints: Vec::new(), ports: SmallVec::new() }
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
    /// `hints`. Most endpoints have none, and then no allocation.
    pub hints: Option<Box<Hints>>,
}

/// For whom an endpoint is meant, as far as its slice says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hints {
    /// `forNodes[].name`.
    pub nodes: Vec<Arc<str>>,
    /// `forZones[].name`.
    pub zones: Vec<Arc<str>>,
}

impl SliceEndpoint {
    /// A ready endpoint without a node, a zone or hints.
    #[must_use]
    pub const fn new(address: IpAddr) -> Self {
        Self { address, conditions: Conditions::READY, node_name: None, zone: None, hints: None }
    }

    /// Says for whom the endpoint is meant.
    pub fn hint(&mut self, nodes: Vec<Arc<str>>, zones: Vec<Arc<str>>) {
        let is_hinted = !nodes.is_empty() || !zones.is_empty();
        self.hints = is_hinted.then(|| Box::new(Hints { nodes, zones }));
    }

    /// The nodes that the endpoint is meant for.
    #[must_use]
    pub fn hint_nodes(&self) -> &[Arc<str>] {
        self.hints.as_ref().map_or(&[], |hints| &hints.nodes)
    }

    /// The zones that the endpoint is meant for.
    #[must_use]
    pub fn hint_zones(&self) -> &[Arc<str>] {
        self.hints.as_ref().map_or(&[], |hints| &hints.zones)
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
