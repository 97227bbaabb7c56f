//! What serves, on this node: the rules of service-semantics as pure functions.
//!
//! Planning never fails: bad input is a warning with the object's name, and no Service's fault
//! touches another.

mod delta;

pub use delta::{
    Delta, Endpoint, EndpointLists, Frontend, FrontendKind, NodeState, ServicePort, ServicePortKey,
};
