//! Two backends: one that takes what it can, and one that carries everything. What is lost, what
//! it costs, and how it comes back.

use std::{sync::mpsc, time::Duration};

use tokio::time::{Instant, sleep};

use super::world::{Recorder, SYNCED, World, service};
use crate::{
    backend::Verdict,
    engine::{EngineOptions, Health, Status},
    model::Family,
    source::Object,
};

fn health(status: &Status) -> Health {
    let patience = EngineOptions::new("").patience();
    let [v4, v6] = Family::ALL.map(|family| status.health(family, Instant::now(), patience));
    assert_eq!(v4, v6);
    v4
}

/// An engine with both backends, in which a Service is served.
async fn serving() -> (World, Recorder, Recorder) {
    let (connect, nftables) = (Recorder::default(), Recorder::default());
    let mut world = World::start(1, &[("connect", &connect), ("nftables", &nftables)]);
    world.say(0, [service("web", 1), SYNCED]);
    world.applied("connect").await;
    let status = world.applied("nftables").await;
    assert_eq!(health(&status), Health::Healthy);
    (world, connect, nftables)
}

fn problem(text: &str) -> Verdict {
    Verdict { problems: vec![text.to_owned()], ..Verdict::default() }
}

fn ring(backend: &Recorder, verdicts: impl IntoIterator<Item = Verdict>) {
    let mut record = backend.record();
    record.verdicts.extend(verdicts);
    record.bell.clone().expect("started").ring();
}

#[tokio::test(start_paused = true)]
async fn links_that_someone_detached_degrade_until_they_are_back() {
    let (mut world, connect, nftables) = serving().await;
    ring(&connect, (0..20).map(|_| problem("A link was detached.")));
    world.until(|status| health(status) == Health::Degraded).await;
    world.say(0, [service("db", 2)]);
    world.applied("nftables").await;
    assert_eq!(nftables.record().services(), ["db", "web"]);
    // However long it lasts: what carries everything is well.
    sleep(Duration::from_secs(300)).await;
    let status = world.until(|_| true).await;
    assert_eq!(health(&status), Health::Degraded);
    assert_eq!(status.backends["connect"].problems, ["A link was detached."]);
    world.until(|status| health(status) == Health::Healthy).await;
    assert_eq!(connect.record().services(), ["db", "web"]);
    world.end().await.expect("the engine goes on");
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_never_starts_degrades_and_ends_nothing() {
    let (connect, nftables) = (Recorder::default(), Recorder::default());
    connect.record().failing_starts = 30;
    let mut world = World::start(1, &[("connect", &connect), ("nftables", &nftables)]);
    world.say(0, [service("web", 1), SYNCED]);
    let status = world.applied("nftables").await;
    assert_eq!(health(&status), Health::Degraded);
    let status = world.applied("connect").await;
    assert_eq!(health(&status), Health::Healthy);
    assert_eq!(connect.record().services(), ["web"]);
}

#[tokio::test(start_paused = true)]
async fn a_table_that_someone_deleted_is_written_anew_by_itself() {
    let (mut world, connect, nftables) = serving().await;
    nftables.record().kernel.clear();
    let lost = Verdict { reapply: true, ..problem("Table ip shunt was deleted.") };
    ring(&nftables, [lost]);
    world.until(|status| health(status) == Health::Degraded).await;
    world.until(|status| health(status) == Health::Healthy).await;
    assert_eq!(nftables.record().services(), ["web"]);
    assert_eq!(connect.record().deltas.len(), 1, "the other one was not bothered");
}

#[tokio::test(start_paused = true)]
async fn without_the_one_that_carries_everything_a_family_is_unhealthy_in_the_end() {
    let (mut world, connect, nftables) = serving().await;
    nftables.record().failing_applies = usize::MAX;
    world.say(0, [service("db", 2)]);
    let status = world.until(|status| health(status) == Health::Degraded).await;
    let begin = status.backends["nftables"].fault_since.expect("in trouble");
    world.until(|status| health(status) == Health::Unhealthy).await;
    let patience = EngineOptions::new("").patience();
    assert!(begin.elapsed() >= patience && begin.elapsed() < patience * 2);
    assert_eq!(connect.record().services(), ["db", "web"], "the other one goes on");
    nftables.record().failing_applies = 0;
    world.until(|status| health(status) == Health::Healthy).await;
    assert_eq!(nftables.record().services(), ["db", "web"]);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_hangs_is_told_and_holds_up_nobody() {
    let (mut world, connect, nftables) = serving().await;
    connect.record().apply_time = Duration::from_secs(400);
    let begin = Instant::now();
    world.say(0, [service("db", 2)]);
    world.applied("nftables").await;
    assert!(begin.elapsed() < Duration::from_secs(1));
    assert_eq!(nftables.record().services(), ["db", "web"]);
    let status = world.until(|status| health(status) == Health::Degraded).await;
    let patience = EngineOptions::new("").patience();
    assert!(begin.elapsed() >= patience && begin.elapsed() < patience * 2);
    assert_eq!(status.backends["connect"].problems, ["busy with one apply for more than 60 s"]);
    connect.record().apply_time = Duration::ZERO;
    let status = world.applied("connect").await;
    assert_eq!(health(&status), Health::Healthy);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_blocks_its_thread_holds_up_nobody() {
    let (mut world, connect, nftables) = serving().await;
    let (release, blocked_by) = mpsc::channel();
    connect.record().blocked_by = Some(blocked_by);
    world.say(0, [service("db", 2)]);
    world.applied("nftables").await;
    assert_eq!(nftables.record().services(), ["db", "web"]);
    assert_eq!(connect.record().services(), ["web"]);
    release.send(()).expect("the backend waits");
    world.applied("connect").await;
    assert_eq!(connect.record().services(), ["db", "web"]);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_waits_for_the_node_gets_it_at_once() {
    let (mut world, _connect, nftables) = serving().await;
    nftables.record().failing_applies = 12;
    world.say(0, [service("db", 2)]);
    // The next try is ten seconds away by now.
    while nftables.record().failing_applies > 1 {
        sleep(Duration::from_millis(10)).await;
    }
    nftables.record().failing_applies = 0;
    let begin = Instant::now();
    let mut node = crate::model::Node::new("node-1".into());
    node.pod_cidrs.push("10.244.1.0/24".parse().expect("a CIDR"));
    world.say(0, [crate::Update::Upsert(Object::from(node))]);
    world.applied("nftables").await;
    assert!(begin.elapsed() < Duration::from_millis(50), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn health_checks_follow_services_and_the_node() {
    use crate::model::{Node, NodeAddress, NodeAddressKind, ServiceType, TrafficPolicy};

    let (mut world, _connect, _nftables) = serving().await;
    let mut servers = world.health_checks.servers();
    assert!(servers.borrow_and_update().services.is_empty());
    let crate::Update::Upsert(Object::Service(mut balanced)) = service("lb", 7) else {
        unreachable!("a Service is said by an upsert")
    };
    let name = balanced.name.clone();
    balanced.service_type = ServiceType::LoadBalancer;
    balanced.external_policy = TrafficPolicy::Local;
    balanced.health_check_node_port = std::num::NonZeroU16::new(32_000);
    let mut node = Node::new("node-1".into());
    let address = [192, 0, 2, 1].into();
    node.addresses.push(NodeAddress { kind: NodeAddressKind::Internal, address });
    world.say(0, [Object::from(node), Object::Service(balanced)].map(crate::Update::Upsert));
    world.taken_in().await;
    let wanted = servers.borrow_and_update().clone();
    assert_eq!(wanted.addresses, [address].into());
    assert_eq!(wanted.services[&name].1, [Family::V4].into());
    assert_eq!(world.health_checks.local_endpoints(&name, Family::V4), Some(0));
    assert_eq!(world.health_checks.local_endpoints(&name, Family::V6), None);
    world.say(0, [super::world::gone("lb")]);
    world.taken_in().await;
    assert!(servers.borrow_and_update().services.is_empty());
    assert_eq!(world.health_checks.local_endpoints(&name, Family::V4), None);
}
