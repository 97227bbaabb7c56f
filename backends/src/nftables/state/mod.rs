//! What a table holds, and what has to be written for a Delta: pure.
//!
//! A packet on its way reads each map anew: the verdict of its frontend, then the ServicePort's
//! number or a second verdict, then the endpoint. So what is read later is written first, and
//! deleted last: only after a grace period, when no packet can have read what leads to it.

mod audit;

use std::{
    collections::{BTreeMap, HashMap, HashSet, hash_map::Entry},
    net::IpAddr,
    sync::Arc,
};

use shunt_core::{
    model::Family,
    plan::{Delta, NodeState, ServicePort, ServicePortKey},
};

use super::{
    data::{Data, Element, ElementKey},
    dump::Found,
    lists::arrange,
    netlink::{Batch, Change, HEAVIEST, Structure},
    options::Detector,
    render::{self, Record},
    ruleset::{Chain, Hook, List, SetName, Shape, rules},
    wire::weight,
};

pub(super) use self::audit::Prints;

/// What a table holds, as far as the agent knows.
#[derive(Clone, Debug)]
pub(super) struct Table {
    shape: Shape,
    detector: Detector,
    records: HashMap<ServicePortKey, Record>,
    /// Those with source ranges, which depend on the Node's addresses.
    ranged: HashSet<ServicePortKey>,
    /// How many ServicePorts have a local endpoint of this address.
    hairpins: HashMap<IpAddr, u32>,
    cluster_ips: HashSet<IpAddr>,
    node: Arc<NodeState>,
    /// How many elements lead to each chain that is counted.
    chains: HashMap<Chain, Uses>,
    /// What nothing leads to any more, but packets on their way may still read.
    limbo: HashMap<ElementKey, (Data, u64)>,
    /// Whether a complete Delta has been written: what it did not name is gone.
    is_whole: bool,
    /// The number of the last Delta.
    age: u64,
    next_id: u32,
}

/// How many elements lead to a chain, and since when it is none.
#[derive(Clone, Copy, Debug, Default)]
struct Uses {
    count: u32,
    since: u64,
}

/// What a Delta changes, once it is written.
#[derive(Debug, Default)]
pub(super) struct Staged {
    /// What has to be written, in this order.
    pub(super) batches: Vec<Batch>,
    records: Vec<(ServicePortKey, Option<Record>)>,
    hairpins: HashMap<IpAddr, u32>,
    cluster_ips: Vec<(IpAddr, bool)>,
    node: Option<Arc<NodeState>>,
    limbo: Vec<(ElementKey, Data)>,
    revived: Vec<ElementKey>,
    chains: HashMap<Chain, i64>,
    next_id: u32,
}

/// What became free, and goes.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// What has to be written.
    pub(super) batches: Vec<Batch>,
    elements: Vec<ElementKey>,
    chains: Vec<Chain>,
}

impl Table {
    /// A table that holds nothing.
    pub(super) fn new(shape: Shape, detector: Detector) -> Self {
        Self {
            shape,
            detector,
            records: HashMap::new(),
            ranged: HashSet::new(),
            hairpins: HashMap::new(),
            cluster_ips: HashSet::new(),
            node: Arc::default(),
            chains: HashMap::new(),
            limbo: HashMap::new(),
            is_whole: false,
            age: 0,
            next_id: 1,
        }
    }

    /// The Node as it was last written.
    pub(super) const fn node(&self) -> &Arc<NodeState> {
        &self.node
    }

    const fn family(&self) -> Family {
        self.shape.family
    }

    /// The chains that ServicePorts lead to.
    pub(super) fn chains(&self) -> impl Iterator<Item = Chain> {
        self.chains.keys().copied()
    }

    /// Whether something waits for a grace period, and the number of the Delta that it is from.
    pub(super) fn awaits(&self) -> Option<u64> {
        let idle = self.chains.values().any(|uses| uses.count == 0);
        (idle || !self.limbo.is_empty()).then_some(self.age)
    }

    /// What has to be written for a Delta, where what the table holds is known.
    pub(super) fn stage(&self, delta: &Delta) -> Staged {
        let mut staging = Staging::new(self);
        let primary = delta.node.as_ref().unwrap_or(&self.node);
        for (key, port) in delta.service_ports.iter().filter(|(key, _)| key.family == self.family())
        {
            staging.service_port(key, port.as_ref(), &primary.primary_addresses);
        }
        if let Some(node) = &delta.node {
            staging.node(node);
            let again = self.ranged.iter().filter(|key| !delta.service_ports.contains_key(*key));
            for key in again.filter(|_| node.primary_addresses != self.node.primary_addresses) {
                let port = self.records.get(key).map(|record| Arc::clone(&record.port));
                staging.service_port(key, port.as_ref(), &node.primary_addresses);
            }
        }
        let own = delta.cluster_ips.iter().filter(|(ip, _)| Family::of(**ip) == self.family());
        own.for_each(|(address, is_active)| staging.cluster_ip(*address, *is_active));
        staging.finish()
    }

    /// What has to be written for the Node, where the table holds nothing yet.
    pub(super) fn stage_node(&self, node: &Arc<NodeState>) -> Staged {
        let mut staging = Staging::new(self);
        staging.elements(Vec::new(), node_elements(self.family(), &self.detector, node));
        staging.staged.node = Some(Arc::clone(node));
        staging.finish()
    }

    /// Takes in that everything staged is written.
    pub(super) fn commit(&mut self, staged: Staged) {
        self.age += 1;
        for (key, record) in staged.records {
            match record {
                Some(record) => {
                    if record.is_ranged() {
                        self.ranged.insert(key.clone());
                    } else {
                        self.ranged.remove(&key);
                    }
                    self.records.insert(key, record);
                }
                None => {
                    self.ranged.remove(&key);
                    self.records.remove(&key);
                }
            }
        }
        for (address, count) in staged.hairpins {
            match count {
                0 => drop(self.hairpins.remove(&address)),
                count => drop(self.hairpins.insert(address, count)),
            }
        }
        for (address, is_active) in staged.cluster_ips {
            if is_active {
                self.cluster_ips.insert(address);
            } else {
                self.cluster_ips.remove(&address);
            }
        }
        if let Some(node) = staged.node {
            self.node = node;
        }
        for key in staged.revived {
            self.limbo.remove(&key);
        }
        for (key, data) in staged.limbo {
            self.limbo.insert(key, (data, self.age));
        }
        for (chain, change) in staged.chains {
            let uses = self.chains.entry(chain).or_default();
            uses.count = uses.count.saturating_add_signed(change as i32);
            uses.since = self.age;
        }
        self.next_id = staged.next_id;
    }

    /// What can go now: a grace period is over that began after the Delta of that number.
    pub(super) fn sweep(&self, age: u64) -> Sweep {
        let mut sweep = Sweep::default();
        let mut freed: HashMap<Chain, u32> = HashMap::new();
        let mut changes = Vec::new();
        for (key, (data, since)) in &self.limbo {
            if *since > age {
                continue;
            }
            if let Data::Goto(chain) = data {
                *freed.entry(*chain).or_default() += 1;
            }
            changes.push(removal(key.clone(), data));
            sweep.elements.push(key.clone());
        }
        let is_idle = |chain: &Chain, uses: &Uses| {
            uses.count <= freed.get(chain).copied().unwrap_or(0) && uses.since <= age
        };
        let idle = self.chains.iter().filter(|(chain, uses)| is_idle(chain, uses));
        sweep.chains = idle.map(|(chain, _)| *chain).collect();
        changes.sort_by_key(|change| change.set);
        sweep.batches = batches(Vec::new(), changes);
        if !sweep.chains.is_empty() {
            let mut last = sweep.batches.pop().unwrap_or_default();
            last.after = sweep.chains.iter().map(|chain| Structure::DeleteKind(*chain)).collect();
            last.after.extend(sweep.chains.iter().map(|chain| Structure::DeleteChain(*chain)));
            sweep.batches.push(last);
        }
        sweep
    }

    /// Takes in that everything of a sweep is gone.
    pub(super) fn swept(&mut self, sweep: Sweep) {
        for key in sweep.elements {
            if let Some((Data::Goto(chain), _)) = self.limbo.remove(&key)
                && let Some(uses) = self.chains.get_mut(&chain)
            {
                uses.count = uses.count.saturating_sub(1);
            }
        }
        for chain in sweep.chains {
            self.chains.remove(&chain);
        }
    }

    /// Every element that is desired, each once.
    fn desired(&self) -> impl Iterator<Item = Element> {
        let rendered = |(key, record)| render::render(key, record, &self.node.primary_addresses);
        let address = |set| move |address: &IpAddr| render::address(set, *address);
        let ports = self.records.iter().flat_map(rendered);
        ports
            .chain(self.cluster_ips.iter().map(address(SetName::ClusterIps)))
            .chain(self.hairpins.keys().map(|address| render::hairpin(*address)))
            .chain(node_elements(self.family(), &self.detector, &self.node))
    }

    /// Every element that is desired, by its key.
    pub(super) fn elements(&self) -> HashMap<ElementKey, Element> {
        let by_key = |element: Element| ((element.set, element.key.clone()), element);
        self.desired().map(by_key).collect()
    }

    /// Whether a ServicePort has affinity.
    pub(super) fn has_affinity(&self) -> bool {
        self.records.values().any(|record| record.id != 0)
    }

    /// Tells the metrics how large the table is.
    pub(super) fn meter(&self) {
        let family = self.family().to_string();
        let gauge = |name: &'static str, value: usize| {
            metrics::gauge!(name, "ip_family" => family.clone()).set(value as f64);
        };
        gauge("shunt_nftables_service_ports", self.records.len());
        gauge("shunt_nftables_counted_chains", self.chains.len());
        gauge("shunt_nftables_leftover_elements", self.limbo.len());
    }

    /// Whether the Node has no pod CIDR, as far as is known.
    pub(super) fn pod_cidrs_are_empty(&self) -> bool {
        self.node.pod_cidrs.is_empty()
    }

    /// Everything that is desired, as the Delta from nothing.
    pub(super) fn whole(&self) -> Delta {
        let mut delta = Delta::default();
        delta.complete = true;
        delta.node = Some(Arc::clone(&self.node));
        delta.cluster_ips = self.cluster_ips.iter().map(|address| (*address, true)).collect();
        let ports = self.records.iter();
        let ports = ports.map(|(key, record)| (key.clone(), Some(Arc::clone(&record.port))));
        delta.service_ports = ports.collect();
        delta
    }

    /// A table that holds what is desired after a Delta, and what has to be written to make it so
    /// of what was found there.
    ///
    /// What neither the Delta nor an earlier one names goes only if the Delta is complete.
    pub(super) fn adopt(&self, found: Option<&Found>, delta: &Delta) -> (Self, Staged) {
        let mut next = Self::new(self.shape.clone(), self.detector.clone());
        next.age = self.age;
        let usable = found.filter(|found| found.misshapen.is_empty());
        let nothing = Found::default();
        let hints = usable.unwrap_or(&nothing);
        next.next_id = 1 + highest_id(hints).max(self.next_id - 1);
        if let Some(node) = &delta.node {
            next.node = Arc::clone(node);
        } else {
            next.node = Arc::clone(&self.node);
        }
        next.desire(self, hints, delta);
        next.is_whole = self.is_whole || delta.complete;
        let strangers = next.strangers(self, delta);
        let mut staging = Staging::new(&next);
        staging.difference(next.elements(), hints, strangers);
        let mut staged = staging.finish();
        let structure = next.structure(found, usable, &staged);
        let is_rebuilt = found.is_some() && usable.is_none();
        join(&mut staged.batches, structure, is_rebuilt);
        let counts = std::mem::take(&mut staged.chains);
        next.count(hints, counts);
        for chain in hints.chains.iter().filter(|chain| chain.is_counted()) {
            next.chains.entry(*chain).or_default();
        }
        staged.next_id = next.next_id;
        (next, staged)
    }

    /// A table that goes on from this one and holds nothing yet of the complete Delta to come.
    pub(super) fn emptied(&self) -> Self {
        let mut next = Self::new(self.shape.clone(), self.detector.clone());
        (next.age, next.next_id, next.is_whole) = (self.age, self.next_id, true);
        next
    }

    /// What a table is made of before it holds anything, and what leads packets to it.
    pub(super) fn foundation(&self) -> (Vec<Structure>, Vec<Structure>) {
        self.structure(None, None, &Staged::default())
    }

    /// Whether an element is to stay although nothing is known of it, if any is.
    fn strangers(&self, known: &Self, delta: &Delta) -> impl Fn(SetName, Option<&str>) -> bool {
        let names = delta.service_ports.keys().chain(known.records.keys());
        let named: HashSet<String> = match self.is_whole {
            true => HashSet::new(),
            false => names.map(ToString::to_string).collect(),
        };
        let is_whole = self.is_whole;
        move |set, comment| {
            // Nobody's name is beside what several share.
            let is_shared = matches!(set, SetName::ClusterIps | SetName::Hairpin);
            !is_whole
                && comment.map_or(is_shared, |comment| !named.contains(render::owner(comment)))
        }
    }

    /// Fills in records, ClusterIPs and hairpins: what is known, then the Delta.
    fn desire(&mut self, known: &Self, found: &Found, delta: &Delta) {
        let wanted = |key: &&ServicePortKey| !delta.service_ports.contains_key(*key);
        if !delta.complete {
            for key in known.records.keys().filter(wanted) {
                let Some(record) = known.records.get(key) else { continue };
                self.take_record(key.clone(), record.clone());
            }
            self.cluster_ips.clone_from(&known.cluster_ips);
        }
        for (key, port) in &delta.service_ports {
            let Some(port) = port.as_ref().filter(|_| key.family == self.family()) else {
                continue;
            };
            let old = known.records.get(key).cloned();
            let old = old.unwrap_or_else(|| hinted(key, port, found, self.family()));
            let mut next_id = self.next_id;
            let record = record_of(port, Some(&old), &mut next_id);
            self.next_id = next_id;
            self.take_record(key.clone(), record);
        }
        for (address, is_active) in &delta.cluster_ips {
            match *is_active && Family::of(*address) == self.family() {
                true => drop(self.cluster_ips.insert(*address)),
                false => drop(self.cluster_ips.remove(address)),
            }
        }
    }

    fn take_record(&mut self, key: ServicePortKey, record: Record) {
        let addresses: HashSet<IpAddr> = render::hairpins(&record.port).collect();
        for address in addresses {
            *self.hairpins.entry(address).or_default() += 1;
        }
        if record.is_ranged() {
            self.ranged.insert(key.clone());
        }
        self.records.insert(key, record);
    }

    /// Counts what leads to each chain: what was found, and what is about to change of it.
    fn count(&mut self, found: &Found, changes: HashMap<Chain, i64>) {
        let mut counts = changes;
        for element in found.elements.values() {
            if let Data::Goto(chain) = element.data
                && chain.is_counted()
            {
                *counts.entry(chain).or_default() += 1;
            }
        }
        for (chain, count) in counts {
            self.chains.insert(chain, Uses { count: count.max(0) as u32, since: self.age + 1 });
        }
    }

    /// Makes the table, its sets and its chains as far as they are not there, and all rules anew:
    /// in one transaction, which no packet sees in the middle.
    fn structure(
        &self,
        found: Option<&Found>,
        usable: Option<&Found>,
        staged: &Staged,
    ) -> (Vec<Structure>, Vec<Structure>) {
        let mut before = Vec::new();
        if found.is_some() && usable.is_none() {
            before.push(Structure::DeleteTable);
        }
        if usable.is_none() {
            before.push(Structure::AddTable);
        }
        let sets = usable.map(|found| found.sets.as_slice()).unwrap_or_default();
        let missing = SetName::ALL.into_iter().filter(|set| !sets.contains(set));
        before.extend(missing.map(Structure::AddSet));
        let chains = usable.map(|found| found.chains.as_slice()).unwrap_or_default();
        let counted: HashSet<Chain> = chains
            .iter()
            .filter(|chain| chain.is_counted())
            .chain(staged.chains.iter().filter(|(_, count)| **count > 0).map(|(chain, _)| chain))
            .copied()
            .collect();
        let counted: BTreeMap<Chain, ()> = counted.into_iter().map(|chain| (chain, ())).collect();
        let inner: Vec<Chain> = Chain::CONSTANT.into_iter().chain(counted.into_keys()).collect();
        let absent = |chain: &&Chain| !chains.contains(chain);
        before.extend(inner.iter().filter(absent).map(|chain| Structure::AddChain(*chain)));
        before.extend(inner.iter().map(|chain| self.rules(*chain)));
        let leads = |chain: &&Chain| !usable.is_some_and(|found| found.leads_to(**chain));
        before.extend(inner.iter().filter(leads).map(|chain| Structure::AddKind(*chain)));
        let base: Vec<Chain> = Hook::ALL.into_iter().map(Chain::Base).collect();
        let mut after: Vec<Structure> =
            base.iter().filter(absent).map(|chain| Structure::AddChain(*chain)).collect();
        after.extend(base.iter().map(|chain| self.rules(*chain)));
        (before, after)
    }

    fn rules(&self, chain: Chain) -> Structure {
        Structure::Rules(chain, rules(&self.shape, chain))
    }
}

/// A record for what is desired: slots and number as they were, as far as that goes.
fn record_of(port: &Arc<ServicePort>, old: Option<&Record>, next_id: &mut u32) -> Record {
    let old_list = |list| old.map(|old| old.list(list)).unwrap_or_default();
    let id = match (port.affinity_seconds, old.map_or(0, |old| old.id)) {
        (None, _) => 0,
        (Some(_), 0) => {
            *next_id += 1;
            *next_id - 1
        }
        (Some(_), id) => id,
    };
    let cluster = port.cluster_list().map(|endpoint| endpoint.address);
    let local = port.local_list().map(|endpoint| endpoint.address);
    Record {
        port: Arc::clone(port),
        id,
        cluster: arrange(old_list(List::Cluster), cluster),
        local: arrange(old_list(List::Local), local),
    }
}

/// What a table that was found says about slots and number of a ServicePort.
fn hinted(key: &ServicePortKey, port: &Arc<ServicePort>, found: &Found, family: Family) -> Record {
    let mut record =
        Record { port: Arc::clone(port), id: 0, cluster: Box::default(), local: Box::default() };
    for frontend in &port.frontends {
        let (place, tuple) = render::frontend_key(key, frontend);
        if record.id == 0 {
            // A number is kept only by the ServicePort whose name is beside it.
            let named = found.elements.get(&(SetName::Ids(place), tuple.clone()));
            let comment = named.and_then(|element| element.comment.as_deref());
            let is_own = comment.is_some_and(|comment| comment == key.to_string());
            record.id = found.id(place, &tuple).filter(|_| is_own).unwrap_or(0);
        }
        let slots = |list| match record.id {
            0 => found.list(family, (place, &tuple), list),
            id => found.sticky_list(family, id, list),
        };
        let (cluster, local) = (slots(List::Cluster), slots(List::Local));
        if record.cluster.is_empty() {
            record.cluster = cluster.into();
        }
        if record.local.is_empty() {
            record.local = local.into();
        }
    }
    record
}

fn highest_id(found: &Found) -> u32 {
    let ids = found.elements.keys().filter_map(|(set, key)| match set {
        SetName::Ids(place) => found.id(*place, key),
        _ => None,
    });
    ids.max().unwrap_or(0)
}

/// The elements that depend on the node alone.
fn node_elements(family: Family, detector: &Detector, node: &NodeState) -> Vec<Element> {
    let own = node.node_port_addresses.iter().filter(|address| Family::of(**address) == family);
    let mut elements: Vec<Element> =
        own.map(|address| render::address(SetName::NodeAddresses, *address)).collect();
    let cidrs = node.service_cidrs.values().flatten().copied();
    elements.extend(render::ranges(SetName::ServiceCidrs, family, cidrs));
    match detector {
        Detector::ClusterCidr(cidrs) => {
            elements.extend(render::ranges(SetName::LocalPods, family, cidrs.iter().copied()));
        }
        Detector::NodeCidr => {
            let cidrs = node.pod_cidrs.iter().copied();
            elements.extend(render::ranges(SetName::LocalPods, family, cidrs));
        }
        Detector::None | Detector::BridgeInterface(_) | Detector::InterfacePrefix(_) => {}
    }
    elements
}

/// Collects what a Delta changes.
struct Staging<'a> {
    table: &'a Table,
    staged: Staged,
    added: Vec<Element>,
    replaced: Vec<(Element, Data)>,
    removed: HashMap<ElementKey, Data>,
    /// Lists that frontends may look into and that are to be empty: no leftovers can be there.
    empty: Vec<ElementKey>,
}

impl<'a> Staging<'a> {
    fn new(table: &'a Table) -> Self {
        let staged = Staged { next_id: table.next_id, ..Staged::default() };
        Self {
            table,
            staged,
            added: Vec::new(),
            replaced: Vec::new(),
            removed: HashMap::new(),
            empty: Vec::new(),
        }
    }

    fn service_port(
        &mut self,
        key: &ServicePortKey,
        port: Option<&Arc<ServicePort>>,
        primary: &std::collections::BTreeSet<IpAddr>,
    ) {
        let old = self.table.records.get(key);
        if old.is_none() && port.is_none() {
            return;
        }
        let new = port.map(|port| record_of(port, old, &mut self.staged.next_id));
        let before = old
            .map(|old| render::render(key, old, &self.table.node.primary_addresses))
            .unwrap_or_default();
        let after = new.as_ref().map(|new| render::render(key, new, primary)).unwrap_or_default();
        self.elements(before, after);
        let addresses = |record: Option<&Record>| -> HashSet<IpAddr> {
            record.map(|record| render::hairpins(&record.port).collect()).unwrap_or_default()
        };
        let (before, after) = (addresses(old), addresses(new.as_ref()));
        for address in before.difference(&after) {
            self.hairpin(*address, false);
        }
        for address in after.difference(&before) {
            self.hairpin(*address, true);
        }
        self.staged.records.push((key.clone(), new));
    }

    /// Notes how the elements of one owner change.
    fn elements(&mut self, before: Vec<Element>, after: Vec<Element>) {
        self.note_empty(&after);
        if before.is_empty() {
            self.added.extend(after);
            return;
        }
        let keyed = before
            .into_iter()
            .map(|element| ((element.set, element.key), (element.data, element.comment)));
        let mut before: HashMap<ElementKey, (Data, Option<Arc<str>>)> = keyed.collect();
        for element in after {
            match before.remove(&(element.set, element.key.clone())) {
                None => self.added.push(element),
                Some((data, comment)) if data == element.data && comment == element.comment => {}
                Some((data, _)) => self.replaced.push((element, data)),
            }
        }
        self.removed.extend(before.into_iter().map(|(key, (data, _))| (key, data)));
    }

    /// Notes which lists are looked into without being there: those of policy Local. Who looks into
    /// another list always has it.
    fn note_empty<'e>(&mut self, elements: impl IntoIterator<Item = &'e Element>) {
        for element in elements {
            let (SetName::Frontends(place), Data::Goto(chain)) = (element.set, &element.data)
            else {
                continue;
            };
            if matches!(chain, Chain::ExternalLocal(_) | Chain::RangedLocal) {
                let lists = [SetName::ClusterLists(place), SetName::LocalLists(place)];
                self.empty.extend(lists.map(|list| (list, element.key.clone())));
            }
        }
    }

    fn hairpin(&mut self, address: IpAddr, more: bool) {
        let known = self.table.hairpins.get(&address).copied().unwrap_or(0);
        let count = self.staged.hairpins.entry(address).or_insert(known);
        *count = if more { *count + 1 } else { count.saturating_sub(1) };
    }

    fn cluster_ip(&mut self, address: IpAddr, is_active: bool) {
        let element = render::address(SetName::ClusterIps, address);
        match (self.table.cluster_ips.contains(&address), is_active) {
            (false, true) => self.added.push(element),
            (true, false) => drop(self.removed.insert((element.set, element.key), element.data)),
            _ => return,
        }
        self.staged.cluster_ips.push((address, is_active));
    }

    fn node(&mut self, node: &Arc<NodeState>) {
        let Table { shape, detector, node: old, .. } = self.table;
        let before = node_elements(shape.family, detector, old);
        let after = node_elements(shape.family, detector, node);
        self.elements(before, after);
        self.staged.node = Some(Arc::clone(node));
    }

    /// Notes how what was found has to change, and what stays although it is not wanted.
    fn difference(
        &mut self,
        mut after: HashMap<ElementKey, Element>,
        found: &Found,
        stays: impl Fn(SetName, Option<&str>) -> bool,
    ) {
        self.note_empty(after.values());
        for (key, before) in &found.elements {
            match after.remove(key) {
                Some(element)
                    if element.data == before.data && element.comment == before.comment => {}
                Some(element) => self.replaced.push((element, before.data.clone())),
                None if stays(key.0, before.comment.as_deref()) => {}
                None => drop(self.removed.insert(key.clone(), before.data.clone())),
            }
        }
        self.added.extend(after.into_values());
    }

    fn finish(mut self) -> Staged {
        for (address, count) in &self.staged.hairpins {
            let was = self.table.hairpins.contains_key(address);
            let element = render::hairpin(*address);
            match (was, *count > 0) {
                (false, true) => self.added.push(element),
                (true, false) => {
                    drop(self.removed.insert((element.set, element.key), element.data))
                }
                _ => {}
            }
        }
        let mut changes = Vec::with_capacity(self.added.len() + self.replaced.len());
        let mut seen = HashSet::new();
        for element in std::mem::take(&mut self.added) {
            let key = (element.set, element.key.clone());
            // Nobody owns a frontend twice: the plan sees to that. If it did not, one refused
            // element would fail the whole transaction.
            if matches!(element.set, SetName::Frontends(_) | SetName::Unserved(_))
                && !seen.insert(key.clone())
            {
                tracing::error!(?element, "two ServicePorts claim one frontend");
                continue;
            }
            let before = match self.removed.remove(&key) {
                Some(data) => Some(data),
                None => self.revive(&key),
            };
            changes.push(self.change(element, before));
        }
        for (element, before) in std::mem::take(&mut self.replaced) {
            changes.push(self.change(element, Some(before)));
        }
        // What is wanted of these lists is no longer among what is removed or waits for its end.
        for key in std::mem::take(&mut self.empty) {
            let leftover = self.table.limbo.get(&key).map(|(data, _)| data.clone());
            let leftover = leftover.filter(|_| !self.staged.revived.contains(&key));
            let Some(data) = self.removed.remove(&key).or(leftover) else { continue };
            self.staged.revived.push(key.clone());
            self.uses(&data, -1);
            changes.push(removal(key, &data));
        }
        for (key, data) in std::mem::take(&mut self.removed) {
            if key.0.is_read_later() {
                self.staged.limbo.push((key, data));
            } else {
                self.uses(&data, -1);
                changes.push(removal(key, &data));
            }
        }
        changes.sort_by_key(rank);
        let mut new_chains: Vec<Chain> = self
            .staged
            .chains
            .iter()
            .filter(|(chain, count)| **count > 0 && !self.table.chains.contains_key(*chain))
            .map(|(chain, _)| *chain)
            .collect();
        new_chains.sort();
        let added = new_chains.iter().map(|chain| Structure::AddChain(*chain));
        let ruled = new_chains.iter().map(|chain| self.table.rules(*chain));
        let kinds = new_chains.iter().map(|chain| Structure::AddKind(*chain));
        self.staged.batches = batches(added.chain(ruled).chain(kinds).collect(), changes);
        self.staged
    }

    /// What an element says that waits for its end; it is not to end any more.
    fn revive(&mut self, key: &ElementKey) -> Option<Data> {
        let (data, _) = self.table.limbo.get(key)?;
        self.staged.revived.push(key.clone());
        Some(data.clone())
    }

    fn change(&mut self, element: Element, before: Option<Data>) -> Change {
        let remove = before.is_some();
        let end = before.as_ref().and_then(|data| match data {
            Data::Until(end) => Some(end.clone()),
            _ => None,
        });
        if let Some(before) = before {
            self.uses(&before, -1);
        }
        self.uses(&element.data, 1);
        let put = Some((element.data, element.comment));
        Change { set: element.set, key: element.key, end, remove, put }
    }

    fn uses(&mut self, data: &Data, change: i64) {
        if let Data::Goto(chain) = data
            && chain.is_counted()
        {
            match self.staged.chains.entry(*chain) {
                Entry::Occupied(mut entry) => *entry.get_mut() += change,
                Entry::Vacant(entry) => drop(entry.insert(change)),
            }
        }
    }
}

fn removal((set, key): ElementKey, data: &Data) -> Change {
    let end = match data {
        Data::Until(end) => Some(end.clone()),
        _ => None,
    };
    Change { set, key, end, remove: true, put: None }
}

/// When a change is written: what packets read last comes first, and what goes comes at the end.
fn rank(change: &Change) -> (u8, SetName) {
    let rank = match (change.set, change.put.is_some()) {
        (SetName::Frontends(_), true) => 3,
        (SetName::ClusterLists(_) | SetName::LocalLists(_), _) => 2,
        (SetName::Ids(_), true) => 1,
        (_, true) => 0,
        (SetName::Frontends(_), false) => 4,
        (_, false) => 5,
    };
    (rank, change.set)
}

/// Cuts changes into batches that the kernel takes at once.
fn batches(structure: Vec<Structure>, changes: Vec<Change>) -> Vec<Batch> {
    let mut all = Vec::new();
    let mut current = Batch { before: structure, ..Batch::default() };
    let mut heavy = 0;
    for change in changes {
        let put = change.put.as_ref();
        heavy += weight(
            &change.key,
            put.map(|(data, _)| data),
            put.and_then(|(_, comment)| comment.as_deref()),
        );
        current.changes.push(change);
        if heavy > HEAVIEST {
            all.push(std::mem::take(&mut current));
            heavy = 0;
        }
    }
    if !current.is_empty() {
        all.push(current);
    }
    all
}

/// Puts structure around batches. Rules are many bytes: they get a batch of their own. A table that
/// is made anew, while packets pass the old one, takes one batch for all.
fn join(
    batches: &mut Vec<Batch>,
    (before, after): (Vec<Structure>, Vec<Structure>),
    is_rebuilt: bool,
) {
    // The first batch made the chains that are new; `before` makes them all.
    if let Some(first) = batches.first_mut() {
        first.before.clear();
    }
    if is_rebuilt {
        let changes = batches.drain(..).flat_map(|batch| batch.changes).collect();
        batches.push(Batch { before, changes, after });
        return;
    }
    batches.retain(|batch| !batch.is_empty());
    batches.insert(0, Batch { before, ..Batch::default() });
    batches.push(Batch { after, ..Batch::default() });
}
