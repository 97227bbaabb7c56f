//! The engine between a mock source and a recording backend.

use std::{collections::BTreeMap, time::Duration};

use shunt_core::{
    Engine,
    backend::LeftReason,
    engine::EngineOptions,
    model::{
        EndpointSlice, Family, ObjectName, PortSpec, Protocol, Service, SliceEndpoint, SlicePort,
    },
    source::{Object, ObjectId},
};
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{Misbehaviour, MockHandle, Record, Recorder, backend, named, source};

struct Running {
    script: MockHandle,
    recorder: Recorder,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start() -> Self {
        let (source, script) = source();
        let (backend, recorder) = backend();
        let sources = vec![named("mock", source)];
        let backends = vec![("recording".to_owned(), Box::new(backend) as _)];
        let engine = Engine::new(EngineOptions::new("node-a"), sources, backends);
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        let task = tokio::spawn(async move { engine.run(token).await.unwrap() });
        Self { script, recorder, shutdown, task }
    }

    /// A Service with one endpoint.
    fn serve(&self, name: &str, cluster_ip: &str, endpoint: &str) {
        let mut service = Service::new(ObjectName::new("default", name));
        service.cluster_ips.push(cluster_ip.parse().unwrap());
        let port = 80.try_into().unwrap();
        let spec = PortSpec { name: "".into(), protocol: Protocol::Tcp, port, node_port: None };
        service.ports.push(spec);
        self.script.upsert(Object::from(service));
        let id = ObjectName::new("default", &format!("{name}-1"));
        let mut slice = EndpointSlice::new(id, Some(name.into()), Family::V4);
        slice.endpoints.push(SliceEndpoint::new(endpoint.parse().unwrap()));
        slice.ports.push(SlicePort { name: "".into(), protocol: Protocol::Tcp, port });
        self.script.upsert(Object::from(slice));
    }

    async fn until(&self, condition: impl FnMut(&Record) -> bool) -> Record {
        timeout(Duration::from_secs(30), self.recorder.until(condition)).await.unwrap()
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

/// A script that ends with two Services, whatever the source makes of it.
async fn state_after(misbehaviour: Misbehaviour) -> BTreeMap<String, Vec<String>> {
    let running = Running::start();
    running.script.misbehave(misbehaviour);
    for n in 1..=9 {
        running.serve("web", "10.96.0.1", &format!("10.1.0.{n}"));
        running.serve(&format!("gone-{n}"), &format!("10.96.1.{n}"), "10.1.1.1");
        running.script.remove(ObjectId::Service(ObjectName::new("default", &format!("gone-{n}"))));
    }
    running.serve("dns", "10.96.0.2", "10.1.0.53");
    running.script.synced();
    let is_done = |record: &Record| {
        let endpoints = |key| record.endpoints(key).unwrap_or_default();
        endpoints("default/web TCP IPv4") == ["10.1.0.9:80"]
            && endpoints("default/dns TCP IPv4") == ["10.1.0.53:80"]
            && record.state().service_ports.len() == 2
    };
    let record = running.until(is_done).await;
    let state = record.state().service_ports.keys().map(ToString::to_string);
    let state = state.map(|key| (key.clone(), record.endpoints(&key).unwrap())).collect();
    running.stop().await;
    state
}

#[tokio::test]
async fn misbehaviour_comes_to_the_same_end() {
    let expected = state_after(Misbehaviour::default()).await;
    for seed in 0..5 {
        let reorder = Misbehaviour { reorder: Some(seed), ..Misbehaviour::default() };
        assert_eq!(state_after(reorder).await, expected);
    }
    let duplicate = Misbehaviour { duplicate: true, ..Misbehaviour::default() };
    assert_eq!(state_after(duplicate).await, expected);
    let resets = Misbehaviour { reset_every: Some(7), ..Misbehaviour::default() };
    assert_eq!(state_after(resets).await, expected);
}

#[tokio::test]
async fn nothing_is_applied_before_the_source_has_synced() {
    let running = Running::start();
    running.script.misbehave(Misbehaviour { never_sync: true, ..Misbehaviour::default() });
    running.serve("web", "10.96.0.1", "10.1.0.1");
    running.script.synced();
    running.script.delivered().await;
    assert!(running.recorder.record().deltas().is_empty());
    running.script.misbehave(Misbehaviour::default());
    running.script.relist();
    running.until(|record| record.service_port("default/web TCP IPv4").is_some()).await;
    running.stop().await;
}

#[tokio::test]
async fn the_recording_backend_fails_leaves_and_loses() {
    let running = Running::start();
    running.serve("web", "10.96.0.1", "10.1.0.1");
    running.script.synced();
    let record = running.until(|record| record.state().complete).await;
    let key = record.state().service_ports.keys().next().unwrap().clone();

    running.recorder.fail([key.clone()]);
    running.serve("web", "10.96.0.1", "10.1.0.2");
    let has = |expected: &'static str| {
        move |record: &Record| {
            record.endpoints("default/web TCP IPv4").is_some_and(|list| list == [expected])
        }
    };
    let tried = |record: &Record| record.deltas().len() > 1 && has("10.1.0.1:80")(record);
    running.until(tried).await;
    running.recorder.fail([]);
    running.until(has("10.1.0.2:80")).await;

    running.recorder.lose_everything();
    running.until(has("10.1.0.2:80")).await;

    running.recorder.leave(key, LeftReason::SourceRanges);
    running.serve("web", "10.96.0.1", "10.1.0.3");
    running.until(|record| record.state().service_ports.is_empty()).await;
    running.stop().await;
}
