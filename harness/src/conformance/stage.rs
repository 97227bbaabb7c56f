//! A backend in a world, and what it was told to serve.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, anyhow, ensure};
use shunt_core::{
    Delta, LbBackend,
    backend::{ApplyReport, Bell, Capabilities, Feature, Inspection, Probe, Verdict},
    model::Family,
    plan::{FrontendKind, NodeState, ServicePort, ServicePortKey},
};
use tokio::runtime::Runtime;

use super::{Dialect, Left, MakeBackend, Service, Site};
use crate::{
    wait::patience,
    world::{Pod, World, pod_cidr},
};

/// How long a backend may take to notice what somebody else did.
const PATIENCE: Duration = Duration::from_secs(20);

/// A world, a backend in it, and what the backend was told.
pub struct Stage<'w> {
    world: &'w World,
    name: String,
    make: MakeBackend,
    agent_test: String,
    site: Site,
    runtime: Runtime,
    backend: Option<Box<dyn LbBackend>>,
    probe: Probe,
    desired: BTreeMap<ServicePortKey, Arc<ServicePort>>,
    node: Arc<NodeState>,
    told: bool,
    bell: Bell,
}

impl<'w> Stage<'w> {
    pub(super) fn new(
        world: &'w World,
        name: &str,
        make: MakeBackend,
        agent_test: String,
    ) -> Result<Self> {
        // Workers are made on this thread and so are in the host's network namespace.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("cannot make a runtime")?;
        let cgroup = Some(world.cgroup().to_owned());
        let site = Site::new(cgroup, world.pin_path());
        let mut node = NodeState::default();
        let host = world.host().addresses();
        node.node_port_addresses = [host.v4.into(), host.v6.into()].into();
        node.primary_addresses.clone_from(&node.node_port_addresses);
        node.pod_cidrs = Family::ALL.map(|family| pod_cidr(true, family)).into();
        let mut stage = Self {
            world,
            name: name.to_owned(),
            make,
            agent_test,
            site,
            runtime,
            backend: None,
            probe: Probe::default(),
            desired: BTreeMap::new(),
            node: Arc::new(node),
            told: false,
            bell: Bell::default(),
        };
        stage.make_backend();
        stage.probe = stage.with_backend(|runtime, backend| runtime.block_on(backend.probe()))?;
        if stage.can(Feature::Forwarded) {
            world.pods().chain([world.host()]).for_each(Pod::use_fresh_ports);
        }
        Ok(stage)
    }

    /// Why the backend cannot work here, if so.
    pub(super) fn cannot_work(&self) -> Option<String> {
        if self.probe.capabilities.is_some() {
            return None;
        }
        let missing: Vec<_> = self.probe.missing().map(|facility| facility.name).collect();
        Some(format!("backend {} lacks {}", self.name, missing.join(", ")))
    }

    /// The world.
    #[must_use]
    pub const fn world(&self) -> &'w World {
        self.world
    }

    /// The backend's name in the table of capabilities.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the backend works.
    #[must_use]
    pub const fn site(&self) -> &Site {
        &self.site
    }

    /// What makes the backend.
    #[must_use]
    pub const fn maker(&self) -> MakeBackend {
        self.make
    }

    /// The name of the test that runs [`super::agent()`].
    #[must_use]
    pub fn agent_test(&self) -> &str {
        &self.agent_test
    }

    /// What the backend found out about the machine.
    #[must_use]
    pub const fn probe(&self) -> &Probe {
        &self.probe
    }

    /// What the backend says that it can take.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.probe.capabilities.clone().unwrap_or_default()
    }

    /// Whether the backend can take a feature.
    #[must_use]
    pub fn can(&self, feature: Feature) -> bool {
        self.capabilities().features.contains(&feature)
    }

    /// Every way of dialling that the backend claims to take.
    #[must_use]
    pub fn dialects(&self) -> Vec<Dialect> {
        let capabilities = self.capabilities();
        let claimed = |dialect: &Dialect| {
            capabilities.families.contains(&dialect.family)
                && capabilities.protocols.contains(&dialect.protocol)
        };
        Dialect::ALL.into_iter().filter(claimed).collect()
    }

    /// Makes the backend anew for another site; what the old one left stays in the kernel.
    pub fn restart_at(&mut self, change: impl FnOnce(&mut Site)) {
        change(&mut self.site);
        self.backend = None;
        self.make_backend();
    }

    /// Makes the backend anew: what the old one left stays in the kernel.
    pub fn restart(&mut self) {
        self.restart_at(|_| ());
    }

    /// Drops the backend as the end of an agent does.
    pub fn stop(&mut self) {
        self.backend = None;
    }

    /// A second backend of the same kind at the same site.
    #[must_use]
    pub fn rival(&self) -> Box<dyn LbBackend> {
        let _context = self.runtime.enter();
        (self.make)(&self.site)
    }

    fn make_backend(&mut self) {
        let context = self.runtime.enter();
        self.backend = Some((self.make)(&self.site));
        drop(context);
        self.told = false;
    }

    /// Does something with the backend and the runtime that it lives on.
    ///
    /// # Errors
    ///
    /// Fails where there is no backend.
    pub fn with_backend<T>(
        &mut self,
        work: impl FnOnce(&Runtime, &mut dyn LbBackend) -> T,
    ) -> Result<T> {
        let backend = self.backend.as_deref_mut().context("the backend was stopped")?;
        Ok(work(&self.runtime, backend))
    }

    /// Runs a future of a backend's.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Starts the backend.
    ///
    /// # Errors
    ///
    /// Fails as the backend does.
    pub fn start(&mut self) -> Result<()> {
        self.bell = Bell::default();
        let bell = self.bell.clone();
        self.with_backend(|runtime, backend| runtime.block_on(backend.start(bell)))?
            .map_err(|error| anyhow!(error).context("the backend did not start"))
    }

    /// Has these ServicePorts served as well, or instead of what they were.
    ///
    /// # Errors
    ///
    /// Fails where the backend fails with one.
    pub fn serve(&mut self, services: impl IntoIterator<Item = Service>) -> Result<Left> {
        self.change(services.into_iter().map(|service| (service.key, Some(service.port))))
    }

    /// Has ServicePorts no longer served.
    ///
    /// # Errors
    ///
    /// Fails where the backend fails with one.
    pub fn remove(&mut self, services: impl IntoIterator<Item = ServicePortKey>) -> Result<Left> {
        self.change(services.into_iter().map(|key| (key, None)))
    }

    /// Has one ServicePort removed and another one served, in one Delta.
    ///
    /// # Errors
    ///
    /// Fails where the backend fails with one.
    pub fn replace(&mut self, old: &ServicePortKey, new: Service) -> Result<Left> {
        self.change([(old.clone(), None), (new.key, Some(new.port))])
    }

    /// Has the node's addresses for NodePorts changed.
    ///
    /// # Errors
    ///
    /// Fails where the backend fails.
    pub fn select_node_addresses(
        &mut self,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> Result<()> {
        let addresses = addresses.into_iter().collect();
        self.change_node(|node| node.node_port_addresses = addresses)
    }

    /// Has something about the node changed.
    ///
    /// # Errors
    ///
    /// Fails where the backend fails.
    pub fn change_node(&mut self, change: impl FnOnce(&mut NodeState)) -> Result<()> {
        change(Arc::make_mut(&mut self.node));
        let mut delta = Delta::default();
        delta.node = Some(Arc::clone(&self.node));
        if self.told { self.apply(&delta) } else { self.apply_first(true) }.map(drop)
    }

    /// Applies the same state as before, from nothing, as after a restart.
    ///
    /// # Errors
    ///
    /// Fails where the backend fails.
    pub fn apply_all(&mut self) -> Result<Left> {
        self.apply_first(true)
    }

    /// As [`Self::apply_all`], and says whether the sources could list everything.
    ///
    /// # Errors
    ///
    /// Fails where the backend fails.
    pub fn apply_first(&mut self, complete: bool) -> Result<Left> {
        if !self.told {
            self.start()?;
            self.told = true;
        }
        let mut delta = Delta::default();
        delta.complete = complete;
        delta.node = Some(Arc::clone(&self.node));
        for (key, port) in &self.desired {
            delta.cluster_ips.extend(cluster_ips(port, true));
            delta.service_ports.insert(key.clone(), Some(Arc::clone(port)));
        }
        self.apply(&delta)
    }

    /// Forgets a ServicePort without telling the backend, as happens between two runs.
    pub fn forget(&mut self, key: &ServicePortKey) {
        self.desired.remove(key);
    }

    /// Reads back what is served.
    ///
    /// # Errors
    ///
    /// Fails as the backend does.
    pub fn inspect(&mut self) -> Result<Inspection> {
        self.with_backend(|runtime, backend| runtime.block_on(backend.inspect()))?
            .map_err(|error| anyhow!(error).context("cannot read the state back"))
    }

    /// Has the backend prove what it does.
    ///
    /// # Errors
    ///
    /// Fails where there is no backend.
    pub fn verify(&mut self) -> Result<Verdict> {
        self.with_backend(|runtime, backend| runtime.block_on(backend.verify()))
    }

    /// Waits for the bell, by which the backend says that somebody else changed something.
    ///
    /// # Errors
    ///
    /// Fails where it does not ring.
    pub fn expect_bell(&self) -> Result<()> {
        let rung = async { tokio::time::timeout(patience(PATIENCE), self.bell.rung()).await };
        self.runtime.block_on(rung).context("the bell did not ring")
    }

    /// Does what the engine does when the bell has rung: has the backend verify, and applies
    /// everything anew where it asks for that. Returns what the backend said.
    ///
    /// # Errors
    ///
    /// Fails where the backend fails.
    pub fn repair(&mut self) -> Result<Verdict> {
        let verdict = self.verify()?;
        if verdict.reapply {
            self.apply_all()?;
        }
        Ok(verdict)
    }

    /// Expects that the backend finds nothing wrong.
    ///
    /// # Errors
    ///
    /// Fails where it does.
    pub fn expect_healthy(&mut self) -> Result<()> {
        let verdict = self.verify()?;
        let healthy = verdict.problems.is_empty() && verdict.repaired.is_empty();
        ensure!(healthy && !verdict.reapply, "unhealthy: {verdict:?}");
        Ok(())
    }

    /// Has the backend remove every trace, and returns what it says that it removed.
    ///
    /// # Errors
    ///
    /// Fails as the backend does.
    pub fn cleanup(&mut self) -> Result<Vec<String>> {
        self.with_backend(|runtime, backend| runtime.block_on(backend.cleanup()))?
            .map_err(|error| anyhow!(error).context("cannot clean up"))
    }

    fn change(
        &mut self,
        changes: impl IntoIterator<Item = (ServicePortKey, Option<ServicePort>)>,
    ) -> Result<Left> {
        let mut delta = Delta::default();
        for (key, port) in changes {
            let port = port.map(Arc::new);
            let before = match &port {
                Some(port) => self.desired.insert(key.clone(), Arc::clone(port)),
                None => self.desired.remove(&key),
            };
            delta.cluster_ips.extend(before.iter().flat_map(|port| cluster_ips(port, false)));
            delta.cluster_ips.extend(port.iter().flat_map(|port| cluster_ips(port, true)));
            delta.service_ports.insert(key, port);
        }
        if self.told { self.apply(&delta) } else { self.apply_first(true) }
    }

    fn apply(&mut self, delta: &Delta) -> Result<Left> {
        let report =
            self.with_backend(|runtime, backend| runtime.block_on(backend.apply(delta)))?;
        let ApplyReport { left, failed, error, .. } = report;
        if let Some(error) = error {
            return Err(anyhow!(error).context("apply failed"));
        }
        if let Some((key, error)) = failed.into_iter().next() {
            return Err(anyhow!(error).context(format!("apply failed for {key}")));
        }
        Ok(Left(left))
    }
}

fn cluster_ips(port: &ServicePort, active: bool) -> impl Iterator<Item = (IpAddr, bool)> + '_ {
    port.frontends.iter().filter_map(move |frontend| match frontend.kind {
        FrontendKind::ClusterIp(address) => Some((address, active)),
        _ => None,
    })
}
