//! Which flows go: a fake's, and the kernel's.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    thread,
};

use async_trait::async_trait;
use nix::sched::{CloneFlags, unshare};
use nlink::netlink::{
    Connection, Netfilter,
    netfilter::{ConntrackBuilder, ConntrackStatus, ConntrackTuple, IpProtocol},
};
use shunt_core::{
    Delta,
    backend::{ApplyReport, BackendError},
    model::{Conditions, Family, ObjectName, Protocol},
    plan::{Endpoint, Frontend, FrontendKind, NodeState, ServicePort, ServicePortKey},
};

use super::{
    ledger::Ledger,
    netlink::FlowError,
    reconciler::{Flows, Reconciler, Walker},
    stale::{Affected, Flow, Question, Serving},
};

const DNS: &str = "10.96.0.10:53";
const NODE_PORT: &str = "192.0.2.1:30053";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A flow of a client to `dialled` that `answering` answers.
fn flow(dialled: &str, answering: &str) -> Flow {
    let dialled = at(dialled);
    let client = if dialled.is_ipv4() { "10.244.1.2:40000" } else { "[fd00::2]:40000" };
    let is_translated = dialled != at(answering);
    Flow { client: at(client), dialled, answering: at(answering), is_translated, zone: 0, id: None }
}

fn key(name: &str, protocol: Protocol, family: Family) -> ServicePortKey {
    ServicePortKey { service: ObjectName::new("shop", name), port: "".into(), protocol, family }
}

/// A frontend at an address, or a NodePort where the address is that of the node.
fn frontend(text: &str) -> Frontend {
    let address = at(text);
    let kind = match text {
        NODE_PORT => FrontendKind::NodePort,
        _ => FrontendKind::ClusterIp(address.ip()),
    };
    Frontend::new(kind, address.port().try_into().unwrap())
}

fn port(frontends: &[&str], endpoints: &[&str]) -> ServicePort {
    let mut port = ServicePort::new();
    port.frontends = frontends.iter().map(|text| frontend(text)).collect();
    port.endpoints = endpoints.iter().map(|text| Endpoint::new(at(text))).collect();
    port
}

/// What the fake kernel has, and what was asked of it.
#[derive(Default)]
struct Table {
    flows: Vec<Flow>,
    questions: Vec<Question>,
    fails: bool,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Table>>);

impl Fake {
    fn left(&self) -> Vec<Flow> {
        self.0.lock().unwrap().flows.clone()
    }

    fn questions(&self) -> usize {
        self.0.lock().unwrap().questions.len()
    }
}

#[async_trait]
impl Flows for Fake {
    async fn ask(&mut self, question: Question) -> Result<Vec<Flow>, FlowError> {
        let mut table = self.0.lock().unwrap();
        table.questions.push(question);
        if table.fails {
            let error = nlink::Error::invalid_message("as told");
            return Err(FlowError::List(question.family, error));
        }
        let asked = |flow: &&Flow| Family::of(flow.dialled.ip()) == question.family;
        Ok(table.flows.iter().filter(asked).cloned().collect())
    }

    async fn delete(&mut self, flow: &Flow) -> Result<bool, FlowError> {
        let flows = &mut self.0.lock().unwrap().flows;
        let before = flows.len();
        flows.retain(|known| known != flow);
        Ok(flows.len() < before)
    }
}

/// A ledger and who looks by it at a fake, and the Deltas that it is given.
struct World {
    fake: Fake,
    ledger: tokio::sync::Mutex<Ledger>,
    walker: Walker,
    /// What the next report says failed.
    failed: HashMap<ServicePortKey, BackendError>,
}

impl World {
    fn new(flows: Vec<Flow>) -> Self {
        let fake = Fake::default();
        fake.0.lock().unwrap().flows = flows;
        let walker = Walker::over(Box::new(fake.clone()));
        Self { fake, ledger: <_>::default(), walker, failed: HashMap::new() }
    }

    async fn apply(&mut self, complete: bool, ports: &[(&str, Option<ServicePort>)]) {
        let ports = ports.iter().map(|(name, port)| {
            let family = port.as_ref().and_then(|port| port.frontends.first());
            let address = family.and_then(|frontend| frontend.kind.address());
            let family = address.map_or(Family::V4, Family::of);
            (key(name, Protocol::Udp, family), port.clone().map(Arc::new))
        });
        self.apply_ports(complete, ports).await;
    }

    async fn apply_ports(
        &mut self,
        complete: bool,
        ports: impl IntoIterator<Item = (ServicePortKey, Option<Arc<ServicePort>>)>,
    ) {
        self.note(complete, ports);
        self.look().await;
    }

    async fn look(&mut self) {
        self.walker.look(&self.ledger).await;
    }

    fn note(
        &mut self,
        complete: bool,
        ports: impl IntoIterator<Item = (ServicePortKey, Option<Arc<ServicePort>>)>,
    ) {
        let mut delta = Delta::default();
        delta.complete = complete;
        delta.service_ports.extend(ports);
        if complete {
            let mut node = NodeState::default();
            node.node_port_addresses.insert(at(NODE_PORT).ip());
            delta.node = Some(Arc::new(node));
        }
        let mut report = ApplyReport::default();
        report.failed = std::mem::take(&mut self.failed);
        self.ledger.get_mut().note(&delta, &report);
    }
}

#[tokio::test]
async fn an_endpoint_that_no_longer_serves_takes_its_flows_with_it() {
    let stays = [
        flow(DNS, "10.244.1.3:53"),
        flow("10.96.0.99:53", "10.244.9.9:53"),
        flow("8.8.8.8:53", "8.8.8.8:53"),
        flow("8.8.8.8:30053", "8.8.8.8:30053"),
        flow("[fd96::a]:53", "[fd00::9]:53"),
    ];
    let goes = [
        flow(DNS, "10.244.2.4:53"),
        flow(NODE_PORT, "10.244.2.4:53"),
        // The first packet came when nothing translated it.
        flow(DNS, DNS),
        // The address serves at another port now.
        flow(DNS, "10.244.1.3:5353"),
    ];
    let mut world = World::new([&stays[..], &goes[..]].concat());
    world.apply(true, &[("dns", Some(port(&[DNS, NODE_PORT], &["10.244.1.3:53"])))]).await;
    assert_eq!(world.fake.left(), stays);
    assert_eq!(world.fake.questions(), 1, "one for each family that is touched");
}

#[tokio::test]
async fn a_restart_deletes_nothing_that_still_serves() {
    let flows = vec![flow(DNS, "10.244.1.3:53"), flow(DNS, "10.244.2.4:53")];
    let mut world = World::new(flows.clone());
    // Not everything could be listed: the endpoints may be in the part that is missing.
    world.apply(false, &[("dns", Some(port(&[DNS], &["10.244.1.3:53"])))]).await;
    world.apply(false, &[("dns", Some(port(&[DNS], &[])))]).await;
    assert_eq!((world.fake.left(), world.fake.questions()), (flows.clone(), 0));
    let both = port(&[DNS], &["10.244.1.3:53", "10.244.2.4:53"]);
    world.apply(true, &[("dns", Some(both))]).await;
    assert_eq!(world.fake.left(), flows);
}

#[tokio::test]
async fn terminating_endpoints_keep_their_flows_as_long_as_they_serve() {
    let flows = vec![flow(DNS, "10.244.1.3:53"), flow(DNS, "10.244.2.4:53")];
    let mut world = World::new(flows.clone());
    let mut dns = port(&[DNS], &["10.244.1.3:53", "10.244.2.4:53"]);
    dns.endpoints[1].in_cluster = false;
    dns.endpoints[1].conditions = Conditions { ready: false, serving: true, terminating: true };
    world.apply(true, &[("dns", Some(dns.clone()))]).await;
    assert_eq!(world.fake.left(), flows);
    dns.endpoints[1].conditions.serving = false;
    world.apply(false, &[("dns", Some(dns))]).await;
    assert_eq!(world.fake.left(), flows[..1]);
}

#[tokio::test]
async fn without_a_serving_endpoint_and_without_the_service_all_go() {
    let flows = || vec![flow(DNS, "10.244.1.3:53"), flow(NODE_PORT, "10.244.1.3:53")];
    let serving = || Some(port(&[DNS, NODE_PORT], &["10.244.1.3:53"]));
    let check = async |complete, last: &[(&str, Option<ServicePort>)]| {
        let mut world = World::new(flows());
        world.apply(true, &[("dns", serving())]).await;
        assert_eq!(world.fake.left(), flows());
        world.apply(complete, last).await;
        assert_eq!(world.fake.left(), []);
    };
    check(false, &[("dns", Some(port(&[DNS, NODE_PORT], &[])))]).await;
    check(false, &[("dns", None)]).await;
    check(true, &[]).await;

    // The frontend alone goes.
    let mut world = World::new(flows());
    world.apply(true, &[("dns", serving())]).await;
    world.apply(false, &[("dns", Some(port(&[DNS], &["10.244.1.3:53"])))]).await;
    assert_eq!(world.fake.left(), flows()[..1]);
}

#[tokio::test]
async fn a_frontend_that_changes_its_owner_ends_with_the_new_one() {
    let flows = vec![flow(DNS, "10.244.2.4:53"), flow(NODE_PORT, "10.244.2.4:53")];
    for (first, second) in [("a", "b"), ("b", "a")] {
        let mut world = World::new(flows.clone());
        let both = [DNS, NODE_PORT];
        world.apply(true, &[(first, Some(port(&both, &["10.244.2.4:53"])))]).await;
        let heir = Some(port(&both, &["10.244.2.4:53"]));
        world.apply(false, &[(second, heir.clone()), (first, Some(port(&[], &[])))]).await;
        assert_eq!(world.fake.left(), flows);
        world.apply(false, &[(first, None), (second, heir)]).await;
        assert_eq!(world.fake.left(), flows);
    }
}

#[tokio::test]
async fn an_external_address_of_the_node_is_no_node_port() {
    // 192.0.2.1:30053 is the externalIP of another Service, which did not change.
    let flows = vec![flow(NODE_PORT, "10.244.7.7:53")];
    let mut world = World::new(flows.clone());
    let mut other = port(&[], &["10.244.7.7:53"]);
    let external = FrontendKind::ExternalIp(at(NODE_PORT).ip());
    other.frontends = vec![Frontend::new(external, 30_053.try_into().unwrap())].into();
    let dns = |endpoint| Some(port(&[NODE_PORT], &[endpoint]));
    world.apply(true, &[("other", Some(other)), ("dns", dns("10.244.1.3:53"))]).await;
    world.apply(false, &[("dns", dns("10.244.1.4:53"))]).await;
    assert_eq!(world.fake.left(), flows);
}

#[tokio::test]
async fn what_is_not_udp_or_failed_is_left_alone() {
    let flows = vec![flow(DNS, "10.244.2.4:53")];
    let mut world = World::new(flows.clone());
    world.apply(true, &[]).await;
    let dns = || Some(Arc::new(port(&[DNS], &["10.244.1.3:53"])));
    for protocol in [Protocol::Tcp, Protocol::Sctp] {
        let key = key("dns", protocol, Family::V4);
        world.apply_ports(false, [(key, dns())]).await;
    }
    let udp = key("dns", Protocol::Udp, Family::V4);
    world.failed.insert(udp.clone(), BackendError::new("write", "as told"));
    world.apply_ports(false, [(udp.clone(), dns())]).await;
    assert_eq!((world.fake.left(), world.fake.questions()), (flows, 0));
    world.apply_ports(false, [(udp, dns())]).await;
    assert_eq!(world.fake.left(), []);
}

#[tokio::test]
async fn who_goes_on_serving_needs_no_look() {
    let mut world = World::new(vec![flow(DNS, "10.244.1.3:53")]);
    let dns = |endpoints: &[&str]| Some(port(&[DNS], endpoints));
    let check = |world: &World, questions| assert_eq!(world.fake.questions(), questions);
    world.apply(true, &[("dns", dns(&[]))]).await;
    let first = world.fake.questions();
    // The first endpoint: flows may have gone elsewhere before.
    world.apply(false, &[("dns", dns(&["10.244.1.3:53"]))]).await;
    check(&world, first + 1);
    world.apply(false, &[("dns", dns(&["10.244.1.3:53", "10.244.1.4:53"]))]).await;
    check(&world, first + 1);
    // One less, and then another frontend.
    world.apply(false, &[("dns", dns(&["10.244.1.4:53"]))]).await;
    check(&world, first + 2);
    world.apply(false, &[("dns", Some(port(&[DNS, NODE_PORT], &["10.244.1.4:53"])))]).await;
    check(&world, first + 3);
}

#[tokio::test]
async fn a_look_that_failed_is_made_up_for() {
    let flows = vec![flow(DNS, "10.244.2.4:53")];
    let mut world = World::new(flows.clone());
    world.fake.0.lock().unwrap().fails = true;
    world.apply(true, &[("dns", Some(port(&[DNS], &["10.244.1.3:53"])))]).await;
    world.look().await;
    assert_eq!(world.fake.left(), flows);
    world.fake.0.lock().unwrap().fails = false;
    world.look().await;
    assert_eq!(world.fake.left(), []);
    let asked = world.fake.questions();
    world.look().await;
    assert_eq!(world.fake.questions(), asked, "nothing is left to look at");
}

#[tokio::test]
async fn what_an_earlier_run_left_is_looked_at_too() {
    let mut world = World::new(vec![flow(DNS, "10.244.2.4:53")]);
    let gone = (key("dns", Protocol::Udp, Family::V4), vec![frontend(DNS)]);
    world.ledger.get_mut().adopt([gone]);
    world.look().await;
    assert_eq!(world.fake.questions(), 0, "adopting alone deletes nothing");
    world.apply(true, &[]).await;
    assert_eq!(world.fake.left(), []);
}

#[tokio::test]
async fn a_change_during_a_look_counts_already() {
    let dns = |endpoints: &[&str]| {
        let key = key("dns", Protocol::Udp, Family::V4);
        [(key, Some(Arc::new(port(&[DNS], endpoints))))]
    };
    let (old, new) = (flow(DNS, "10.244.1.3:53"), flow(DNS, "10.244.1.4:53"));
    let mut world = World::new(Vec::new());
    world.apply_ports(true, dns(&["10.244.1.3:53"])).await;
    world.note(false, dns(&["10.244.1.4:53"]));
    let ledger = world.ledger.get_mut();
    assert_eq!(ledger.begin().len(), 1);
    assert_eq!(ledger.stale(vec![old.clone(), new.clone()]), std::slice::from_ref(&old));
    // It grows meanwhile: nobody may take the new endpoint for one that does not serve.
    world.note(false, dns(&["10.244.1.3:53", "10.244.1.4:53"]));
    let ledger = world.ledger.get_mut();
    assert_eq!(ledger.stale(vec![old.clone(), new.clone()]), []);
    // What failed is looked at again, by what was said last.
    ledger.end(false);
    assert!(ledger.has_more());
    ledger.begin();
    assert_eq!(ledger.stale(vec![old, new]), []);
    ledger.end(true);
    assert!(!ledger.has_more());
}

#[test]
fn other_zones_are_somebody_elses_unless_translated() {
    let mut affected = Affected::default();
    affected.insert(Family::V4, &frontend(DNS), &Serving::default());
    let check = |zone, answering, expected| {
        let flow = Flow { zone, ..flow(DNS, answering) };
        let is_stale = affected.is_stale(&flow, &<_>::default(), |_| true);
        assert_eq!(is_stale, expected, "{flow:?}");
    };
    check(0, DNS, Some(true));
    check(7, DNS, None);
    check(7, "10.244.2.4:53", Some(true));
}

#[test]
fn a_question_is_as_narrow_as_all_frontends_allow() {
    let check = |frontends: &[&str], expected: Option<(Option<u16>, Option<&str>)>| {
        let mut affected = Affected::default();
        for text in frontends {
            let family = Family::of(at(text).ip());
            affected.insert(family, &frontend(text), &Serving::default());
        }
        let asked = affected.question(Family::V4).map(|question| (question.port, question.address));
        let expected =
            expected.map(|(port, address)| (port, address.map(|text| text.parse().unwrap())));
        assert_eq!(asked, expected, "{frontends:?}");
    };
    check(&[], None);
    check(&["[fd96::a]:53"], None);
    check(&[DNS], Some((Some(53), Some("10.96.0.10"))));
    check(&[DNS, "10.96.0.10:5353"], Some((None, Some("10.96.0.10"))));
    check(&[DNS, "10.96.0.11:53", "[fd96::a]:54"], Some((Some(53), None)));
    check(&[DNS, NODE_PORT], Some((None, None)));
    check(&[NODE_PORT], Some((Some(30_053), None)));
}

/// The kernel's own table, in a network namespace that goes with the thread.
#[test]
fn the_kernel_deletes_what_is_stale_and_nothing_else() {
    let body = || {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            let required = std::env::var_os("REQUIRE_ALL").is_some_and(|value| value == "1");
            assert!(!required, "cannot make a network namespace, and REQUIRE_ALL=1: {error}");
            eprintln!("SKIP cannot make a network namespace: {error}");
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(reconcile_in_the_kernel());
    };
    thread::spawn(body).join().unwrap();
}

async fn reconcile_in_the_kernel() {
    let kernel = Connection::<Netfilter>::new().unwrap();
    let (dns6, other6) = ("[fd96::a]:53", "[fd96::b]:53");
    let few = [
        (IpProtocol::Udp, DNS, "10.244.1.3:53"),
        (IpProtocol::Udp, "10.96.0.10:54", "10.244.2.4:53"),
        (IpProtocol::Udp, "10.96.0.11:53", "10.244.2.4:53"),
        (IpProtocol::Tcp, DNS, "10.244.2.4:53"),
        (IpProtocol::Udp, dns6, "[fd00::3]:53"),
        (IpProtocol::Udp, other6, "[fd00::4]:53"),
    ];
    for ((protocol, dialled, answering), from) in few.into_iter().zip(40_000..) {
        add(&kernel, protocol, from, dialled, answering).await;
    }
    for number in 0..100 {
        add(&kernel, IpProtocol::Udp, 41_000 + number, DNS, "10.244.2.4:53").await;
        add(&kernel, IpProtocol::Udp, 41_000 + number, dns6, "[fd00::4]:53").await;
    }
    assert_eq!(count(&kernel).await, 206);

    let reconciler = Reconciler::start();
    let mut delta = Delta::default();
    delta.complete = true;
    delta.service_ports.extend([
        (key("dns", Protocol::Udp, Family::V4), Some(Arc::new(port(&[DNS], &["10.244.1.3:53"])))),
        (key("dns", Protocol::Udp, Family::V6), Some(Arc::new(port(&[dns6], &["[fd00::3]:53"])))),
    ]);
    reconciler.after(&delta, &ApplyReport::default()).await;
    while count(&kernel).await > 6 {
        tokio::task::yield_now().await;
    }
    // The task looks again when there is something to look at again.
    let moved = Some(Arc::new(port(&[DNS], &["10.244.1.5:53"])));
    delta.service_ports.insert(key("dns", Protocol::Udp, Family::V4), moved);
    reconciler.after(&delta, &ApplyReport::default()).await;
    while count(&kernel).await > 5 {
        tokio::task::yield_now().await;
    }
    assert_eq!(count(&kernel).await, 5);
}

async fn count(kernel: &Connection<Netfilter>) -> usize {
    kernel.get_conntrack().await.unwrap().len() + kernel.get_conntrack_v6().await.unwrap().len()
}

async fn add(
    kernel: &Connection<Netfilter>,
    protocol: IpProtocol,
    from: u16,
    dialled: &str,
    answering: &str,
) {
    let flow = flow(dialled, answering);
    let tuple = |from: SocketAddr, to: SocketAddr| {
        let tuple = ConntrackTuple {
            src_ip: Some(from.ip()),
            dst_ip: Some(to.ip()),
            ..ConntrackTuple::default()
        };
        tuple.ports(from.port(), to.port())
    };
    let mut client = flow.client;
    client.set_port(from);
    let builder = match flow.dialled {
        SocketAddr::V4(_) => ConntrackBuilder::new_v4(protocol),
        SocketAddr::V6(_) => ConntrackBuilder::new_v6(protocol),
    };
    let builder = builder
        .orig(tuple(client, flow.dialled))
        .reply(tuple(flow.answering, client))
        .status(ConntrackStatus::CONFIRMED)
        .timeout(std::time::Duration::from_secs(100));
    kernel.add_conntrack(builder).await.unwrap();
}
