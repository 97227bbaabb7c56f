//! An engine with sources that a test drives and backends that record.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::{IpAddr, Ipv4Addr},
    num::NonZeroU16,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Engine,
    backend::{
        ApplyReport, BackendError, Bell, Capabilities, Feature, Inspection, LbBackend, LeftReason,
        Probe, Verdict,
    },
    engine::{EngineOptions, HealthChecks, Status},
    model::{Family, ObjectName, PortSpec, Protocol, Service},
    plan::{Delta, ServicePort, ServicePortKey},
    source::{
        Completeness, Object, ObjectId, ServiceSource, SourceError, SourceName, Update,
        UpdateSender,
    },
};

/// What a recording backend was asked to do, and what it shall answer.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) bell: Option<Bell>,
    pub(super) starts: usize,
    pub(super) deltas: Vec<(Instant, Delta)>,
    pub(super) verifies: Vec<Instant>,
    /// What a kernel would have.
    pub(super) kernel: BTreeMap<ServicePortKey, Arc<ServicePort>>,
    /// How long a start takes.
    pub(super) start_time: Duration,
    /// So many starts fail.
    pub(super) failing_starts: usize,
    /// So many applies fail as a whole.
    pub(super) failing_applies: usize,
    /// So many applies of the Service of this name fail.
    pub(super) failing_services: HashMap<&'static str, usize>,
    /// Services left to others.
    pub(super) left_services: HashMap<&'static str, LeftReason>,
    /// How long an apply takes.
    pub(super) apply_time: Duration,
    /// The next apply blocks its thread until this says something, or hangs up.
    pub(super) blocked_by: Option<std::sync::mpsc::Receiver<()>>,
    /// What the next verifies say.
    pub(super) verdicts: VecDeque<Verdict>,
}

impl Record {
    /// The names of the Services in the kernel.
    pub(super) fn services(&self) -> Vec<String> {
        self.kernel.keys().map(|key| key.service.name.to_string()).collect()
    }

    /// The names of the Services in each Delta, sorted; `None` stands for nothing said.
    pub(super) fn named(&self) -> Vec<Vec<String>> {
        let names = |delta: &Delta| {
            let mut names: Vec<_> =
                delta.service_ports.keys().map(|key| key.service.name.to_string()).collect();
            names.sort();
            names
        };
        self.deltas.iter().map(|(_, delta)| names(delta)).collect()
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Recorder(Arc<Mutex<Record>>);

impl Recorder {
    pub(super) fn record(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refusal(operation: &str) -> BackendError {
    BackendError::new(operation, std::io::Error::other("as told"))
}

#[async_trait]
impl LbBackend for Recorder {
    async fn probe(&self) -> Probe {
        Probe::default()
    }

    async fn start(&mut self, bell: Bell) -> Result<(), BackendError> {
        let takes = self.record().start_time;
        if !takes.is_zero() {
            sleep(takes).await;
        }
        let mut record = self.record();
        record.starts += 1;
        if record.starts <= record.failing_starts {
            return Err(refusal("open the tables"));
        }
        record.bell = Some(bell);
        Ok(())
    }

    async fn apply(&mut self, delta: &Delta) -> ApplyReport {
        let takes = self.record().apply_time;
        if !takes.is_zero() {
            sleep(takes).await;
        }
        let blocked_by = self.record().blocked_by.take();
        if let Some(blocked_by) = blocked_by {
            let _ = blocked_by.recv();
        }
        let mut record = self.record();
        let record = &mut *record;
        record.deltas.push((Instant::now(), delta.clone()));
        let mut report = ApplyReport::default();
        if record.failing_applies > 0 {
            record.failing_applies -= 1;
            report.error = Some(refusal("write the tables"));
            return report;
        }
        if delta.complete {
            record.kernel.retain(|key, _| delta.service_ports.contains_key(key));
        }
        for (key, state) in &delta.service_ports {
            let name: &str = &key.service.name;
            if let Some(left) = record.failing_services.get_mut(name).filter(|left| **left > 0) {
                *left -= 1;
                report.failed.insert(key.clone(), refusal("insert a frontend"));
                continue;
            }
            if let Some(reason) = record.left_services.get(name) {
                report.left.insert(key.clone(), reason.clone());
            }
            match state {
                Some(state) => record.kernel.insert(key.clone(), Arc::clone(state)),
                None => record.kernel.remove(key),
            };
        }
        report
    }

    async fn verify(&mut self) -> Verdict {
        let mut record = self.record();
        record.verifies.push(Instant::now());
        record.verdicts.pop_front().unwrap_or_default()
    }

    async fn inspect(&self) -> Result<Inspection, BackendError> {
        Ok(Inspection::default())
    }

    async fn cleanup(&mut self) -> Result<Vec<String>, BackendError> {
        Ok(Vec::new())
    }
}

/// A source that says what a test tells it to. `None` makes it fail for good.
struct Scripted {
    name: SourceName,
    script: mpsc::UnboundedReceiver<Option<Update>>,
}

#[async_trait]
impl ServiceSource for Scripted {
    async fn run(
        mut self: Box<Self>,
        updates: UpdateSender,
        shutdown: CancellationToken,
    ) -> Result<(), SourceError> {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                Some(update) = self.script.recv() => match update {
                    Some(update) => { updates.send(update).await; }
                    None => return Err(SourceError {
                        source_name: self.name,
                        cause: "the watch is gone".into(),
                    }),
                }
            }
        }
    }
}

/// A running engine with the sources `one` and `two` (or only the first) and some backends.
pub(super) struct World {
    scripts: Vec<mpsc::UnboundedSender<Option<Update>>>,
    sent: u64,
    status: watch::Receiver<Status>,
    pub(super) health_checks: Arc<HealthChecks>,
    shutdown: CancellationToken,
    engine: JoinHandle<Result<(), SourceError>>,
}

impl World {
    pub(super) fn start(sources: usize, backends: &[(&str, &Recorder)]) -> Self {
        Self::with(sources, backends, |_| {})
    }

    pub(super) fn with(
        sources: usize,
        backends: &[(&str, &Recorder)],
        change: impl FnOnce(&mut EngineOptions),
    ) -> Self {
        let mut options = EngineOptions::new("node-1");
        change(&mut options);
        let mut scripts = Vec::new();
        let mut boxed: Vec<(SourceName, Box<dyn ServiceSource>)> = Vec::new();
        for name in ["one", "two"].into_iter().take(sources) {
            let (sender, script) = mpsc::unbounded_channel();
            let name = SourceName::new(name);
            scripts.push(sender);
            boxed.push((name.clone(), Box::new(Scripted { name, script })));
        }
        let backends = backends.iter().map(|(name, recorder)| {
            let backend: Box<dyn LbBackend> = Box::new((*recorder).clone());
            ((*name).to_owned(), backend)
        });
        let mut engine = Engine::new(options, boxed, backends.collect());
        for (name, features) in [("connect", None), ("nftables", Some(Feature::Forwarded))] {
            let mut capabilities = Capabilities::default();
            capabilities.families.extend(Family::ALL);
            capabilities.features.extend(features);
            engine = engine.with_capabilities(name, &capabilities);
        }
        let health_checks = engine.health_checks();
        let (status, shutdown) = (engine.status(), CancellationToken::new());
        let engine = tokio::spawn(engine.run(shutdown.clone()));
        Self { scripts, sent: 0, status, health_checks, shutdown, engine }
    }

    pub(super) fn say(&mut self, source: usize, updates: impl IntoIterator<Item = Update>) {
        for update in updates {
            self.sent += 1;
            self.scripts[source].send(Some(update)).expect("the source runs");
        }
    }

    pub(super) fn fail_source(&self, source: usize) {
        self.scripts[source].send(None).expect("the source runs");
    }

    /// Waits until the status is as wished.
    pub(super) async fn until(&mut self, wished: impl FnMut(&Status) -> bool) -> Status {
        let status = timeout(Duration::from_secs(600), self.status.wait_for(wished));
        status.await.expect("in time").expect("the engine runs").clone()
    }

    /// Waits until a backend has everything that was said.
    pub(super) async fn applied(&mut self, backend: &str) -> Status {
        let sent = self.sent;
        self.until(|status| status.backends[backend].applied == sent).await
    }

    /// Waits until the engine has taken in everything, and gives it time to do too much.
    pub(super) async fn taken_in(&mut self) {
        let sent = self.sent;
        self.until(|status| status.updates == sent).await;
        sleep(Duration::from_secs(5)).await;
    }

    pub(super) async fn end(self) -> Result<(), SourceError> {
        self.shutdown.cancel();
        self.engine.await.expect("no panic")
    }

    pub(super) async fn ended(self) -> Result<(), SourceError> {
        self.engine.await.expect("no panic")
    }
}

pub(super) fn service(name: &str, cluster_ip: u8) -> Update {
    let mut service = Service::new(ObjectName::new("default", name));
    service.cluster_ips.push(IpAddr::V4(Ipv4Addr::new(10, 96, 0, cluster_ip)));
    service.ports.push(PortSpec {
        name: "".into(),
        protocol: Protocol::Tcp,
        port: NonZeroU16::MIN,
        node_port: None,
    });
    Update::Upsert(Object::from(service))
}

pub(super) fn gone(name: &str) -> Update {
    Update::Remove(ObjectId::Service(ObjectName::new("default", name)))
}

pub(super) fn key(name: &str) -> ServicePortKey {
    ServicePortKey {
        service: ObjectName::new("default", name),
        port: "".into(),
        protocol: Protocol::Tcp,
        family: Family::V4,
    }
}

pub(super) const SYNCED: Update = Update::Synced(Completeness::Complete);
pub(super) const PARTIAL: Update = Update::Synced(Completeness::Partial);
