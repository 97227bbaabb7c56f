//! The one task that drives updates from the sources through the plan to the backends.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use crate::plan::NodePortAddresses;
use crate::{
    backend::{LbBackend, LeftReason},
    plan::ServicePortKey,
    source::{ServiceSource, SourceError, SourceName},
};

/// What the engine and the plan need to know besides objects.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EngineOptions {
    /// The name of the own Node.
    pub node_name: Arc<str>,
    /// Which addresses of this node answer NodePorts.
    pub node_port_addresses: NodePortAddresses,
    /// Overrides the Node's primary address of its family (`--bind-address`), if specified.
    pub node_ip: Option<IpAddr>,
    /// The least time between two applies; 0: as soon as the last one is done.
    pub min_sync_period: Duration,
    /// How often backends are asked to prove that the kernel does what was applied.
    pub verify_period: Duration,
}

impl EngineOptions {
    /// Defaults for the node called `node_name`.
    #[must_use]
    pub fn new(node_name: &str) -> Self {
        Self {
            node_name: node_name.into(),
            node_port_addresses: NodePortAddresses::Primary,
            node_ip: None,
            min_sync_period: Duration::ZERO,
            verify_period: Duration::from_secs(30),
        }
    }
}

/// Drives updates from the sources through the plan to the backends.
pub struct Engine {
    status: watch::Sender<Status>,
}

impl Engine {
    /// Puts an engine together. Names are those of the registry; order of backends is the order in
    /// which a connection meets them.
    #[must_use]
    pub fn new(
        _options: EngineOptions,
        _sources: Vec<(SourceName, Box<dyn ServiceSource>)>,
        _backends: Vec<(String, Box<dyn LbBackend>)>,
    ) -> Self {
        Self { status: watch::channel(Status::default()).0 }
    }

    /// How things stand; changes with every apply.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Runs until `shutdown`. The kernel's state stays in place.
    ///
    /// # Errors
    ///
    /// Fails if a source fails for good.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), SourceError> {
        shutdown.cancelled().await;
        Ok(())
    }
}

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
