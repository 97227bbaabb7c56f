//! Kubernetes objects as the API server prints them, turned into the slim types of the model.
//!
//! Only fields that load balancing reads are decoded, straight into their final types; everything
//! else is skipped without being stored.
//! Nothing here knows where an object came from: files and the API server are read the same way.

mod address;
mod endpoint_slice;
mod error;
mod kind;
mod meta;
mod name;
mod names;
mod node;
mod parse;
mod port;
mod service;
mod service_cidr;

pub use error::{Fault, ObjectError, ObjectWarning};
pub use kind::{ObjectKind, TypeMeta};
pub use names::Names;
pub use parse::{Parsed, parse};

#[cfg(test)]
mod tests;
