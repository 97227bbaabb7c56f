//! What the tables hold, read from the kernel and checked: for take-over and for people.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
};

use shunt_core::plan::ServicePortKey;
use shunt_ebpf::{
    address::Address,
    tables::{
        Endpoint, Frontend4, Frontend6, FrontendKey4, FrontendKey6, FrontendKind, List, ListWord,
        ServiceName, Target,
    },
};

use super::{
    encode::sort_key,
    slot::Slot,
    sys::{Array, Hash, Kernel, Table, values_of},
    tables::{Run, decode_name},
};

/// What the tables hold.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// Frontends that programs believe and whose lists are sound.
    pub(super) frontends: Vec<(Slot, Target)>,
    /// Frontends of no use: programs do not believe them, their lists are not sound, nobody knows
    /// whose they are, or they are the canary of an agent that is gone.
    pub(super) broken: Vec<Slot>,
    /// The lists that sound frontends name.
    pub(super) lists: BTreeMap<u32, List>,
    /// Lists that say something, and that no sound frontend names.
    pub(super) stray: Vec<u32>,
    /// The names of ServicePorts by their numbers, with the code of why they are left.
    pub(super) names: BTreeMap<u32, (ServicePortKey, u8)>,
    /// Numbers whose names cannot be read, or belong to another number.
    pub(super) nameless: Vec<u32>,
    /// The addresses at which NodePorts are answered.
    pub(super) node_addresses: Vec<Address>,
    /// A number above all that were ever given to a ServicePort.
    pub(super) next_service: u32,
    /// What was found wrong, for the log.
    pub(super) complaints: Vec<String>,
}

impl Snapshot {
    /// Reads and checks the tables.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses to show them.
    pub(super) fn read(kernel: &mut impl Kernel) -> io::Result<Self> {
        let mut snapshot = Self { next_service: 1, ..Self::default() };
        let lists = read_lists(kernel)?;
        snapshot.read_names(kernel)?;
        let frontends = snapshot.read_frontends(kernel)?;
        let numbers = lists.values().map(|list| list.service());
        let highest = numbers.chain(snapshot.names.keys().copied()).max().unwrap_or(0);
        snapshot.next_service = highest + 1;
        let sound = snapshot.check_lists(kernel, &lists, &frontends)?;
        for (slot, target) in frontends {
            match sound.get(&target.list()) {
                Some(list) => {
                    snapshot.frontends.push((slot, target));
                    snapshot.lists.insert(target.list(), *list);
                }
                None => snapshot.broken.push(slot),
            }
        }
        let stray = lists
            .iter()
            .filter(|(number, list)| list.word != 0 && !snapshot.lists.contains_key(number));
        snapshot.stray = stray.map(|(number, _)| *number).collect();
        let (addresses, _) = kernel.entries(Hash::NodeAddresses)?;
        snapshot.node_addresses = values_of(&addresses).collect();
        Ok(snapshot)
    }

    /// Two numbers with one name are what a removal that was cut short and a new ServicePort of
    /// that name leave; the later one counts.
    fn read_names(&mut self, kernel: &impl Kernel) -> io::Result<()> {
        let (keys, values) = kernel.entries(Hash::Services)?;
        let mut latest: HashMap<ServicePortKey, u32> = HashMap::new();
        for (number, name) in values_of::<u32>(&keys).zip(values_of::<ServiceName>(&values)) {
            let Some(key) = decode_name(&name) else {
                self.complaints.push(format!("the name of service number {number} is unreadable"));
                self.nameless.push(number);
                continue;
            };
            self.names.insert(number, (key.clone(), name.left));
            if let Some(other) = latest.get_mut(&key) {
                let (older, newer) = ((*other).min(number), (*other).max(number));
                *other = newer;
                self.names.remove(&older);
                self.nameless.push(older);
                self.complaints.push(format!("{key} has the numbers {older} and {newer}"));
            } else {
                latest.insert(key, number);
            }
        }
        Ok(())
    }

    /// The frontends that programs would believe; the others are noted as broken.
    fn read_frontends(&mut self, kernel: &impl Kernel) -> io::Result<Vec<(Slot, Target)>> {
        let mut found = Vec::new();
        let (keys, values) = kernel.entries(Hash::Frontends4)?;
        for (key, value) in values_of::<FrontendKey4>(&keys).zip(values_of::<Frontend4>(&values)) {
            let fits = value.key == key && value.seal == key.seal(value.target);
            found.push((Slot::V4(key), value.target, fits));
        }
        let (keys, values) = kernel.entries(Hash::Frontends6)?;
        for (key, value) in values_of::<FrontendKey6>(&keys).zip(values_of::<Frontend6>(&values)) {
            let fits = value.key == key && value.seal == key.seal(value.target);
            found.push((Slot::V6(key), value.target, fits));
        }
        kernel.scan(Array::NodePorts, &mut |index, word| {
            found.push((Slot::NodePort(index as u32), Target(word as u32), word >> 32 == 0));
        })?;
        let mut believed = Vec::new();
        for (slot, target, fits) in found {
            let is_canary = target.kind() == Some(FrontendKind::Canary);
            if fits && slot.frontend(target).is_some() {
                believed.push((slot, target));
                continue;
            }
            self.broken.push(slot);
            if !is_canary {
                self.complaints.push(format!("the value of {slot:?} is not one of ours"));
            }
        }
        Ok(believed)
    }

    /// The lists that frontends name and that can be trusted: theirs is a ServicePort with a name,
    /// the run lies in the table, overlaps no other, and is sorted for the programs' search.
    fn check_lists(
        &mut self,
        kernel: &mut impl Kernel,
        lists: &BTreeMap<u32, List>,
        frontends: &[(Slot, Target)],
    ) -> io::Result<BTreeMap<u32, List>> {
        let named: BTreeSet<u32> = frontends.iter().map(|(_, target)| target.list()).collect();
        let size = kernel.size(Table::Array(Array::Endpoints));
        let is_inside = |run: &Run| run.base.checked_add(run.count).is_some_and(|end| end <= size);
        let (mut sound, mut runs) = (BTreeMap::new(), Vec::new());
        // Lists that wait for a grace period still have their entries to themselves.
        for (number, list) in lists.iter().filter(|(number, _)| !named.contains(number)) {
            if let ListWord::Run { base, count } = ListWord::decode(list.word) {
                runs.extend(Some((Run { base, count }, *number)).filter(|(run, _)| is_inside(run)));
            }
        }
        for number in named {
            let list = lists.get(&number).copied().unwrap_or_default();
            if !self.names.contains_key(&list.service()) {
                self.complaints.push(format!("list {number} belongs to nobody"));
                continue;
            }
            if let ListWord::Run { base, count } = ListWord::decode(list.word) {
                if !is_inside(&Run { base, count }) {
                    self.complaints.push(format!("list {number} names entries that do not exist"));
                    continue;
                }
                runs.push((Run { base, count }, number));
            }
            sound.insert(number, list);
        }
        for number in overlapping(&mut runs) {
            self.complaints.push(format!("list {number} overlaps another"));
            sound.remove(&number);
        }
        runs.retain(|(_, number)| sound.contains_key(number));
        for (run, number) in runs {
            let endpoints = kernel.read_run(run.base, run.count)?;
            let is_sorted = endpoints.is_sorted_by(|a, b| sort_key(a) < sort_key(b));
            if !is_sorted || !endpoints.iter().all(is_whole) {
                self.complaints.push(format!("list {number} is not one of ours"));
                sound.remove(&number);
            }
        }
        Ok(sound)
    }
}

fn is_whole(endpoint: &Endpoint) -> bool {
    *endpoint == Endpoint::new(endpoint.address, endpoint.port)
}

fn read_lists(kernel: &impl Kernel) -> io::Result<BTreeMap<u32, List>> {
    let mut lists: BTreeMap<u32, List> = BTreeMap::new();
    kernel.scan(Array::Lists, &mut |index, word| {
        let list = lists.entry((index / 2) as u32).or_default();
        if index % 2 == 0 {
            list.word = word;
        } else {
            list.owner = word;
        }
    })?;
    Ok(lists)
}

/// The numbers of lists whose runs overlap another's. Of two, nobody knows whose the entries are.
fn overlapping(runs: &mut [(Run, u32)]) -> BTreeSet<u32> {
    runs.sort_unstable_by_key(|(run, _)| (run.base, run.count));
    let mut found = BTreeSet::new();
    let mut longest: Option<(u32, u32)> = None;
    for (run, number) in runs {
        let end = run.base + run.count;
        match longest {
            Some((reach, other)) if run.base < reach => {
                found.extend([other, *number]);
                if end > reach {
                    longest = Some((end, *number));
                }
            }
            _ => longest = Some((end, *number)),
        }
    }
    found
}
