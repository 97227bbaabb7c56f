//! The cluster as last seen, in slim types of our own.
//!
//! [`Cluster`] takes in what the sources say and tells, as a [`Dirty`], what has to be planned
//! anew.
//! It judges nothing: which Services are served, and by which endpoints, is the plan's business.

mod cluster;
mod dirty;
mod endpoints;
mod objects;
mod store;

pub use cluster::Cluster;
pub use dirty::{Dirty, ModelWarning};
pub use objects::{
    Conditions, EndpointSlice, Family, HostAddress, Node, NodeAddress, NodeAddressKind, ObjectName,
    PortSpec, Protocol, Service, ServiceCidr, ServiceType, SliceEndpoint, SlicePort, TrafficPolicy,
};
