//! The one task that drives updates from the sources through the plan to the backends.
//!
//! `drive` is the loop; a `lane` is what it knows of one backend, its `table` and what it `left`
//! among that; a `job` is what a backend is doing; the `judge` says how things stand.
//! The engine decides when something happens and never what: that is the plan's business.

mod backoff;
mod drive;
mod health_checks;
mod job;
mod judge;
mod kube_proxy;
mod lane;
mod left;
mod meters;
mod status;
mod table;
#[cfg(test)]
mod tests;
mod waiting;

use std::{net::IpAddr, sync::Arc, time::Duration};

use ipnet::IpNet;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::{
    health_checks::{HealthChecks, HealthServers},
    status::{BackendStatus, FamilyStatus, Health, Ineligible, Role, Status},
};
pub use crate::plan::NodePortAddresses;
use crate::{
    backend::{Capabilities, LbBackend},
    notice::Notices,
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
    /// The pod CIDRs of the cluster, where pods are recognised by them.
    pub cluster_cidrs: Vec<IpNet>,
    /// The least time between two applies; 0: as soon as the last one is done.
    pub min_sync_period: Duration,
    /// How often backends are asked to prove that the kernel does what was applied.
    pub verify_period: Duration,
}

impl EngineOptions {
    /// How long a backend may be in trouble, or busy with one thing, before it is given up:
    /// kube-proxy's two sync periods.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.verify_period * 2
    }
}

impl EngineOptions {
    /// Defaults for the node called `node_name`.
    #[must_use]
    pub fn new(node_name: &str) -> Self {
        Self {
            node_name: node_name.into(),
            node_port_addresses: NodePortAddresses::Primary,
            node_ip: None,
            cluster_cidrs: Vec::new(),
            min_sync_period: Duration::ZERO,
            verify_period: Duration::from_secs(30),
        }
    }
}

/// Drives updates from the sources through the plan to the backends.
pub struct Engine {
    options: EngineOptions,
    sources: Vec<(SourceName, Box<dyn ServiceSource>)>,
    backends: Vec<(String, Box<dyn LbBackend>)>,
    status: watch::Sender<Status>,
    health_checks: Arc<HealthChecks>,
    notices: Notices,
}

impl Engine {
    /// Puts an engine together. Names are those of the registry; order of backends is the order in
    /// which a connection meets them.
    #[must_use]
    pub fn new(
        options: EngineOptions,
        sources: Vec<(SourceName, Box<dyn ServiceSource>)>,
        backends: Vec<(String, Box<dyn LbBackend>)>,
    ) -> Self {
        let names = backends.iter().map(|(name, _)| (name.clone(), BackendStatus::default()));
        let status = Status { backends: names.collect(), ..Status::default() };
        let status = watch::channel(status).0;
        let (health_checks, notices) = (Arc::default(), Notices::default());
        Self { options, sources, backends, status, health_checks, notices }
    }

    /// Gives notice of what operators should know about the Node and about Services.
    #[must_use]
    pub fn with_notices(mut self, notices: Notices) -> Self {
        self.notices = notices;
        self
    }

    /// Says what the backend called `name` can do, so that its loss is judged by that. Without it
    /// a backend is taken to carry everything.
    #[must_use]
    pub fn with_capabilities(self, name: &str, capabilities: &Capabilities) -> Self {
        self.status.send_modify(|status| {
            if let Some(backend) = status.backends.get_mut(name) {
                backend.role = Role::of(capabilities);
            }
        });
        self
    }

    /// How things stand; changes with every apply.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// What load balancers outside may ask of this node; changes with every plan.
    #[must_use]
    pub fn health_checks(&self) -> Arc<HealthChecks> {
        Arc::clone(&self.health_checks)
    }

    /// Runs until `shutdown`. The kernel's state stays in place.
    ///
    /// # Errors
    ///
    /// Fails if a source fails for good.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), SourceError> {
        drive::drive(self, shutdown).await
    }
}
