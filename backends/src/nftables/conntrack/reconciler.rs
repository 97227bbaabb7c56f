//! What an apply means for the flows under way.

use std::{
    collections::{BTreeSet, HashMap},
    error::Error,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use async_trait::async_trait;
use metrics::{Counter, Histogram, Unit, counter, describe_counter, describe_histogram, histogram};
use shunt_core::{
    Delta,
    backend::ApplyReport,
    model::{Family, Protocol},
    plan::{Frontend, ServicePort, ServicePortKey},
};
use tracing::{info, warn};

use super::{
    netlink::{FlowError, Netlink},
    stale::{self, Affected, Flow, Question, Serving},
};

/// The kernel's flows, or a test's.
#[async_trait]
pub(super) trait Flows: Send + Sync {
    /// The flows that a question asks for, and possibly others.
    async fn ask(&mut self, question: Question) -> Result<Vec<Flow>, FlowError>;

    /// Deletes a flow. Returns whether it was still there.
    async fn delete(&mut self, flow: &Flow) -> Result<bool, FlowError>;
}

/// Deletes the UDP flows that an apply made stale, and no others.
///
/// # What it needs from the backend
///
/// - [`Self::adopt`] at start: the UDP frontends that were read back from the kernel, so that
///   flows of a Service which went while no agent ran are found too. Without it those stay until
///   they time out; nothing else is lost.
/// - [`Self::after`] after *every* apply, with the Delta and the finished report: what failed is
///   left out. It looks at the kernel only if a UDP ServicePort is among what was applied, and
///   before the first complete Delta never: as long as the endpoints are not all known, every
///   flow may be one that must stay.
/// - [`Self::retry`] from `verify`: what the kernel refused is tried again.
///
/// It never returns an error: the rules are right, and stale flows are no reason to apply them
/// again. What goes wrong is logged once and retried.
pub struct Reconciler {
    flows: Box<dyn Flows>,
    /// The UDP ServicePorts as last applied.
    served: HashMap<ServicePortKey, Arc<ServicePort>>,
    /// Their frontends with an address.
    owners: HashMap<SocketAddr, ServicePortKey>,
    node_addresses: BTreeSet<IpAddr>,
    /// Whether a complete Delta has been applied.
    knows_all: bool,
    /// What is still to be looked at.
    affected: Affected,
    /// Whether the last look failed, so that a failure is said once.
    fails: bool,
    meters: HashMap<Family, Meters>,
}

impl Reconciler {
    /// Over the kernel's flows of this network namespace; the socket is opened when it is needed.
    #[must_use]
    pub fn new() -> Self {
        Self::over(Box::new(Netlink::default()))
    }

    pub(super) fn over(flows: Box<dyn Flows>) -> Self {
        describe_histogram!(
            SECONDS,
            Unit::Seconds,
            "Time that looking for stale UDP flows took after an apply."
        );
        describe_counter!(DELETED, "Stale UDP flows that were deleted.");
        Self {
            flows,
            served: HashMap::new(),
            owners: HashMap::new(),
            node_addresses: BTreeSet::new(),
            knows_all: false,
            affected: Affected::default(),
            fails: false,
            meters: Family::ALL.map(|family| (family, Meters::new(family))).into(),
        }
    }

    /// Takes over the frontends that an earlier run left in the kernel.
    pub fn adopt(&mut self, left: impl IntoIterator<Item = (ServicePortKey, Vec<Frontend>)>) {
        for (key, frontends) in left {
            let mut port = ServicePort::new();
            port.frontends = frontends;
            self.learn(&key, &Arc::new(port));
        }
        self.affected = Affected::default();
    }

    /// Looks at the flows of the UDP ServicePorts that an apply changed, and deletes the stale.
    pub async fn after(&mut self, delta: &Delta, report: &ApplyReport) {
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
        self.retry().await;
    }

    /// Looks again at what could not be looked at; does nothing if there is nothing left.
    pub async fn retry(&mut self) {
        if !self.knows_all {
            self.affected = Affected::default();
            return;
        }
        let affected = std::mem::take(&mut self.affected);
        for question in Family::ALL.into_iter().filter_map(|family| affected.question(family)) {
            let begin = Instant::now();
            let result = self.look(question, &affected).await;
            if let Some(meters) = self.meters.get(&question.family) {
                meters.seconds.record(begin.elapsed());
            }
            match result {
                Ok(()) => self.fails = false,
                Err(error) => {
                    if !std::mem::replace(&mut self.fails, true) {
                        let error: &dyn Error = &error;
                        warn!(error, "stale UDP flows may be left, and are looked for again");
                    }
                    // Both families then are looked at again; one that is clean costs a dump.
                    self.affected.clone_from(&affected);
                }
            }
        }
    }

    async fn look(&mut self, question: Question, affected: &Affected) -> Result<(), FlowError> {
        let flows = self.flows.ask(question).await?;
        let taken = |at: SocketAddr| self.owners.contains_key(&at);
        let is_stale = |flow: &Flow| affected.is_stale(flow, &self.node_addresses, taken);
        let stale: Vec<Flow> = flows.into_iter().filter(is_stale).collect();
        let mut deleted = 0;
        let mut result = Ok(());
        for flow in &stale {
            match self.flows.delete(flow).await {
                Ok(was_there) => deleted += u64::from(was_there),
                Err(error) => result = Err(error),
            }
        }
        if deleted > 0 {
            let family = question.family;
            info!("deleted {deleted} {family} UDP flows whose endpoint no longer serves");
            if let Some(meters) = self.meters.get(&family) {
                meters.deleted.increment(deleted);
            }
        }
        result
    }

    /// Whether a change makes no flow stale: whoever served goes on, at the same frontends. To look
    /// costs a walk through all flows of the node, and most changes are of this kind.
    fn only_grows(&self, key: &ServicePortKey, port: Option<&Arc<ServicePort>>) -> bool {
        let (Some(old), Some(new)) = (self.served.get(key), port) else { return false };
        let (before, now) = (stale::serving(old), stale::serving(new));
        // Where nobody served before, a flow may lead to where the frontend's address is itself.
        // What is still to be looked at was said with the endpoints of before.
        self.affected.is_empty()
            && old.frontends == new.frontends
            && !before.is_empty()
            && before.is_subset(&now)
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

impl Default for Reconciler {
    fn default() -> Self {
        Self::new()
    }
}

const SECONDS: &str = "kubeproxy_conntrack_reconciler_sync_duration_seconds";
const DELETED: &str = "kubeproxy_conntrack_reconciler_deleted_entries_total";

struct Meters {
    seconds: Histogram,
    deleted: Counter,
}

impl Meters {
    fn new(family: Family) -> Self {
        let family = family.to_string();
        Self {
            seconds: histogram!(SECONDS, "ip_family" => family.clone()),
            deleted: counter!(DELETED, "ip_family" => family),
        }
    }
}

fn place(frontend: &Frontend) -> Option<SocketAddr> {
    let address = frontend.kind.address()?;
    Some(SocketAddr::new(address, frontend.port.get()))
}
