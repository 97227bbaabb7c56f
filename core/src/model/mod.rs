//! The cluster as last seen, in slim types of our own.
//!
//! [`Cluster`] takes in what the sources say and tells, as a [`Dirty`], what has to be planned
//! anew.
//! It judges nothing: which Services are served, and by which endpoints, is the plan's business.

mod cluster;
mod dirty;
mod endpoints;
mod moment;
mod objects;
mod per_family;
mod store;

pub use cluster::Cluster;
pub use dirty::{Changes, Dirty, ModelWarning};
pub use moment::Moment;
pub use objects::{
    Conditions, EndpointSlice, Family, Hints, HostAddress, NameParts, Node, NodeAddress,
    NodeAddressKind, ObjectName, PortSpec, Protocol, Service, ServiceCidr, ServiceType,
    SliceEndpoint, SlicePort, TrafficPolicy,
};
pub use per_family::PerFamily;
