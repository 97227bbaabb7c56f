//! How things stand, for health checks, metrics and tests.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{backend::LeftReason, plan::ServicePortKey};

/// How things stand.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Status {
    /// Whether all sources have listed everything.
    pub synced: bool,
    /// Updates taken in so far.
    pub updates: u64,
    /// Each backend, by name.
    pub backends: BTreeMap<String, BackendStatus>,
}

/// How one backend stands.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct BackendStatus {
    /// Whether `start` succeeded.
    pub started: bool,
    /// The value of [`Status::updates`] up to which everything is in the kernel.
    pub applied: u64,
    /// ServicePorts left to others, and why.
    pub left: Arc<HashMap<ServicePortKey, LeftReason>>,
    /// ServicePorts that failed and are being retried.
    pub failed: usize,
    /// What the last verify found wrong, or why start or the last apply failed; empty if healthy.
    pub problems: Vec<String>,
}
