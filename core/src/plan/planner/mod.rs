//! The desired state of this node, kept up to date.

mod cluster_ips;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    hash::BuildHasher as _,
    net::IpAddr,
    sync::Arc,
};

use foldhash::quality::RandomState;
use hashbrown::HashTable;
use indexmap::IndexMap;
use ipnet::IpNet;
use smallvec::SmallVec;

use self::cluster_ips::ActiveIps;
use super::{
    Delta, Frontend, HealthCheck, NoLocalEndpoints, NodePortAddresses, NodeState, ServicePort,
    ServicePortKey, Warning,
    draft::{self, ClusterIps, PortDraft},
    node,
    owners::{Claimant, Claimed, Owners, Slot},
};
use crate::model::{Cluster, Dirty, ObjectName, PerFamily};

/// What the plan needs to know besides objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanOptions {
    /// Which addresses of this node answer NodePorts.
    pub node_port_addresses: NodePortAddresses,
    /// Overrides the Node's primary address of its family, if specified.
    pub node_ip: Option<IpAddr>,
    /// The pod CIDRs of the cluster, for a warning where they overlap with something else.
    pub cluster_cidrs: Vec<IpNet>,
}

/// The desired state of this node, kept up to date.
///
/// Planning anew costs what the dirty Services cost, and what is touched through a frontend that
/// changes its owner.
#[derive(Debug)]
pub struct Planner {
    options: PlanOptions,
    /// By name. Boxed, because the empty places of a table cost as much as the full ones.
    services: HashTable<Box<PlannedService>>,
    hasher: RandomState,
    owners: Owners,
    /// The active ClusterIPs, and whose they are.
    cluster_ips: ActiveIps,
    /// `None` until planned for the first time.
    node: Option<Arc<NodeState>>,
    /// Overlaps of CIDRs that were told and still stand.
    overlaps: Vec<Warning>,
    /// What became of health checks since somebody asked.
    health_changes: HashMap<ObjectName, Option<HealthCheck>>,
    no_local: PerFamily<NoLocalEndpoints>,
}

#[derive(Debug)]
struct PlannedService {
    name: ObjectName,
    cluster_ips: ClusterIps,
    /// Most Services have one, in one family.
    ports: SmallVec<[PlannedPort; 1]>,
    health: Option<HealthCheck>,
    /// What was said about the Service and still stands.
    warnings: Box<[Warning]>,
}

impl PlannedService {
    /// A Service of which nothing is planned.
    fn new(name: ObjectName) -> Self {
        Self {
            name,
            cluster_ips: ClusterIps::default(),
            ports: SmallVec::new(),
            health: None,
            warnings: Box::default(),
        }
    }
}

#[derive(Debug)]
struct PlannedPort {
    claimant: Arc<Claimant>,
    state: Arc<ServicePort>,
    /// The frontends that it wants and that others own, sorted.
    lost: Box<[Frontend]>,
}

impl PlannedPort {
    fn key(&self) -> &ServicePortKey {
        &self.claimant.key
    }

    fn claims(&self) -> impl Iterator<Item = &Frontend> {
        self.state.frontends.iter().chain(&self.lost)
    }
}

/// What one call of [`Planner::plan`] gathers.
#[derive(Debug, Default)]
struct Round {
    delta: Delta,
    warnings: Vec<Warning>,
    /// ServicePorts of which a frontend changed its owner.
    touched: HashSet<ServicePortKey>,
    /// Slots at which a claim was lost, or the owner changed.
    contested: Vec<Slot>,
}

impl Planner {
    /// A plan of nothing.
    #[must_use]
    pub fn new(options: PlanOptions) -> Self {
        Self {
            options,
            services: HashTable::new(),
            hasher: RandomState::default(),
            owners: Owners::default(),
            cluster_ips: ActiveIps::default(),
            node: None,
            overlaps: Vec::new(),
            health_changes: HashMap::new(),
            no_local: PerFamily::default(),
        }
    }

    /// Plans anew what is dirty. Says what became different, and what is odd and was not said yet.
    pub fn plan(&mut self, cluster: &Cluster, mut dirty: Dirty) -> (Delta, Vec<Warning>) {
        let mut round = Round::default();
        if dirty.node || self.node.is_none() {
            self.plan_node(cluster, &mut round);
        }
        for address in &dirty.host_addresses {
            dirty.services.extend(self.cluster_ips.services(*address).cloned());
        }
        self.reserve(dirty.services.len(), &mut round.delta);
        for name in dirty.services {
            self.plan_service(cluster, name, &mut round);
        }
        for key in std::mem::take(&mut round.touched) {
            self.settle_again(&key, &mut round);
        }
        for slot in round.contested {
            round.warnings.extend(self.owners.untold_losses(slot));
        }
        (round.delta, round.warnings)
    }

    /// The whole desired state, as the Delta from nothing.
    #[must_use]
    pub fn full(&self) -> Delta {
        let mut service_ports =
            IndexMap::with_capacity_and_hasher(self.services.len(), RandomState::default());
        for port in self.services.iter().flat_map(|service| &service.ports) {
            service_ports.insert(port.key().clone(), Some(Arc::clone(&port.state)));
        }
        Delta {
            complete: true,
            node: Some(self.node.clone().unwrap_or_default()),
            cluster_ips: self.cluster_ips.iter().map(|address| (address, true)).collect(),
            service_ports,
        }
    }

    /// The desired state of one ServicePort.
    #[must_use]
    pub fn service_port(&self, key: &ServicePortKey) -> Option<&Arc<ServicePort>> {
        let hash = self.hasher.hash_one(&key.service);
        let service = self.services.find(hash, |service| service.name == key.service)?;
        service.ports.iter().find(|port| port.key() == key).map(|port| &port.state)
    }

    /// What became of the health checks of Services since the last call; `None` stands for one
    /// that is no longer asked for. No backend needs it, so that no Delta has it.
    pub fn take_health_changes(&mut self) -> HashMap<ObjectName, Option<HealthCheck>> {
        std::mem::take(&mut self.health_changes)
    }

    /// ServicePorts that drop connections for want of an endpoint on this node.
    #[must_use]
    pub const fn no_local_endpoints(&self) -> PerFamily<NoLocalEndpoints> {
        self.no_local
    }

    /// The node's part as last planned.
    #[must_use]
    pub fn node(&self) -> Option<&NodeState> {
        self.node.as_deref()
    }

    /// Whether nothing was ever planned: the next Delta is then the Delta from nothing.
    #[must_use]
    pub const fn is_fresh(&self) -> bool {
        self.node.is_none()
    }

    fn plan_node(&mut self, cluster: &Cluster, round: &mut Round) {
        let state = node::state(cluster, &self.options);
        let had_primary = self.node.as_ref().is_none_or(|node| !node.primary_addresses.is_empty());
        if had_primary
            && state.primary_addresses.is_empty()
            && self.options.node_port_addresses == NodePortAddresses::Primary
        {
            let node = Arc::clone(cluster.node_name());
            round.warnings.push(Warning::NoPrimaryAddress { node });
        }
        let overlaps = node::overlaps(&state, &self.options.cluster_cidrs);
        round.warnings.extend(overlaps.iter().filter(|w| !self.overlaps.contains(w)).cloned());
        self.overlaps = overlaps;
        if self.node.as_deref() != Some(&state) {
            let state = Arc::new(state);
            round.delta.node = Some(Arc::clone(&state));
            self.node = Some(state);
        }
    }

    /// Growing step by step costs a third of a first plan.
    fn reserve(&mut self, services: usize, delta: &mut Delta) {
        delta.service_ports.reserve_exact(services);
        if self.services.is_empty() {
            let hasher = &self.hasher;
            self.services.reserve(services, |service| hasher.hash_one(&service.name));
            self.owners.reserve(services);
            self.cluster_ips.reserve(services);
            delta.cluster_ips.reserve(services);
        }
    }

    fn plan_service(&mut self, cluster: &Cluster, name: ObjectName, round: &mut Round) {
        let draft = draft::draft(cluster, &name);
        let hash = self.hasher.hash_one(&name);
        let old = match self.services.find_entry(hash, |service| service.name == name) {
            Ok(found) => *found.remove().0,
            Err(_) => PlannedService::new(name.clone()),
        };
        self.plan_cluster_ips(&name, old.cluster_ips, draft.cluster_ips, &mut round.delta);
        for port in &old.ports {
            self.no_local[port.key().family].subtract(NoLocalEndpoints::of(&port.state));
        }
        let mut old_ports: Vec<_> = old.ports.into_iter().map(Some).collect();
        let mut ports = SmallVec::with_capacity(draft.ports.len());
        for (place, draft) in draft.ports.into_iter().enumerate() {
            let old = take_port(&mut old_ports, place, &draft.key);
            let port = self.plan_port(draft, old, round);
            self.no_local[port.key().family].add(NoLocalEndpoints::of(&port.state));
            ports.push(port);
        }
        for gone in old_ports.into_iter().flatten() {
            for frontend in gone.claims() {
                self.release(frontend, &gone.claimant, round);
            }
            round.delta.service_ports.insert(gone.key().clone(), None);
        }
        if old.health != draft.health {
            self.health_changes.insert(name.clone(), draft.health);
        }
        let untold = draft.warnings.iter().filter(|warning| !old.warnings.contains(warning));
        round.warnings.extend(untold.cloned());
        if !ports.is_empty() || draft.cluster_ips != ClusterIps::default() {
            let service = PlannedService {
                name,
                cluster_ips: draft.cluster_ips,
                ports,
                health: draft.health,
                warnings: draft.warnings.into(),
            };
            let hasher = &self.hasher;
            self.services
                .insert_unique(hash, Box::new(service), |service| hasher.hash_one(&service.name));
        }
    }

    fn plan_cluster_ips(
        &mut self,
        name: &ObjectName,
        old: ClusterIps,
        new: ClusterIps,
        delta: &mut Delta,
    ) {
        for address in old.into_iter().flatten().filter(|address| !new.contains(&Some(*address))) {
            if self.cluster_ips.remove(address, name) {
                delta.cluster_ips.insert(address, false);
            }
        }
        for address in new.into_iter().flatten().filter(|address| !old.contains(&Some(*address))) {
            // One that another Service gave up in this round was active all the time.
            if self.cluster_ips.add(address, name) && delta.cluster_ips.remove(&address).is_none() {
                delta.cluster_ips.insert(address, true);
            }
        }
    }

    /// Settles which of the wanted frontends the ServicePort gets.
    ///
    /// What it wanted before and still wants, it has or lacks as before; if that changed earlier
    /// in this round, it is touched and settled again at the end.
    fn plan_port(
        &mut self,
        draft: PortDraft,
        old: Option<PlannedPort>,
        round: &mut Round,
    ) -> PlannedPort {
        let PortDraft { key, created, mut wanted, mut state } = draft;
        let (kept, old_state) = match old {
            Some(old) if old.claimant.created == created => {
                for frontend in old.claims().filter(|old| !is_among(old, &wanted)) {
                    self.release(frontend, &old.claimant, round);
                }
                let state = Arc::clone(&old.state);
                (Some(old), Some(state))
            }
            // Another age is another rank: every claim is made anew.
            Some(old) => {
                for frontend in old.claims() {
                    self.release(frontend, &old.claimant, round);
                }
                (None, Some(old.state))
            }
            None => (None, None),
        };
        let claimant = match &kept {
            Some(old) => Arc::clone(&old.claimant),
            None => Arc::new(Claimant { created, key }),
        };
        let mut is_lost = |frontend: &Frontend| match &kept {
            Some(old) if is_among(frontend, &old.state.frontends) => false,
            Some(old) if is_among(frontend, &old.lost) => true,
            _ => !self.claim(frontend, &claimant, round),
        };
        let mut lost = Vec::new();
        wanted.retain(|frontend| {
            let is_lost = is_lost(frontend);
            lost.extend(is_lost.then(|| frontend.clone()));
            !is_lost
        });
        let lost = lost.into();
        state.frontends = wanted;
        let state = match old_state {
            Some(old) if *old == state => old,
            _ => round.publish(&claimant.key, state),
        };
        PlannedPort { claimant, state, lost }
    }

    /// Settles anew which frontends a ServicePort gets, after an owner changed.
    fn settle_again(&mut self, key: &ServicePortKey, round: &mut Round) {
        let hash = self.hasher.hash_one(&key.service);
        let found = self.services.find_mut(hash, |service| service.name == key.service);
        let Some(service) = found else { return };
        let Some(port) = service.ports.iter_mut().find(|port| port.key() == key) else { return };
        let mut claims: Vec<Frontend> = port.claims().cloned().collect();
        claims.sort_unstable();
        let is_owner =
            |frontend: &Frontend| self.owners.is_owner(Slot::of(frontend, key), &port.claimant);
        let (owned, lost): (Vec<_>, Vec<_>) = claims.into_iter().partition(is_owner);
        let owned = SmallVec::from(owned);
        port.lost = lost.into();
        if port.state.frontends != owned {
            let state = ServicePort { frontends: owned, ..(*port.state).clone() };
            port.state = round.publish(key, state);
        }
    }

    /// Claims a frontend; returns whether it is owned now.
    fn claim(&mut self, frontend: &Frontend, claimant: &Arc<Claimant>, round: &mut Round) -> bool {
        let slot = Slot::of(frontend, &claimant.key);
        let claimed = self.owners.claim(slot, frontend.kind, claimant);
        if claimed != Claimed::Alone {
            round.contested.push(slot);
        }
        let is_owned = claimed != Claimed::Lost;
        if let Claimed::From(beaten) = claimed {
            round.touched.insert(beaten.key.clone());
        }
        is_owned
    }

    fn release(&mut self, frontend: &Frontend, claimant: &Arc<Claimant>, round: &mut Round) {
        let slot = Slot::of(frontend, &claimant.key);
        if let Some(heir) = self.owners.release(slot, claimant) {
            round.touched.insert(heir.key.clone());
            round.contested.push(slot);
        }
    }
}

impl Round {
    fn publish(&mut self, key: &ServicePortKey, state: ServicePort) -> Arc<ServicePort> {
        let state = Arc::new(state);
        self.delta.service_ports.insert(key.clone(), Some(Arc::clone(&state)));
        state
    }
}

/// Takes the port of this key. A Service's ports hardly ever change, so it is looked for first
/// where the new one is.
fn take_port(
    ports: &mut [Option<PlannedPort>],
    place: usize,
    key: &ServicePortKey,
) -> Option<PlannedPort> {
    let is_same = |port: &PlannedPort| port.key() == key;
    if let Some(port) = ports.get_mut(place).and_then(|port| port.take_if(|port| is_same(port))) {
        return Some(port);
    }
    ports.iter_mut().find_map(|port| port.take_if(|port| is_same(port)))
}

/// Whether the place of the frontend is among those; the interface that carries it is no matter.
fn is_among(frontend: &Frontend, frontends: &[Frontend]) -> bool {
    frontends.iter().any(|other| other.kind == frontend.kind && other.port == frontend.port)
}
