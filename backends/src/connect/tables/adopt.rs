//! Taking over what an earlier run left.

use std::{
    collections::{HashMap, HashSet},
    io,
};

use indexmap::IndexMap;
use shunt_ebpf::tables::Target;

use super::{
    super::{
        reclaim::{Garbage, Grace},
        slot::Slot,
        snapshot::Snapshot,
        sys::{Array, Hash, Kernel, Table, Word},
    },
    Record, Tables,
    batch::Batch,
    frontends::{Epoch, Frontends, Named, Writes},
    lists::Lists,
    runs::Runs,
};

impl<K: Kernel> Tables<K> {
    /// Goes on from what the tables hold. What is sound keeps serving; what is not is taken out,
    /// and the next full Delta builds it anew.
    ///
    /// # Errors
    ///
    /// Fails if the tables cannot be read, or what is broken cannot be taken out.
    pub(in super::super) fn adopt(
        mut kernel: K,
        mut grace: Box<dyn Grace>,
        can_refuse: bool,
    ) -> io::Result<Self> {
        let mut epoch = Epoch::new(kernel.load(Word::EPOCH)?);
        epoch.settle(&mut kernel)?;
        let found = Snapshot::read(&mut kernel)?;
        for complaint in &found.complaints {
            tracing::warn!(complaint, "taken over with a fault, which is being mended");
        }
        // A program may have found a list through a frontend that the earlier run moved just before
        // it ended, and may still be reading the entries that this list names.
        grace.retire(Garbage::default());
        grace.collect(true);
        remove_broken(&mut kernel, &mut epoch, &found)?;

        let lists_size = kernel.size(Table::Array(Array::Lists));
        let endpoints_size = kernel.size(Table::Array(Array::Endpoints));
        let mut tables = Self {
            kernel,
            grace,
            epoch,
            frontends: Frontends::default(),
            lists: Lists::adopted(lists_size, &found.lists),
            runs: Runs::new(endpoints_size),
            next_service: found.next_service,
            records: IndexMap::default(),
            names: 0,
            lingering: HashSet::new(),
            node_addresses: found.node_addresses.iter().copied().collect::<HashSet<_>>(),
            full: HashMap::new(),
            freed: false,
            garbage: Garbage::default(),
            orphans: Vec::new(),
            can_refuse,
        };
        for number in found.lists.keys() {
            if let Some(run) = tables.lists.run(*number) {
                tables.runs.reserve(run);
            }
        }
        tables.adopt_services(&found);
        // Or through one that has been taken out just now.
        tables.grace.retire(Garbage::default());
        tables.collect(true);
        Ok(tables)
    }

    fn adopt_services(&mut self, found: &Snapshot) {
        let mut slots: HashMap<u32, Vec<Slot>> = HashMap::new();
        for (slot, target) in &found.frontends {
            let service = self.lists.get(target.list()).service();
            self.note(*slot, Some(Named { target: *target, service }));
            slots.entry(service).or_default().push(*slot);
        }
        for (service, (key, left)) in &found.names {
            let slots = slots.remove(service).unwrap_or_default().into();
            let record = Record { service: *service, named: Some(*left), slots };
            self.records.insert(key.clone(), record);
        }
        self.names = found.names.len();
    }
}

/// Takes out what no program believes or should: frontends first, then what they named.
fn remove_broken(kernel: &mut impl Kernel, epoch: &mut Epoch, found: &Snapshot) -> io::Result<()> {
    let mut first = None;
    let mut writes = Writes::new();
    for slot in &found.broken {
        writes.drop(*slot, Target::default());
    }
    writes.delete(kernel, epoch, |_, _, result| first = first.take().or_else(|| result.err()));
    for list in &found.stray {
        let result = kernel.store(Word::list(*list), 0);
        first = first.take().or_else(|| result.err());
    }
    let mut names = Batch::new(Hash::Services);
    for number in &found.nameless {
        names.drop(*number, ());
    }
    names.delete(kernel, |(), result| first = first.take().or_else(|| result.err()));
    first.map_or(Ok(()), Err)
}
