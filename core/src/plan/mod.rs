//! What serves, on this node: the rules of service-semantics as pure functions.
//!
//! Planning never fails: bad input is a warning with the object's name, and no Service's fault
//! touches another.
//!
//! In the order of the data: [`Planner`] drafts each dirty Service from its frontends
//! (`frontend`), its endpoints (`select`, in the order of `text_order`) and its options
//! (`affinity`, `health`), settles with the other Services who owns a frontend (`owners`), and
//! says as a [`Delta`] what became different.

mod affinity;
mod delta;
mod draft;
mod frontend;
mod health;
mod no_local;
mod node;
mod owners;
mod planner;
mod select;
mod text_order;
mod warning;

pub use delta::{
    Delta, Endpoint, EndpointLists, Frontend, FrontendKind, NodeState, ServicePort, ServicePortKey,
};
pub use health::HealthCheck;
pub use no_local::NoLocalEndpoints;
pub use node::NodePortAddresses;
pub use planner::{PlanOptions, Planner};
pub use warning::Warning;
