//! A backend that records what it is given, and fails when it is told to.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use shunt_core::{
    Delta, LbBackend,
    backend::{
        Answer, ApplyReport, BackendError, Bell, Capabilities, InspectedFrontend, InspectedService,
        Inspection, LeftReason, Probe, Verdict,
    },
    model::{Family, Protocol, TrafficPolicy},
    plan::{Endpoint, Frontend, ServicePort, ServicePortKey},
};
use tokio::sync::watch;

/// A recording backend and the handle that reads and drives it.
#[must_use]
pub fn backend() -> (RecordingBackend, Recorder) {
    let recorder = Recorder(Arc::new(watch::channel(Record::default()).0));
    (RecordingBackend(recorder.clone()), recorder)
}

/// What a [`RecordingBackend`] has been given so far, and how it is to behave.
#[derive(Clone, Debug, Default)]
pub struct Record {
    state: Delta,
    deltas: Vec<Delta>,
    starts: usize,
    bell: Option<Bell>,
    is_unavailable: bool,
    fails: bool,
    failing: HashSet<ServicePortKey>,
    leaving: HashMap<ServicePortKey, LeftReason>,
    delay: Duration,
    problems: Vec<String>,
    lost: bool,
}

impl Record {
    /// Everything that was taken, merged: the desired state as a kernel would have it. Removed
    /// ServicePorts are absent.
    #[must_use]
    pub const fn state(&self) -> &Delta {
        &self.state
    }

    /// Every Delta as it came, those that failed included.
    #[must_use]
    pub fn deltas(&self) -> &[Delta] {
        &self.deltas
    }

    /// How often the engine called `start`.
    #[must_use]
    pub const fn starts(&self) -> usize {
        self.starts
    }

    /// A ServicePort that was taken, by the text of its key: `default/web:http TCP IPv4`.
    #[must_use]
    pub fn service_port(&self, key: &str) -> Option<&ServicePort> {
        let mut ports = self.state.service_ports.iter();
        ports.find(|(known, _)| known.to_string() == key).and_then(|(_, port)| port.as_deref())
    }

    /// The endpoints of a ServicePort's cluster list, as text; `None` if it was not taken.
    #[must_use]
    pub fn endpoints(&self, key: &str) -> Option<Vec<String>> {
        let port = self.service_port(key)?;
        Some(port.cluster_list().map(|endpoint| endpoint.address.to_string()).collect())
    }

    fn apply(&mut self, delta: &Delta) -> ApplyReport {
        self.deltas.push(delta.clone());
        let mut report = ApplyReport::default();
        if self.fails {
            report.error = Some(refused("apply"));
            return report;
        }
        let mut taken = delta.clone();
        let keys: Vec<_> = taken.service_ports.keys().cloned().collect();
        for key in keys {
            let is_removal = delta.service_ports.get(&key).is_some_and(Option::is_none);
            let reason = self.leaving.get(&key).filter(|_| !is_removal).cloned();
            if self.failing.contains(&key) {
                // What failed keeps the state that it had.
                let before = self.state.service_ports.get(&key).cloned();
                match before {
                    Some(before) if delta.complete => {
                        taken.service_ports.insert(key.clone(), before)
                    }
                    _ => taken.service_ports.swap_remove(&key),
                };
                report.failed.insert(key.clone(), refused(&format!("apply {key}")));
            } else if let Some(reason) = reason {
                taken.service_ports.insert(key.clone(), None);
                report.left.insert(key, reason);
            }
        }
        self.state.merge(taken);
        self.state.service_ports.retain(|_, port| port.is_some());
        self.state.cluster_ips.retain(|_, active| *active);
        report
    }

    fn inspect(&self) -> Inspection {
        let mut inspection = Inspection::default();
        for (key, port) in &self.state.service_ports {
            let Some(port) = port else { continue };
            let mut service = InspectedService::new(key.clone());
            service.affinity_seconds = port.affinity_seconds;
            let frontends = port.frontends.iter().map(|frontend| InspectedFrontend {
                frontend: frontend.clone(),
                answer: answer(port, frontend),
            });
            service.frontends = frontends.collect();
            inspection.services.push(service);
        }
        inspection.services.sort_by(|a, b| a.key.cmp(&b.key));
        inspection
    }
}

/// Reads and drives a [`RecordingBackend`].
#[derive(Clone, Debug)]
pub struct Recorder(Arc<watch::Sender<Record>>);

impl Recorder {
    /// What there is now.
    #[must_use]
    pub fn record(&self) -> Record {
        self.0.borrow().clone()
    }

    /// Waits until the condition holds, and gives the record for which it did.
    pub async fn until(&self, condition: impl FnMut(&Record) -> bool) -> Record {
        let mut receiver = self.0.subscribe();
        let found = receiver.wait_for(condition).await.map(|record| record.clone());
        // The sender lives in this handle, so that waiting cannot fail.
        found.unwrap_or_else(|_| self.record())
    }

    /// Whether the whole of every apply fails, and every start.
    pub fn fail_everything(&self, fails: bool) {
        self.0.send_modify(|record| record.fails = fails);
    }

    /// These ServicePorts fail from now on, and no others.
    pub fn fail(&self, keys: impl IntoIterator<Item = ServicePortKey>) {
        self.0.send_modify(|record| record.failing = keys.into_iter().collect());
    }

    /// This ServicePort is left to others from its next apply on.
    pub fn leave(&self, key: ServicePortKey, reason: LeftReason) {
        self.0.send_modify(|record| drop(record.leaving.insert(key, reason)));
    }

    /// Every apply takes this long.
    pub fn delay(&self, delay: Duration) {
        self.0.send_modify(|record| record.delay = delay);
    }

    /// `probe` finds that it cannot work here.
    pub fn be_unavailable(&self) {
        self.0.send_modify(|record| record.is_unavailable = true);
    }

    /// `verify` finds these problems from now on.
    pub fn find(&self, problems: &[&str]) {
        let problems = problems.iter().map(|&problem| problem.to_owned()).collect();
        self.0.send_modify(|record| record.problems = problems);
    }

    /// Someone else removes everything from the kernel, and the bell rings.
    pub fn lose_everything(&self) {
        self.0.send_modify(|record| {
            record.state = Delta::default();
            record.lost = true;
        });
        self.ring();
    }

    /// Rings the engine's bell, if the backend was started.
    pub fn ring(&self) {
        if let Some(bell) = &self.0.borrow().bell {
            bell.ring();
        }
    }
}

/// A backend that records.
#[derive(Debug)]
pub struct RecordingBackend(Recorder);

#[async_trait]
impl LbBackend for RecordingBackend {
    async fn probe(&self) -> Probe {
        let mut probe = Probe::default();
        if !self.0.record().is_unavailable {
            let mut capabilities = Capabilities::default();
            capabilities.families = BTreeSet::from(Family::ALL);
            capabilities.protocols = BTreeSet::from([Protocol::Tcp, Protocol::Udp, Protocol::Sctp]);
            probe.capabilities = Some(capabilities);
        }
        probe
    }

    async fn start(&mut self, bell: Bell) -> Result<(), BackendError> {
        let mut fails = false;
        self.0.0.send_modify(|record| {
            record.starts += 1;
            record.bell = Some(bell);
            fails = record.fails;
        });
        if fails { Err(refused("start")) } else { Ok(()) }
    }

    async fn apply(&mut self, delta: &Delta) -> ApplyReport {
        let delay = self.0.0.borrow().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let mut report = ApplyReport::default();
        self.0.0.send_modify(|record| report = record.apply(delta));
        report
    }

    async fn verify(&mut self) -> Verdict {
        let mut verdict = Verdict::default();
        self.0.0.send_modify(|record| {
            verdict.problems.clone_from(&record.problems);
            verdict.reapply = std::mem::take(&mut record.lost);
        });
        verdict
    }

    async fn inspect(&self) -> Result<Inspection, BackendError> {
        Ok(self.0.0.borrow().inspect())
    }

    async fn cleanup(&mut self) -> Result<Vec<String>, BackendError> {
        let mut removed = Vec::new();
        self.0.0.send_modify(|record| {
            let state = std::mem::take(&mut record.state);
            removed = state.service_ports.keys().map(|key| format!("removed {key}")).collect();
            removed.sort();
        });
        Ok(removed)
    }
}

/// What a new connection to a frontend gets.
fn answer(port: &ServicePort, frontend: &Frontend) -> Answer {
    if !port.has_any {
        return Answer::Refused;
    }
    // External traffic of the node itself and of its pods goes to the cluster list.
    let is_local = frontend.kind.is_internal() && port.internal_policy == TrafficPolicy::Local;
    let address = |endpoint: &Endpoint| endpoint.address;
    let endpoints: Vec<_> = if is_local {
        port.local_list().map(address).collect()
    } else {
        port.cluster_list().map(address).collect()
    };
    if endpoints.is_empty() { Answer::Left } else { Answer::Endpoints(endpoints) }
}

fn refused(operation: &str) -> BackendError {
    BackendError::new(format!("failed to {operation}"), "the test says so")
}
