//! (stub, helper core fills it in)
/// Stub.
#[derive(Debug)]
pub struct Cluster;
/// Stub.
#[derive(Debug)]
pub struct Dirty;
/// Stub.
#[derive(Debug)]
pub struct ModelWarning;
