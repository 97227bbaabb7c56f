//! The cluster as last seen, in slim types of our own.

mod cluster;
mod objects;

pub use cluster::{Cluster, Dirty, ModelWarning};
pub use objects::{
    Conditions, EndpointSlice, Family, HostAddress, Node, NodeAddress, NodeAddressKind, ObjectName,
    PortSpec, Protocol, Service, ServiceCidr, ServiceType, SliceEndpoint, SlicePort, TrafficPolicy,
};
