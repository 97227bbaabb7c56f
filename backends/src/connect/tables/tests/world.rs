//! A small cluster that proptest stirs, and what a connect would see of it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    sync::{Arc, Mutex},
};

use proptest::prelude::*;
use shunt_core::{
    model::{Family, ObjectName, Protocol, TrafficPolicy},
    plan::{Delta, Endpoint, Frontend, FrontendKind, ServicePort, ServicePortKey},
};
use shunt_ebpf::tables::{Frontend4, Frontend6, ListWord, Target};

use super::super::{
    super::{
        encode::{self, Content, Use, decode_endpoint, sort_key},
        reclaim::{Garbage, Grace},
        slot::Slot,
        sys::{
            Hash, Word, bytes_of,
            fake::{Fake, State},
            values_of,
        },
    },
    Tables,
};

/// What a connect gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Untranslated,
    Refused,
    Endpoints(BTreeSet<SocketAddr>),
}

/// Does in memory what the programs do; panics where they would go astray.
pub(super) fn connect(state: &State, slot: Slot) -> Answer {
    let target = match slot {
        Slot::V4(key) => state.lookup(Hash::Frontends4, bytes_of(&[key])).map(|value| {
            let value = values_of::<Frontend4>(value).next().unwrap();
            assert!(value.key == key && value.seal == key.seal(value.target));
            value.target
        }),
        Slot::V6(key) => state.lookup(Hash::Frontends6, bytes_of(&[key])).map(|value| {
            let value = values_of::<Frontend6>(value).next().unwrap();
            assert!(value.key == key && value.seal == key.seal(value.target));
            value.target
        }),
        Slot::NodePort(index) => match state.word(Word::node_port(index)) {
            0 => None,
            word => Some(Target(word as u32)),
        },
    };
    let Some(target) = target else { return Answer::Untranslated };
    assert_ne!(target.list(), 0, "{slot:?} names no list");
    match ListWord::decode(state.word(Word::list(target.list()))) {
        ListWord::Left => Answer::Untranslated,
        ListWord::Refuse => Answer::Refused,
        ListWord::Run { base, count } => {
            let run = &state.endpoints[base as usize..(base + count) as usize];
            assert!(run.is_sorted_by_key(sort_key), "{slot:?} is served from an unsorted run");
            Answer::Endpoints(run.iter().map(decode_endpoint).collect())
        }
    }
}

/// Grace periods that pass when the test says so.
pub(super) struct ManualGrace {
    fake: Fake,
    waiting: Garbage,
}

impl ManualGrace {
    pub(super) fn boxed(fake: &Fake) -> Box<dyn Grace> {
        Box::new(Self { fake: fake.clone(), waiting: Garbage::default() })
    }
}

impl Grace for ManualGrace {
    fn retire(&mut self, garbage: Garbage) {
        self.waiting.absorb(garbage);
    }

    fn collect(&mut self, wait: bool) -> Garbage {
        // Every third time, so that garbage also piles up over several Deltas.
        let due = self.waiting.runs.len().is_multiple_of(3);
        if !wait && !due {
            return Garbage::default();
        }
        self.fake.pass_grace();
        std::mem::take(&mut self.waiting)
    }
}

/// What someone wishes of a ServicePort; claims may clash.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    frontends: Vec<usize>,
    internal_local: bool,
    cluster: u8,
    local: u8,
    elsewhere: bool,
    affinity: Option<u32>,
    restricted: bool,
}

/// Changes of some ServicePorts; `None` removes one.
pub(super) type Step = Vec<(usize, Option<Wish>)>;

pub(super) fn steps(count: usize) -> impl Strategy<Value = Vec<Step>> {
    let wish = (
        proptest::collection::vec(0..8_usize, 0..4),
        any::<bool>(),
        prop_oneof![Just(0_u8), any::<u8>()],
        prop_oneof![Just(0_u8), any::<u8>()],
        any::<bool>(),
        prop_oneof![3 => Just(None), 1 => Just(Some(60)), 1 => Just(Some(90))],
        proptest::bool::weighted(0.2),
    )
        .prop_map(
            |(frontends, internal_local, cluster, local, elsewhere, affinity, restricted)| Wish {
                frontends,
                internal_local,
                cluster,
                local,
                elsewhere,
                affinity,
                restricted,
            },
        );
    let change = (0..KEYS, proptest::option::weighted(0.8, wish));
    proptest::collection::vec(proptest::collection::vec(change, 1..5), 1..count)
}

/// ServicePorts that there can be; every second one is IPv6.
const KEYS: usize = 6;

fn key(index: usize) -> ServicePortKey {
    ServicePortKey {
        service: ObjectName::new("default", &format!("service-{index}")),
        port: if index.is_multiple_of(3) { "".into() } else { "http".into() },
        protocol: Protocol::Tcp,
        family: if index.is_multiple_of(2) { Family::V4 } else { Family::V6 },
    }
}

fn address(family: Family, last: usize) -> IpAddr {
    match family {
        Family::V4 => format!("10.96.0.{last}").parse().unwrap(),
        Family::V6 => format!("fd00::{last}").parse().unwrap(),
    }
}

/// The frontends that all ServicePorts of a family compete for.
fn frontend(family: Family, index: usize) -> Frontend {
    let kind = match index {
        0..=2 => FrontendKind::ClusterIp(address(family, index + 1)),
        3..=4 => FrontendKind::ExternalIp(address(family, index + 1)),
        5 => FrontendKind::LoadBalancerIp(address(family, index + 1)),
        _ => FrontendKind::NodePort,
    };
    Frontend::new(kind, NonZeroU16::new(80 + index as u16).unwrap())
}

/// Every slot that anything may ever be served in.
pub(super) fn slots() -> Vec<Slot> {
    let pairs = (0..2).flat_map(|key| (0..8).map(move |index| (key, index)));
    pairs
        .map(|(index, number)| {
            let key = key(index);
            Slot::of(&key, &frontend(key.family, number)).unwrap()
        })
        .collect()
}

/// The cluster as wished and as planned.
#[derive(Clone, Default)]
pub(super) struct World {
    wishes: BTreeMap<usize, Wish>,
    pub(super) planned: HashMap<ServicePortKey, Arc<ServicePort>>,
}

impl World {
    /// Takes a step and says what changed in the plan.
    pub(super) fn step(&mut self, step: &Step) -> Delta {
        for (index, wish) in step {
            match wish {
                Some(wish) => drop(self.wishes.insert(*index, wish.clone())),
                None => drop(self.wishes.remove(index)),
            }
        }
        let planned = self.plan();
        let mut delta = Delta::default();
        for key in self.planned.keys().chain(planned.keys()) {
            if self.planned.get(key) != planned.get(key) {
                delta.service_ports.insert(key.clone(), planned.get(key).cloned());
            }
        }
        self.planned = planned;
        delta
    }

    /// The full state.
    pub(super) fn complete(&self) -> Delta {
        let ports = self.planned.iter();
        let mut delta = Delta::default();
        delta.complete = true;
        delta.service_ports =
            ports.map(|(key, port)| (key.clone(), Some(Arc::clone(port)))).collect();
        delta
    }

    /// Gives every frontend to the first that claims it.
    fn plan(&self) -> HashMap<ServicePortKey, Arc<ServicePort>> {
        let mut taken = BTreeSet::new();
        let mut planned = HashMap::new();
        for (index, wish) in &self.wishes {
            let key = key(*index);
            let mut port = ServicePort::new();
            let claims: BTreeSet<usize> = wish.frontends.iter().copied().collect();
            port.frontends = claims
                .into_iter()
                .filter(|number| taken.insert((key.family, *number)))
                .map(|number| frontend(key.family, number))
                .collect();
            if wish.internal_local {
                port.internal_policy = TrafficPolicy::Local;
            }
            port.endpoints = (0..8)
                .map(|bit| (bit, wish.cluster >> bit & 1 == 1, wish.local >> bit & 1 == 1))
                .filter(|(_, cluster, local)| *cluster || *local)
                .map(|(bit, in_cluster, in_local)| {
                    // No two ServicePorts share an endpoint, so that a stranger is seen.
                    let host = address(key.family, 100 + *index * 8 + bit);
                    let mut endpoint = Endpoint::new(SocketAddr::new(host, 8080));
                    (endpoint.in_cluster, endpoint.in_local) = (in_cluster, in_local);
                    endpoint
                })
                .collect();
            port.has_any = wish.elsewhere || !port.endpoints.is_empty();
            port.affinity_seconds = wish.affinity;
            if wish.restricted {
                port.source_ranges = ["192.0.2.0/24".parse().unwrap()].into();
            }
            planned.insert(key, Arc::new(port));
        }
        planned
    }

    /// What a connect to each slot is to get.
    pub(super) fn answers(&self) -> HashMap<Slot, Answer> {
        let mut answers: HashMap<Slot, Answer> =
            slots().into_iter().map(|slot| (slot, Answer::Untranslated)).collect();
        for (key, port) in &self.planned {
            let frontends = encode::Frontends::of(key, port);
            let contents = Content::of(port, &frontends, true);
            for served in &frontends.slots {
                let of_use = Use::ALL.iter().position(|list| *list == served.from).unwrap();
                let answer = match contents[of_use].as_ref().unwrap() {
                    Content::Refuse => Answer::Refused,
                    Content::Left(_) => Answer::Untranslated,
                    Content::Endpoints(list) => {
                        Answer::Endpoints(list.iter().map(decode_endpoint).collect())
                    }
                };
                answers.insert(served.slot, answer);
            }
        }
        answers
    }
}

/// What each slot may answer while things change.
#[derive(Clone, Default)]
pub(super) struct Allowed(Arc<Mutex<HashMap<Slot, Vec<Answer>>>>);

impl Allowed {
    /// From now on these answers are right as well.
    pub(super) fn also(&self, answers: &HashMap<Slot, Answer>) {
        let mut allowed = self.0.lock().unwrap();
        for (slot, answer) in answers {
            allowed.entry(*slot).or_default().push(answer.clone());
        }
    }

    /// From now on only these answers are right.
    pub(super) fn only(&self, answers: &HashMap<Slot, Answer>) {
        self.0.lock().unwrap().clear();
        self.also(answers);
    }

    /// Looks at every slot.
    pub(super) fn check(&self, state: &State) {
        for (slot, allowed) in self.0.lock().unwrap().iter() {
            let answer = connect(state, *slot);
            assert!(allowed.contains(&answer), "{slot:?}: {answer:?} is none of {allowed:?}");
        }
    }

    /// Looks at every slot after every write from now on.
    pub(super) fn watch(&self, fake: &Fake) {
        let allowed = self.clone();
        fake.observe(Some(Box::new(move |state| allowed.check(state))));
    }
}

/// Nothing is held that no frontend leads to.
pub(super) fn check_no_leak<K: super::super::Kernel>(tables: &mut Tables<K>) {
    tables.settle();
    let named: BTreeSet<u32> =
        tables.frontends.iter().map(|(_, named)| named.target.list()).collect();
    let runs = named.iter().filter_map(|list| tables.lists.run(*list));
    assert_eq!(tables.runs.used(), runs.map(|run| run.count).sum::<u32>(), "runs leak");
    assert_eq!(tables.lists.used(), named.len() as u32, "lists leak");
    let names = tables.records.values().filter(|record| record.named.is_some());
    assert_eq!(tables.names, names.count(), "names are miscounted");
}
