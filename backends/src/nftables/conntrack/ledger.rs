//! What has to be known to tell which flows are stale, and which are still to be looked at.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use shunt_core::{
    Delta,
    backend::ApplyReport,
    model::{Family, Protocol},
    plan::{Frontend, ServicePort, ServicePortKey},
};

use super::stale::{self, Affected, Flow, Question, Serving};

/// The UDP ServicePorts as last applied, and the frontends whose flows are to be looked at.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The UDP ServicePorts as last applied.
    served: HashMap<ServicePortKey, Arc<ServicePort>>,
    /// Their frontends with an address.
    owners: HashMap<SocketAddr, ServicePortKey>,
    node_addresses: BTreeSet<IpAddr>,
    /// Whether a complete Delta has been applied.
    knows_all: bool,
    /// What is still to be looked at.
    affected: Affected,
    /// What is being looked at. What `affected` says of the same frontend is newer.
    under_way: Affected,
}

impl Ledger {
    /// Takes over the frontends that an earlier run left in the kernel.
    pub(super) fn adopt(
        &mut self,
        left: impl IntoIterator<Item = (ServicePortKey, Vec<Frontend>)>,
    ) {
        for (key, frontends) in left {
            let mut port = ServicePort::new();
            port.frontends = frontends.into();
            self.learn(&key, &Arc::new(port));
        }
        self.affected = Affected::default();
    }

    /// Notes what an apply changed.
    pub(super) fn note(&mut self, delta: &Delta, report: &ApplyReport) {
        if report.error.is_some() {
            return;
        }
        if let Some(node) = &delta.node {
            self.node_addresses.clone_from(&node.node_port_addresses);
        }
        self.knows_all |= delta.complete;
        if delta.complete {
            let is_gone = |key: &&ServicePortKey| !delta.service_ports.contains_key(*key);
            let gone: Vec<_> = self.served.keys().filter(is_gone).cloned().collect();
            gone.iter().for_each(|key| self.give_up(key));
        }
        let is_udp = |key: &ServicePortKey| key.protocol == Protocol::Udp;
        let applied = |key: &ServicePortKey| is_udp(key) && !report.failed.contains_key(key);
        let (grown, changed): (Vec<_>, Vec<_>) = delta
            .service_ports
            .iter()
            .filter(|(key, _)| applied(key))
            .partition(|(key, port)| self.only_grows(key, port.as_ref()));
        for (key, port) in grown {
            if let Some(port) = port {
                self.served.insert(key.clone(), Arc::clone(port));
            }
        }
        // All is given up before anything is taken, so that a frontend that changes its owner ends
        // with the new one.
        changed.iter().for_each(|(key, _)| self.give_up(key));
        for (key, port) in changed {
            if let Some(port) = port {
                self.learn(key, port);
            }
        }
    }

    /// Whether there is something to look at.
    pub(super) fn has_more(&self) -> bool {
        !self.affected.is_empty()
    }

    /// Begins a look: what is to be asked for. [`Self::end`] ends it.
    ///
    /// As long as the endpoints are not all known, every flow may be one that must stay, and what
    /// is affected is forgotten: the complete Delta affects all.
    pub(super) fn begin(&mut self) -> Vec<Question> {
        let affected = std::mem::take(&mut self.affected);
        if self.knows_all {
            self.under_way = affected;
        }
        Family::ALL.into_iter().filter_map(|family| self.under_way.question(family)).collect()
    }

    /// Those of the flows that have to go. A change that came during the look counts already: it
    /// is applied, so where the flow leads now is wrong by it or right by it.
    pub(super) fn stale(&self, flows: Vec<Flow>) -> Vec<Flow> {
        let taken = |at: SocketAddr| self.owners.contains_key(&at);
        let is_stale = |flow: &Flow| {
            let of = |affected: &Affected| affected.is_stale(flow, &self.node_addresses, taken);
            of(&self.affected).or_else(|| of(&self.under_way)).unwrap_or(false)
        };
        flows.into_iter().filter(is_stale).collect()
    }

    /// Ends a look. One that failed is to be made again, for both families: one that is clean
    /// costs a dump.
    pub(super) fn end(&mut self, is_success: bool) {
        let mut looked_at = std::mem::take(&mut self.under_way);
        if !is_success {
            looked_at.update(std::mem::take(&mut self.affected));
            self.affected = looked_at;
        }
    }

    /// Whether a change makes no flow stale: whoever served goes on, at the same frontends. To look
    /// costs a walk through all flows of the node, and most changes are of this kind.
    fn only_grows(&self, key: &ServicePortKey, port: Option<&Arc<ServicePort>>) -> bool {
        // What is still to be looked at was said with the endpoints of before.
        if !self.affected.is_empty() || !self.under_way.is_empty() {
            return false;
        }
        let (Some(old), Some(new)) = (self.served.get(key), port) else { return false };
        if old.frontends != new.frontends {
            return false;
        }
        let (before, now) = (stale::serving(old), stale::serving(new));
        // Where nobody served before, a flow may lead to where the frontend's address is itself.
        !before.is_empty() && before.is_subset(&now)
    }

    /// A ServicePort is so now.
    fn learn(&mut self, key: &ServicePortKey, port: &Arc<ServicePort>) {
        let serving = stale::serving(port);
        for frontend in &port.frontends {
            self.affected.insert(key.family, frontend, &serving);
            if let Some(at) = place(frontend) {
                self.owners.insert(at, key.clone());
            }
        }
        self.served.insert(key.clone(), Arc::clone(port));
    }

    /// Nothing serves the frontends of a ServicePort any more, but for those that others own.
    fn give_up(&mut self, key: &ServicePortKey) {
        let Some(old) = self.served.remove(key) else { return };
        let nobody = Serving::default();
        for frontend in &old.frontends {
            if let Some(at) = place(frontend) {
                if self.owners.get(&at).is_some_and(|owner| owner != key) {
                    continue;
                }
                self.owners.remove(&at);
            }
            self.affected.insert(key.family, frontend, &nobody);
        }
    }
}

fn place(frontend: &Frontend) -> Option<SocketAddr> {
    let address = frontend.kind.address()?;
    Some(SocketAddr::new(address, frontend.port.get()))
}
