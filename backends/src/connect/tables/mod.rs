//! What the kernel's tables hold, and how a Delta gets into them.
//!
//! A frontend names a list by number, a list names a run of endpoints. Each file has one of these,
//! [`apply`] brings them together, [`mod@write`] is the only place that changes a list.

mod adopt;
mod apply;
mod audit;
mod batch;
mod canary;
mod frontends;
mod lists;
mod node;
mod runs;
mod services;
mod write;

#[cfg(test)]
pub(super) mod tests;

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::Arc,
};

use foldhash::quality::RandomState;
use indexmap::IndexMap;
use shunt_core::{
    backend::{BackendError, TableUse},
    plan::{ServicePort, ServicePortKey},
};
use shunt_ebpf::{address::Address, tables::ListWord};

pub(super) use self::{
    audit::Audit,
    runs::Run,
    services::{decode_name, left_words},
};
use self::{
    frontends::{Epoch, Frontends},
    lists::Lists,
    runs::Runs,
};
use super::{
    reclaim::{Garbage, Grace},
    slot::Slot,
    sys::{Array, Hash, Kernel, Table},
};

/// What the kernel holds, as far as the agent knows, and the way to change it.
///
/// # Invariants
///
/// - A run that a list names, or named since the last grace period, is not written.
/// - A list that a frontend names says something, and is that frontend's ServicePort's.
/// - A list number, or a run, is given out again only after a grace period.
/// - A service number is never given out again.
pub(super) struct Tables<K> {
    kernel: K,
    grace: Box<dyn Grace>,
    epoch: Epoch,
    frontends: Frontends,
    lists: Lists,
    runs: Runs,
    next_service: u32,
    /// In no order, but a job finds its record again by the place.
    records: Records,
    /// How many of the records are named: no apply may count them all.
    names: usize,
    /// ServicePorts that are gone except for their names: see [`Tables::remove_names`].
    lingering: HashSet<ServicePortKey>,
    node_addresses: HashSet<Address>,
    /// ServicePorts that are left because a table is full; they get another chance when something
    /// was freed.
    full: HashMap<ServicePortKey, Arc<ServicePort>>,
    freed: bool,
    garbage: Garbage,
    /// Lists that some frontend named and, as far as is known, none names any more.
    orphans: Vec<u32>,
    can_refuse: bool,
}

type Records = IndexMap<ServicePortKey, Record, RandomState>;

/// What the kernel has of one ServicePort.
#[derive(Clone, Debug)]
struct Record {
    /// Its number.
    service: u32,
    /// The code with which its name is in `SERVICES`, `None` if it is not.
    named: Option<u8>,
    /// Every slot that may be its.
    slots: Box<[Slot]>,
}

/// Why something could not be brought into the kernel.
#[derive(Debug)]
enum Failure {
    /// The table has no room.
    Full(&'static str),
    /// The name is too long for `SERVICES`.
    Unnameable,
    /// The kernel refused.
    Kernel(&'static str, io::Error),
}

impl Failure {
    fn writing(table: &'static str, cause: io::Error) -> Self {
        if cause.raw_os_error() == Some(libc::E2BIG) {
            Self::Full(table)
        } else {
            Self::Kernel(table, cause)
        }
    }

    fn into_error(self) -> BackendError {
        match self {
            Self::Full(table) => {
                BackendError::new(format!("write table {table}"), "the table is full")
            }
            Self::Unnameable => BackendError::new("name the service", "its name is too long"),
            Self::Kernel(table, cause) => BackendError::new(format!("write table {table}"), cause),
        }
    }
}

impl<K: Kernel> Tables<K> {
    /// The kernel behind the tables.
    pub(super) const fn kernel(&mut self) -> &mut K {
        &mut self.kernel
    }

    /// How full each table is.
    pub(super) fn usage(&self) -> Vec<TableUse> {
        let [frontends4, frontends6, node_ports] = self.frontends.used();
        [
            (Table::Hash(Hash::Frontends4), u64::from(frontends4)),
            (Table::Hash(Hash::Frontends6), u64::from(frontends6)),
            (Table::Array(Array::NodePorts), u64::from(node_ports)),
            (Table::Hash(Hash::NodeAddresses), self.node_addresses.len() as u64),
            (Table::Array(Array::Lists), u64::from(self.lists.used())),
            (Table::Array(Array::Endpoints), u64::from(self.runs.used())),
            (Table::Hash(Hash::Services), self.names as u64),
        ]
        .into_iter()
        .map(|(table, used)| TableUse {
            name: table.name(),
            used,
            size: u64::from(self.kernel.size(table)),
        })
        .collect()
    }

    /// Takes back what has become free; with `wait`, everything that is on its way.
    ///
    /// A list becomes free in two grace periods: after the first no program can find its number,
    /// and it is emptied; after the second no program can be reading its entries.
    fn collect(&mut self, wait: bool) {
        let free = self.grace.collect(wait);
        self.freed |= !free.is_empty();
        for run in free.runs {
            self.runs.free(run);
        }
        for list in free.lists {
            match self.publish(list, ListWord::Left) {
                Ok(()) => self.lists.free(list),
                Err(_) => self.orphans.push(list),
            }
        }
    }

    /// Frees all that can be freed, waiting for it.
    fn settle(&mut self) {
        for _ in 0..2 {
            self.sweep();
            self.collect(true);
        }
    }
}
