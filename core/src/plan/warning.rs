//! What people should know about the objects that were planned.

use std::{fmt, net::IpAddr, sync::Arc};

use ipnet::IpNet;

use super::{Frontend, ServicePortKey};
use crate::model::{Family, ObjectName, Protocol};

/// Something odd about an object. It stops nothing, and it is said once as long as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// Two ServicePorts want one frontend.
    FrontendClash {
        /// The frontend, as the loser wants it.
        frontend: Frontend,
        /// Who does not get it as long as the owner is there.
        loser: ServicePortKey,
        /// Who has it.
        owner: ServicePortKey,
    },
    /// Two ports of a Service have the same name and protocol; the first counts.
    DuplicatePort {
        /// The Service.
        service: ObjectName,
        /// The name of the port.
        port: Arc<str>,
        /// The protocol.
        protocol: Protocol,
    },
    /// A Service has source ranges, but none of a family in which it has load-balancer VIPs.
    NoRangeOfFamily {
        /// The Service.
        service: ObjectName,
        /// The family whose VIPs are open to everybody.
        family: Family,
    },
    /// NodePorts are wanted on the Node's primary addresses, and none is known.
    NoPrimaryAddress {
        /// The name of the Node.
        node: Arc<str>,
    },
    /// Pods are recognised by a CIDR that ClusterIPs come from, too.
    PodsOverlapServices {
        /// The CIDR of pods.
        pods: IpNet,
        /// The ServiceCIDR object.
        service_cidr: Arc<str>,
        /// The CIDR in it.
        cidr: IpNet,
    },
    /// Pods are recognised by a CIDR that this node's address lies in.
    PodsOverlapNode {
        /// The CIDR of pods.
        pods: IpNet,
        /// The node's address.
        address: IpAddr,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FrontendClash { frontend, loser, owner } => write!(
                f,
                "Service port {loser} is not served at {frontend}: {owner} already is, and will \
                 be until it goes"
            ),
            Self::DuplicatePort { service, port, protocol } => write!(
                f,
                "Service {service} has more than one {protocol} port named \"{port}\": only the \
                 first is served"
            ),
            Self::NoRangeOfFamily { service, family } => write!(
                f,
                "Load-balancer VIPs of Service {service} are open to everybody in {family}: none \
                 of its source ranges is of that family"
            ),
            Self::NoPrimaryAddress { node } => {
                write!(f, "NodePorts are answered nowhere: no address of Node {node} is known")
            }
            Self::PodsOverlapServices { pods, service_cidr, cidr } => write!(
                f,
                "Cluster CIDR {pods} overlaps with {cidr} of ServiceCIDR {service_cidr}: one of \
                 the two is wrong"
            ),
            Self::PodsOverlapNode { pods, address } => write!(
                f,
                "Cluster CIDR {pods} contains this node's address {address}: connections of the \
                 node count as those of a local pod and are not masqueraded"
            ),
        }
    }
}
