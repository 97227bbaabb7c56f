//! Any sequence of Deltas, over a kernel in memory: what is there in the end, and what packets can
//! see on the way.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    sync::Arc,
};

use proptest::prelude::*;
use shunt_core::{
    backend::Verdict,
    model::{Family, ObjectName, Protocol, TrafficPolicy},
    plan::{Delta, Endpoint, Frontend, FrontendKind, NodeState, ServicePort, ServicePortKey},
};

use super::{
    data::{Bytes, Data, ElementKey, Fields},
    dump::{Found, FoundElement},
    fake::{Fake, FakeTable},
    options::{Detector, NftablesOptions},
    render::frontend_key,
    ruleset::{Chain, List, Place, SetName},
    running::Running,
};

/// What is desired of one Service, in numbers.
#[derive(Clone, Debug, PartialEq)]
struct Sketch {
    cluster: Vec<u8>,
    local: Vec<u8>,
    is_local: [bool; 2],
    affinity: Option<u32>,
    ranged: bool,
    has_node_port: bool,
}

/// What is desired of everything: Services, and who has each of the addresses that they fight for.
#[derive(Clone, Debug)]
struct State {
    services: BTreeMap<u8, Sketch>,
    external: Option<u8>,
    vip: Option<u8>,
    primary: u8,
}

fn sketch() -> impl Strategy<Value = Sketch> {
    let endpoints = || proptest::collection::btree_set(1_u8..9, 0..5);
    let flags = (any::<[bool; 2]>(), any::<bool>(), any::<bool>());
    let affinity = proptest::option::of(prop_oneof![Just(60_u32), Just(10_800)]);
    (endpoints(), endpoints(), flags, affinity).prop_map(|(cluster, local, flags, affinity)| {
        let (is_local, ranged, has_node_port) = flags;
        let (cluster, local) = (cluster.into_iter().collect(), local.into_iter().collect());
        Sketch { cluster, local, is_local, affinity, ranged, has_node_port }
    })
}

fn state() -> impl Strategy<Value = State> {
    let services = proptest::collection::btree_map(0_u8..4, sketch(), 0..4);
    let owner = || proptest::option::of(0_u8..4);
    (services, owner(), owner(), 1_u8..3).prop_map(|(services, external, vip, primary)| State {
        services,
        external,
        vip,
        primary,
    })
}

/// What happens after a Delta.
#[derive(Clone, Debug)]
enum Then {
    Nothing,
    Grace,
    Restart,
    Tamper,
    Lose,
}

fn then() -> impl Strategy<Value = Then> {
    prop_oneof![
        4 => Just(Then::Nothing),
        3 => Just(Then::Grace),
        1 => Just(Then::Restart),
        1 => Just(Then::Tamper),
        1 => Just(Then::Lose),
    ]
}

fn key(service: u8) -> ServicePortKey {
    ServicePortKey {
        service: ObjectName::new("default", &format!("s{service}")),
        port: "".into(),
        protocol: Protocol::Tcp,
        family: Family::V4,
    }
}

impl State {
    /// A node without Services.
    const fn bare() -> Self {
        Self { services: BTreeMap::new(), external: None, vip: None, primary: 1 }
    }

    fn port(&self, number: u8) -> Option<ServicePort> {
        let sketch = self.services.get(&number)?;
        let mut port = ServicePort::new();
        let frontend = |kind| Frontend::new(kind, NonZeroU16::new(80).unwrap());
        let address = |last| IpAddr::from([192, 0, 2, last]);
        port.frontends.push(frontend(FrontendKind::ClusterIp([10, 96, 0, number].into())));
        if self.external == Some(number) {
            port.frontends.push(frontend(FrontendKind::ExternalIp(address(1))));
        }
        if self.vip == Some(number) {
            port.frontends.push(frontend(FrontendKind::LoadBalancerIp(address(2))));
        }
        if sketch.has_node_port {
            let number = NonZeroU16::new(30_000 + u16::from(number)).unwrap();
            port.frontends.push(Frontend::new(FrontendKind::NodePort, number));
        }
        let policy = |local| if local { TrafficPolicy::Local } else { TrafficPolicy::Cluster };
        [port.internal_policy, port.external_policy] = sketch.is_local.map(policy);
        for number in 1_u8..9 {
            let mut endpoint = Endpoint::new(SocketAddr::from(([10, 244, 0, number], 8080)));
            endpoint.in_cluster = sketch.cluster.contains(&number);
            endpoint.in_local = sketch.local.contains(&number);
            endpoint.local = endpoint.in_local;
            if endpoint.in_cluster || endpoint.in_local {
                port.endpoints.push(endpoint);
            }
        }
        port.has_any = !sketch.cluster.is_empty();
        port.affinity_seconds = sketch.affinity;
        if sketch.ranged {
            port.source_ranges = vec!["192.168.1.0/24".parse().unwrap()].into();
        }
        Some(port)
    }

    fn node(&self) -> NodeState {
        let mut node = NodeState::default();
        let primary = IpAddr::from([192, 168, self.primary, 1]);
        node.node_port_addresses.insert(primary);
        node.primary_addresses.insert(primary);
        node
    }

    /// The Delta from one state to this one.
    fn since(&self, before: Option<&Self>) -> Delta {
        let mut delta = Delta::default();
        delta.complete = before.is_none();
        if before.map(Self::node) != Some(self.node()) {
            delta.node = Some(Arc::new(self.node()));
        }
        for number in 0..4 {
            let (old, new) = (before.and_then(|before| before.port(number)), self.port(number));
            if old == new {
                continue;
            }
            if old.is_some() != new.is_some() {
                delta.cluster_ips.insert([10, 96, 0, number].into(), new.is_some());
            }
            delta.service_ports.insert(key(number), new.map(Arc::new));
        }
        delta
    }

    /// Who may answer at each frontend.
    fn answers(&self) -> Answers {
        let mut answers = Answers::default();
        for number in self.services.keys() {
            let Some(port) = self.port(*number) else { continue };
            for frontend in &port.frontends {
                answers.owners.insert(frontend_key(&key(*number), frontend), *number);
            }
            let endpoints = port.endpoints.iter().map(|endpoint| endpoint.address);
            answers.endpoints.insert(*number, endpoints.collect());
        }
        answers
    }
}

/// Whose each frontend is, and who answers for each Service.
#[derive(Clone, Default)]
struct Answers {
    owners: HashMap<(Place, Bytes), u8>,
    endpoints: HashMap<u8, HashSet<SocketAddr>>,
}

/// What packets on their way may have seen, and who may answer them then.
#[derive(Default)]
struct Window(Vec<(FakeTable, Vec<Answers>)>);

impl Window {
    /// Follows every packet that read the first map in one state and the others in the same or
    /// later ones: each is led to an endpoint that was one of its frontend's meanwhile.
    fn check(&self) {
        for first in 0..self.0.len() {
            let frontends: Vec<(Place, Bytes)> = self.0[first]
                .0
                .elements
                .keys()
                .filter_map(|key| match key.0 {
                    SetName::Frontends(place) => Some((place, key.1.clone())),
                    _ => None,
                })
                .collect();
            let later = |state| state..self.0.len();
            let reads =
                later(first).flat_map(|second| later(second).map(move |third| (second, third)));
            for (second, third) in reads {
                frontends.iter().for_each(|frontend| self.follow([first, second, third], frontend));
            }
        }
    }

    fn data(&self, state: usize, set: SetName, key: Bytes) -> Option<Data> {
        let found = self.0[state].0.elements.get(&(set, key));
        found.map(|element| element.data.clone())
    }

    fn follow(&self, [first, second, third]: [usize; 3], frontend: &(Place, Bytes)) {
        let (place, key) = frontend;
        let lists = [SetName::ClusterLists(*place), SetName::LocalLists(*place)];
        let chains = match self.data(first, SetName::Frontends(*place), key.clone()) {
            Some(Data::Goto(Chain::External(_) | Chain::Ranged)) => &lists[..1],
            Some(Data::Goto(Chain::ExternalLocal(_) | Chain::RangedLocal)) => &lists[..],
            Some(Data::Goto(chain)) => return self.arrive([first, second, third], frontend, chain),
            other => panic!("{other:?}"),
        };
        for list in chains {
            if let Some(Data::Goto(chain)) = self.data(second, *list, key.clone()) {
                self.arrive([first, second, third], frontend, chain);
            }
        }
    }

    fn arrive(&self, states: [usize; 3], frontend: &(Place, Bytes), chain: Chain) {
        let [first, second, third] = states;
        let (place, key) = frontend;
        let (map, owner, list, count, skipped) = match chain {
            Chain::Choose { list, count, .. } => {
                (SetName::Endpoints(*place), key.clone(), list, count, 0)
            }
            Chain::Sticky { list, count, .. } => {
                let Some(Data::Value(id)) = self.data(second, SetName::Ids(*place), key.clone())
                else {
                    panic!("no number of {frontend:?} in {states:?}")
                };
                (SetName::StickyEndpoints, id[4..].into(), list, count, 8)
            }
            other => panic!("{other}"),
        };
        // A Service that had the frontend meanwhile may answer, also where it has just lost it.
        let meanwhile = || self.0[first..=third].iter().flat_map(|(_, answers)| answers);
        let owners: HashSet<u8> =
            meanwhile().filter_map(|answers| answers.owners.get(frontend)).copied().collect();
        let allowed: HashSet<SocketAddr> = meanwhile()
            .flat_map(|answers| owners.iter().filter_map(|owner| answers.endpoints.get(owner)))
            .flatten()
            .copied()
            .collect();
        for slot in (list.first_slot()..).take(count as usize) {
            let at =
                |slot: u32| self.data(third, map, Fields::new().then(&owner).number(slot).done());
            // Chains with affinity fall back to the first slots.
            let firsts = List::ALL.map(List::first_slot).into_iter();
            let found = at(slot).or_else(|| firsts.clone().filter(|_| skipped > 0).find_map(at));
            let Some(Data::Value(value)) = found else {
                panic!("{chain}: no endpoint for {frontend:?} in {states:?}")
            };
            let value = &value[skipped..];
            let address = IpAddr::from([value[0], value[1], value[2], value[3]]);
            let endpoint = SocketAddr::new(address, u16::from_be_bytes([value[4], value[5]]));
            assert!(allowed.contains(&endpoint), "{chain}: a stranger, {endpoint}, in {states:?}");
        }
    }
}

fn options() -> NftablesOptions {
    let pods = vec!["10.244.0.0/16".parse().unwrap()];
    NftablesOptions { detector: Detector::ClusterCidr(pods), ..NftablesOptions::default() }
}

fn running(fake: &Arc<Fake>) -> Running {
    Running::new(Arc::clone(fake) as _, options(), &[Family::V4])
}

/// The elements without what differs from run to run: the order of slots and the numbers of
/// ServicePorts.
fn meaning(table: &FakeTable) -> BTreeMap<String, Vec<String>> {
    let mut meaning: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let found = Found { elements: table.elements.clone(), ..Found::default() };
    for ((set, key), element) in &table.elements {
        let text = match set {
            SetName::Endpoints(_) | SetName::StickyEndpoints => continue,
            SetName::ClusterMembers | SetName::LocalMembers => format!("{:?}", &key[4..]),
            SetName::Ids(place) => {
                let id = found.id(*place, key).unwrap();
                let lists = List::ALL.map(|list| sorted(found.sticky_list(Family::V4, id, list)));
                format!("{key:?} {lists:?}")
            }
            SetName::Frontends(place)
            | SetName::ClusterLists(place)
            | SetName::LocalLists(place) => {
                let at = (*place, &**key);
                let lists = List::ALL.map(|list| sorted(found.list(Family::V4, at, list)));
                format!("{key:?} {:?} {lists:?}", element.data)
            }
            _ => format!("{key:?} {:?}", element.data),
        };
        let line = format!("{text} {:?}", element.comment);
        meaning.entry(set.name().to_owned()).or_default().push(line);
    }
    meaning.values_mut().for_each(|lines| lines.sort());
    let kinds = table.kinds.iter().map(ToString::to_string);
    meaning.insert(
        "kinds".to_owned(),
        kinds.collect::<std::collections::BTreeSet<_>>().into_iter().collect(),
    );
    meaning
}

/// What decides whom a new packet reaches: it has to be that of the last Delta at once, and not only
/// after a grace period.
fn decisions(table: &FakeTable) -> BTreeMap<(SetName, Bytes), String> {
    let leads = |place, key: &Bytes| {
        let frontend = table.elements.get(&(SetName::Frontends(place), key.clone()))?;
        match &frontend.data {
            Data::Goto(chain) => Some(*chain),
            _ => None,
        }
    };
    let is_local = |chain: &Chain| matches!(chain, Chain::ExternalLocal(_) | Chain::RangedLocal);
    let is_external =
        |chain: &Chain| is_local(chain) || matches!(chain, Chain::External(_) | Chain::Ranged);
    let decides = |(set, key): &&ElementKey| match set {
        SetName::ClusterLists(place) => leads(*place, key).as_ref().is_some_and(is_external),
        SetName::LocalLists(place) => leads(*place, key).as_ref().is_some_and(is_local),
        SetName::Frontends(_)
        | SetName::Unserved(_)
        | SetName::Allowed
        | SetName::ClusterIps
        | SetName::NodeAddresses
        | SetName::LocalPods
        | SetName::ServiceCidrs => true,
        _ => false,
    };
    let elements = table.elements.iter().filter(|(key, _)| decides(key));
    elements.map(|(key, element)| (key.clone(), format!("{:?}", element.data))).collect()
}

fn sorted(mut endpoints: Vec<SocketAddr>) -> Vec<SocketAddr> {
    endpoints.sort();
    endpoints
}

/// Applies until it works, as the engine does.
async fn insist(running: &mut Running, delta: &Delta) {
    let mut last = None;
    for _ in 0..1000 {
        let report = running.apply(delta).await;
        if report.is_success() {
            return;
        }
        last = report.error;
    }
    panic!("it never worked: {last:?}");
}

/// Sweeps until nothing is left to sweep.
async fn graces(running: &mut Running) {
    for _ in 0..1000 {
        let awaits = running.awaits();
        if awaits.is_empty() {
            return;
        }
        running.sweep(&awaits).await;
    }
    panic!("leftovers stay");
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

async fn run(fake: &Arc<Fake>, steps: Vec<(State, Then)>, follow: bool) {
    let mut agent = running(fake);
    let mut before: Option<State> = None;
    let mut window = Window::default();
    for (state, then) in steps {
        let delta = state.since(before.as_ref());
        insist(&mut agent, &delta).await;
        let answers: Vec<Answers> = before.iter().chain([&state]).map(State::answers).collect();
        window.0.extend(fake.seen().into_iter().map(|table| (table, answers.clone())));
        if follow {
            window.check();
            let fresh = Arc::new(Fake::default());
            insist(&mut running(&fresh), &state.since(None)).await;
            let [is, wanted] = [fake, &fresh].map(|fake| decisions(&fake.table().unwrap()));
            assert_eq!(is, wanted, "an answer is not that of the last Delta");
        }
        match then {
            Then::Nothing => {}
            Then::Grace => {
                graces(&mut agent).await;
                fake.seen();
                let last = fake.table().map(|table| (table, vec![state.answers()]));
                window.0 = last.into_iter().collect();
            }
            Then::Restart => {
                agent = running(fake);
                let mut whole = state.since(None);
                whole.complete = true;
                insist(&mut agent, &whole).await;
                fake.seen();
            }
            Then::Tamper => {
                fake.tamper(|table| {
                    let some: Vec<ElementKey> = table.elements.keys().step_by(2).cloned().collect();
                    some.iter().for_each(|key| drop(table.elements.remove(key)));
                });
                mend(&mut agent, &state).await;
                fake.seen();
                window.0.clear();
            }
            Then::Lose => {
                fake.lose();
                mend(&mut agent, &state).await;
                fake.seen();
                window.0.clear();
            }
        }
        before = Some(state);
    }
    let Some(state) = before else { return };
    loop {
        graces(&mut agent).await;
        if !agent.is_lost() {
            break;
        }
        mend(&mut agent, &state).await;
    }
    let fresh = Arc::new(Fake::default());
    insist(&mut running(&fresh), &state.since(None)).await;
    let (is, wanted) = (fake.table().unwrap(), fresh.table().unwrap());
    assert_eq!(meaning(&is), meaning(&wanted));
    assert_eq!(is.chains, wanted.chains);
    assert_eq!(fresh.refused(), Vec::<String>::new());
}

/// Verifies until it finds nothing, as the engine does after a bell.
async fn mend(agent: &mut Running, state: &State) {
    for _ in 0..1000 {
        let mut verdict = Verdict::default();
        agent.verify(&mut verdict).await;
        if verdict.reapply {
            insist(agent, &state.since(None)).await;
        } else if verdict.problems.is_empty() && verdict.repaired.is_empty() {
            return;
        }
    }
    panic!("it was never mended");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn packets_are_never_led_astray(steps in proptest::collection::vec((state(), then()), 1..6)) {
        let fake = Arc::new(Fake::default());
        block_on(run(&fake, steps, true));
        prop_assert_eq!(fake.refused(), Vec::<String>::new());
    }

}

#[test]
fn refused_transactions_change_nothing_in_the_end() {
    let injected = std::cell::Cell::new(0);
    let cases = ProptestConfig::with_cases(100);
    let mut runner = proptest::test_runner::TestRunner::new(cases);
    let steps = proptest::collection::vec((state(), then()), 4..8);
    let result = runner.run(&(any::<u64>(), steps), |(seed, steps)| {
        let fake = Arc::new(Fake::faulty(seed));
        block_on(run(&fake, steps, false));
        injected.set(injected.get() + fake.injected());
        prop_assert_eq!(fake.refused(), Vec::<String>::new());
        Ok(())
    });
    result.unwrap();
    assert!(injected.get() > 100, "{} faults", injected.get());
}

#[test]
fn a_table_of_another_shape_is_made_anew_in_one_transaction() {
    let fake = Arc::new(Fake::default());
    let state = State::bare();
    block_on(insist(&mut running(&fake), &state.since(None)));
    let wanted = fake.table().unwrap();
    fake.tamper(|table| table.misshapen = vec!["set frontends".to_owned()]);
    fake.seen();
    block_on(insist(&mut running(&fake), &state.since(None)));
    assert_eq!(fake.seen().len(), 1);
    assert_eq!(meaning(&fake.table().unwrap()), meaning(&wanted));
}

/// An agent that has written the state of a bare node.
fn at_work() -> (Arc<Fake>, Running) {
    let fake = Arc::new(Fake::default());
    let mut agent = running(&fake);
    block_on(insist(&mut agent, &State::bare().since(None)));
    (fake, agent)
}

fn verified(agent: &mut Running) -> Verdict {
    let mut verdict = Verdict::default();
    block_on(agent.verify(&mut verdict));
    verdict
}

#[test]
fn a_rule_that_others_changed_is_found_and_mended() {
    let (fake, mut agent) = at_work();
    fake.tamper(|table| table.edited.extend([Chain::Services]));
    let verdict = verified(&mut agent);
    assert!(verdict.repaired[0].contains("chain services"), "{verdict:?}");
    assert!(fake.table().unwrap().edited.is_empty());
    let verdict = verified(&mut agent);
    assert!(verdict.repaired.is_empty() && verdict.problems.is_empty(), "{verdict:?}");
}

/// One that is gone, one that says something else, and one that nobody wrote.
#[test]
fn elements_that_others_changed_are_found_and_mended() {
    let (fake, mut agent) = at_work();
    let written = fake.table().unwrap();
    let (key, element) = written.elements.iter().next().unwrap();
    let other = FoundElement { data: Data::Value([7].into()), comment: None };
    let foreign = (key.0, Bytes::from([7]));
    let mut check = |tamper: &dyn Fn(&mut FakeTable), expected: [usize; 2]| {
        fake.tamper(tamper);
        let verdict = verified(&mut agent);
        let [wrong, missing] = expected;
        let name = key.0.name();
        let expected = format!("{wrong} elements of {name} were wrong and {missing} missing");
        assert!(verdict.repaired[0].contains(&expected), "{expected}: {verdict:?}");
        assert_eq!(meaning(&fake.table().unwrap()), meaning(&written));
    };
    check(&|table| _ = table.elements.remove(key), [0, 1]);
    check(&|table| _ = table.elements.insert(key.clone(), other.clone()), [1, 0]);
    check(&|table| _ = table.elements.insert(foreign.clone(), element.clone()), [1, 0]);
}

/// While the kernel makes a hash larger, what is read of it may lack elements.
#[test]
fn what_one_look_misses_was_not_changed_by_others() {
    let (fake, mut agent) = at_work();
    assert!(!fake.table().unwrap().elements.is_empty());
    fake.overlook(1);
    let verdict = verified(&mut agent);
    assert!(verdict.repaired.is_empty() && verdict.problems.is_empty(), "{verdict:?}");
    assert_eq!(fake.refused(), Vec::<String>::new());
}

#[test]
fn without_pod_cidrs_nothing_is_done() {
    let fake = Arc::new(Fake::default());
    let mut options = options();
    options.detector = Detector::NodeCidr;
    let mut agent = Running::new(Arc::clone(&fake) as _, options, &[Family::V4]);
    let state = State::bare();
    let report = block_on(agent.apply(&state.since(None)));
    let error = report.error.unwrap();
    assert!(error.cause.to_string().contains("podCIDRs"), "{}", error.cause);
    assert!(fake.table().is_none());
    let mut delta = state.since(None);
    let mut node = state.node();
    node.pod_cidrs.insert("10.244.1.0/24".parse().unwrap());
    delta.node = Some(Arc::new(node));
    assert!(block_on(agent.apply(&delta)).is_success());
    assert!(fake.table().is_some());
}

#[test]
fn an_incomplete_first_delta_leaves_what_it_does_not_name() {
    let sketch = Sketch {
        cluster: vec![1, 2],
        local: vec![],
        is_local: [false; 2],
        affinity: None,
        ranged: false,
        has_node_port: false,
    };
    let services = BTreeMap::from([(0, sketch.clone()), (1, sketch.clone())]);
    let both = State { services, external: None, vip: None, primary: 1 };
    let fake = Arc::new(Fake::default());
    block_on(insist(&mut running(&fake), &both.since(None)));
    let one = State { services: BTreeMap::from([(1, sketch)]), ..both };
    let mut delta = one.since(None);
    delta.complete = false;
    let mut agent = running(&fake);
    block_on(insist(&mut agent, &delta));
    let frontends = |fake: &Fake| {
        let table = fake.table().unwrap();
        table.elements.keys().filter(|key| matches!(key.0, SetName::Frontends(_))).count()
    };
    assert_eq!(frontends(&fake), 2);
    block_on(insist(&mut agent, &one.since(None)));
    assert_eq!(frontends(&fake), 1);
    assert_eq!(fake.refused(), Vec::<String>::new());
}
