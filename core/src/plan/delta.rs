//! The one type that a backend is given: what changed in the desired state.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    sync::Arc,
};

use foldhash::quality::RandomState;
use indexmap::IndexMap;
use ipnet::IpNet;
use smallvec::SmallVec;

use crate::model::{Conditions, Family, ObjectName, Protocol, TrafficPolicy};

/// What changed in the desired state since the last successful apply.
///
/// A Delta names the state of all that it mentions, not a difference to it: applying one twice is
/// the same as applying it once, and merging is "the later one wins".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delta {
    /// Whether this is the full state: what is not in it does not exist, and what an earlier run
    /// left and this does not name is to be removed.
    pub complete: bool,
    /// The node's part, if it changed.
    pub node: Option<Arc<NodeState>>,
    /// ClusterIPs of Services that the plan does not skip: true if the address became active,
    /// false if it no longer is.
    pub cluster_ips: HashMap<IpAddr, bool, RandomState>,
    /// Changed ServicePorts, and `None` for removed ones. They are in the order in which they were
    /// planned, in which memory is read best; the order means nothing.
    pub service_ports: IndexMap<ServicePortKey, Option<Arc<ServicePort>>, RandomState>,
}

impl Delta {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.complete
            && self.node.is_none()
            && self.cluster_ips.is_empty()
            && self.service_ports.is_empty()
    }

    /// Makes this the Delta that does what `self` and then `later` would do.
    pub fn merge(&mut self, later: Self) {
        if later.complete {
            *self = later;
            return;
        }
        self.node = later.node.or_else(|| self.node.take());
        self.cluster_ips.extend(later.cluster_ips);
        self.service_ports.extend(later.service_ports);
    }
}

/// The identity of a ServicePort in one family: families are independent.
///
/// Cloning costs three reference counts.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServicePortKey {
    /// The Service.
    pub service: ObjectName,
    /// `spec.ports[].name`, empty if the port has none.
    pub port: Arc<str>,
    /// The protocol.
    pub protocol: Protocol,
    /// The family.
    pub family: Family,
}

/// `namespace/name:port TCP IPv4`, without `:port` where the port has no name.
impl fmt::Display for ServicePortKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.service)?;
        if !self.port.is_empty() {
            write!(f, ":{}", self.port)?;
        }
        write!(f, " {} {}", self.protocol, self.family)
    }
}

impl fmt::Debug for ServicePortKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The desired state of one ServicePort in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServicePort {
    /// The frontends that this ServicePort owns, sorted. Most own one, and need no allocation.
    pub frontends: SmallVec<[Frontend; 1]>,
    /// `internalTrafficPolicy`.
    pub internal_policy: TrafficPolicy,
    /// `externalTrafficPolicy`; `Cluster` where the ServicePort is not externally accessible.
    pub external_policy: TrafficPolicy,
    /// Every endpoint of the ServicePort that is ready or serving, in text order of "ip:port",
    /// with the lists that it is in.
    pub endpoints: Vec<Endpoint>,
    /// Which lists the policies use. "Not used" differs from an empty list.
    pub lists: EndpointLists,
    /// Whether there is a usable endpoint anywhere: without one, connections are refused; with
    /// one but an empty list under policy Local, they are dropped.
    pub has_any: bool,
    /// The time-out of ClientIP affinity in seconds, sliding; `None` for no affinity.
    pub affinity_seconds: Option<u32>,
    /// Source ranges of this family for the load-balancer VIPs; empty means no restriction, also
    /// where the Service names ranges of the other family.
    pub source_ranges: Box<[IpNet]>,
}

impl ServicePort {
    /// A ServicePort without frontends and endpoints, which refuses; set the fields that it has.
    #[must_use]
    pub fn new() -> Self {
        Self {
            frontends: SmallVec::new(),
            internal_policy: TrafficPolicy::Cluster,
            external_policy: TrafficPolicy::Cluster,
            endpoints: Vec::new(),
            lists: EndpointLists { cluster: true, local: false },
            has_any: false,
            affinity_seconds: None,
            source_ranges: Box::default(),
        }
    }

    /// The cluster list, in text order.
    pub fn cluster_list(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter().filter(|endpoint| endpoint.in_cluster)
    }

    /// The local list, in text order.
    pub fn local_list(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter().filter(|endpoint| endpoint.in_local)
    }
}

impl Default for ServicePort {
    fn default() -> Self {
        Self::new()
    }
}

/// Which of the two lists of service-semantics section 3 the policies of a ServicePort use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointLists {
    /// Some connection is served from the cluster list.
    pub cluster: bool,
    /// Some connection is served from the local list.
    pub local: bool,
}

/// One address and port at which a ServicePort is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Frontend {
    /// What kind of address it is, and the address.
    pub kind: FrontendKind,
    /// The port; for a NodePort the node port.
    pub port: NonZeroU16,
    /// The interface of this node that carries the address, where it is a ClusterIP and the
    /// interface is not kube-ipvs0: something on the node answers there (NodeLocal DNSCache).
    pub on_interface: Option<Arc<str>>,
}

impl Frontend {
    /// A frontend that no interface carries.
    #[must_use]
    pub const fn new(kind: FrontendKind, port: NonZeroU16) -> Self {
        Self { kind, port, on_interface: None }
    }
}

/// `ClusterIP 10.96.0.1:443`, `NodePort 30080`; IPv6 addresses stand in brackets.
impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.kind {
            FrontendKind::ClusterIp(_) => "ClusterIP",
            FrontendKind::ExternalIp(_) => "externalIP",
            FrontendKind::LoadBalancerIp(_) => "load-balancer IP",
            FrontendKind::NodePort => "NodePort",
        };
        match self.kind.address() {
            Some(address) => write!(f, "{name} {}", SocketAddr::new(address, self.port.get())),
            None => write!(f, "{name} {}", self.port),
        }
    }
}

/// Kinds of frontend, in the order in which they win a clash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FrontendKind {
    /// The Service's clusterIP: internal.
    ClusterIp(IpAddr),
    /// One of its externalIPs: external.
    ExternalIp(IpAddr),
    /// A load-balancer VIP: external, and subject to source ranges.
    LoadBalancerIp(IpAddr),
    /// A port on every address of [`NodeState::node_port_addresses`]: external.
    NodePort,
}

impl FrontendKind {
    /// The address, or `None` for a NodePort.
    #[must_use]
    pub const fn address(self) -> Option<IpAddr> {
        match self {
            Self::ClusterIp(address)
            | Self::ExternalIp(address)
            | Self::LoadBalancerIp(address) => Some(address),
            Self::NodePort => None,
        }
    }

    /// Whether `internalTrafficPolicy` decides and not `externalTrafficPolicy`.
    #[must_use]
    pub const fn is_internal(self) -> bool {
        matches!(self, Self::ClusterIp(_))
    }
}

/// One endpoint of a ServicePort.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Endpoint {
    /// Address and port.
    pub address: SocketAddr,
    /// Its conditions.
    pub conditions: Conditions,
    /// Whether it runs on this node.
    pub local: bool,
    /// Whether it is in the cluster list.
    pub in_cluster: bool,
    /// Whether it is in the local list.
    pub in_local: bool,
    /// The node that it runs on, if known.
    pub node_name: Option<Arc<str>>,
    /// The zone that it runs in, if known.
    pub zone: Option<Arc<str>>,
    /// Its share of new connections relative to the others; 1 for all, so far.
    pub weight: u16,
}

impl Endpoint {
    /// A ready endpoint elsewhere, in the cluster list.
    #[must_use]
    pub const fn new(address: SocketAddr) -> Self {
        Self {
            address,
            conditions: Conditions::READY,
            local: false,
            in_cluster: true,
            in_local: false,
            node_name: None,
            zone: None,
            weight: 1,
        }
    }
}

/// The node's part of the desired state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeState {
    /// The addresses at which NodePorts are answered.
    pub node_port_addresses: BTreeSet<IpAddr>,
    /// The Node's primary address in each family.
    pub primary_addresses: BTreeSet<IpAddr>,
    /// The pod CIDRs of the Node.
    pub pod_cidrs: BTreeSet<IpNet>,
    /// The known ServiceCIDRs, by ServiceCIDR object.
    pub service_cidrs: BTreeMap<Arc<str>, Vec<IpNet>>,
}
