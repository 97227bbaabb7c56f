//! Which frontends the kernel has, and how they are written.

use std::{
    collections::{HashMap, hash_map::Entry},
    io,
};

use foldhash::quality::RandomState;
use shunt_ebpf::tables::{Frontend4, Frontend6, Target};

use super::{
    super::{
        slot::Slot,
        sys::{Hash, Kernel, Word},
    },
    batch::Batch,
};

/// The frontends in the kernel, whoever they belong to.
#[derive(Default)]
pub(super) struct Frontends {
    entries: HashMap<Slot, Named, RandomState>,
    used: [u32; 3],
}

/// What the kernel has in a slot, and whose it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named {
    /// What the kernel has.
    pub(super) target: Target,
    /// The number of the ServicePort that the plan gave the slot to. While a slot changes hands
    /// the kernel still has the former owner's list.
    pub(super) service: u32,
}

impl Frontends {
    /// What the kernel has in a slot.
    pub(super) fn get(&self, slot: Slot) -> Option<Named> {
        self.entries.get(&slot).copied()
    }

    /// All slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, Named)> {
        self.entries.iter().map(|(slot, named)| (*slot, *named))
    }

    /// Gives a slot that the kernel has to another ServicePort.
    pub(super) fn claim(&mut self, slot: Slot, service: u32) {
        if let Some(named) = self.entries.get_mut(&slot) {
            named.service = service;
        }
    }

    /// Notes what the kernel now has in a slot; returns what it had.
    pub(super) fn note(&mut self, slot: Slot, named: Option<Named>) -> Option<Named> {
        let used = self.used.get_mut(table(slot));
        match (self.entries.entry(slot), named) {
            (Entry::Occupied(mut entry), Some(named)) => Some(entry.insert(named)),
            (Entry::Occupied(entry), None) => {
                used.into_iter().for_each(|used| *used -= 1);
                Some(entry.remove())
            }
            (Entry::Vacant(entry), Some(named)) => {
                used.into_iter().for_each(|used| *used += 1);
                entry.insert(named);
                None
            }
            (Entry::Vacant(_), None) => None,
        }
    }

    /// Makes room for so many more.
    pub(super) fn reserve(&mut self, more: usize) {
        self.entries.reserve(more);
    }

    /// Slots in use: of `FRONTENDS4`, of `FRONTENDS6`, of `NODEPORTS`.
    pub(super) const fn used(&self) -> [u32; 3] {
        self.used
    }
}

const fn table(slot: Slot) -> usize {
    match slot {
        Slot::V4(_) => 0,
        Slot::V6(_) => 1,
        Slot::NodePort(_) => 2,
    }
}

/// The map that a slot lies in.
pub(super) const fn table_name(slot: Slot) -> &'static str {
    match slot {
        Slot::V4(_) => Hash::Frontends4.name(),
        Slot::V6(_) => Hash::Frontends6.name(),
        Slot::NodePort(_) => "NODEPORTS",
    }
}

/// Changes of frontends that are written together.
pub(super) struct Writes<T> {
    v4: Batch<(Slot, T)>,
    v6: Batch<(Slot, T)>,
    node_ports: Vec<(u32, Target, T)>,
}

impl<T> Writes<T> {
    /// Nothing yet.
    pub(super) const fn new() -> Self {
        Self {
            v4: Batch::new(Hash::Frontends4),
            v6: Batch::new(Hash::Frontends6),
            node_ports: Vec::new(),
        }
    }

    /// Points a slot at a list.
    pub(super) fn put(&mut self, slot: Slot, target: Target, tag: T) {
        match slot {
            Slot::V4(key) => {
                let value = Frontend4 { key, target, seal: key.seal(target) };
                self.v4.put(key, value, (slot, tag));
            }
            Slot::V6(key) => {
                let value = Frontend6 { key, target, seal: key.seal(target) };
                self.v6.put(key, value, (slot, tag));
            }
            Slot::NodePort(index) => self.node_ports.push((index, target, tag)),
        }
    }

    /// Empties a slot.
    pub(super) fn drop(&mut self, slot: Slot, tag: T) {
        match slot {
            Slot::V4(key) => self.v4.drop(key, (slot, tag)),
            Slot::V6(key) => self.v6.drop(key, (slot, tag)),
            Slot::NodePort(index) => self.node_ports.push((index, Target::default(), tag)),
        }
    }

    /// Writes what was put, and says of each slot how it went.
    pub(super) fn update(
        self,
        kernel: &mut impl Kernel,
        epoch: &mut Epoch,
        mut each: impl FnMut(Slot, T, Result<(), io::Error>),
    ) {
        for batch in [self.v4, self.v6].into_iter().filter(|batch| !batch.is_empty()) {
            let each = |(slot, tag), result| each(slot, tag, result);
            match epoch.begin(kernel) {
                Ok(()) => batch.update(kernel, each),
                Err(cause) => batch.fail(&cause, each),
            }
            epoch.end(kernel);
        }
        store_node_ports(self.node_ports, kernel, each);
    }

    /// Deletes what was dropped, and says of each slot how it went.
    pub(super) fn delete(
        self,
        kernel: &mut impl Kernel,
        epoch: &mut Epoch,
        mut each: impl FnMut(Slot, T, Result<(), io::Error>),
    ) {
        for batch in [self.v4, self.v6].into_iter().filter(|batch| !batch.is_empty()) {
            let each = |(slot, tag), result| each(slot, tag, result);
            match epoch.begin(kernel) {
                Ok(()) => batch.delete(kernel, each),
                Err(cause) => batch.fail(&cause, each),
            }
            epoch.end(kernel);
        }
        store_node_ports(self.node_ports, kernel, each);
    }
}

fn store_node_ports<T>(
    node_ports: Vec<(u32, Target, T)>,
    kernel: &mut impl Kernel,
    mut each: impl FnMut(Slot, T, Result<(), io::Error>),
) {
    for (index, target, tag) in node_ports {
        let result = kernel.store(Word::node_port(index), u64::from(target.0));
        each(Slot::NodePort(index), tag, result);
    }
}

/// The word that tells programs not to trust a miss: odd while a hash map is being written.
pub(super) struct Epoch(u64);

impl Epoch {
    /// Goes on from what the kernel has.
    pub(super) const fn new(found: u64) -> Self {
        Self(found)
    }

    /// Makes it odd.
    pub(super) fn begin(&mut self, kernel: &mut impl Kernel) -> Result<(), io::Error> {
        let odd = self.0.wrapping_add(1) | 1;
        kernel.store(Word::EPOCH, odd)?;
        self.0 = odd;
        Ok(())
    }

    /// Makes it even. Where that fails it stays odd, which costs programs a second look at misses
    /// and nothing else, until [`Self::settle`] succeeds.
    pub(super) fn end(&mut self, kernel: &mut impl Kernel) {
        let _ = self.settle(kernel);
    }

    /// Makes it even if it is not.
    pub(super) fn settle(&mut self, kernel: &mut impl Kernel) -> Result<(), io::Error> {
        if self.0.is_multiple_of(2) {
            return Ok(());
        }
        let even = self.0.wrapping_add(1);
        kernel.store(Word::EPOCH, even)?;
        self.0 = even;
        Ok(())
    }
}
