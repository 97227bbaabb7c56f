//! A kernel in memory, which refuses what the real one refuses, and more if asked to.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use shunt_core::model::Family;

use super::{
    data::{Data, ElementKey},
    dump::{Found, FoundElement, FoundRules},
    netlink::{Batch, Change, Kernel, KernelError, Structure},
    ruleset::{Chain, SetName},
};

/// A table in memory.
#[derive(Clone, Debug, Default)]
pub(super) struct FakeTable {
    pub(super) elements: HashMap<ElementKey, FoundElement>,
    pub(super) chains: BTreeMap<Chain, usize>,
    pub(super) kinds: HashSet<Chain>,
    pub(super) sets: HashSet<SetName>,
    pub(super) misshapen: Vec<String>,
    /// Chains whose rules others changed, but not how many there are.
    pub(super) edited: HashSet<Chain>,
}

impl FakeTable {
    fn rules(&self) -> FoundRules {
        let rules = |chain: &Chain, count| vec![vec![u8::from(self.edited.contains(chain))]; count];
        let chains = self.chains.iter();
        chains.map(|(chain, count)| (chain.to_string(), rules(chain, *count))).collect()
    }
}

/// A kernel in memory.
#[derive(Default)]
pub(super) struct Fake {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tables: HashMap<Family, FakeTable>,
    /// Every state that a packet could see since the last grace period.
    seen: Vec<FakeTable>,
    /// The state of a generator of random numbers, 0 for no faults.
    faults: u64,
    injected: usize,
    refused: Vec<String>,
    /// How many elements the next read does not see.
    unseen: usize,
}

impl Fake {
    /// One that refuses a fifth of the transactions.
    pub(super) fn faulty(seed: u64) -> Self {
        let fake = Self::default();
        fake.with(|state| state.faults = seed | 1);
        fake
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many transactions were refused for no reason.
    pub(super) fn injected(&self) -> usize {
        self.with(|state| state.injected)
    }

    /// What was refused for a reason.
    pub(super) fn refused(&self) -> Vec<String> {
        self.with(|state| state.refused.clone())
    }

    /// The table of IPv4.
    pub(super) fn table(&self) -> Option<FakeTable> {
        self.with(|state| state.tables.get(&Family::V4).cloned())
    }

    /// Has someone else change the table of IPv4.
    pub(super) fn tamper(&self, change: impl FnOnce(&mut FakeTable)) {
        self.with(|state| change(state.tables.entry(Family::V4).or_default()));
    }

    /// Has the next read miss so many elements, as one may while a hash grows.
    pub(super) fn overlook(&self, elements: usize) {
        self.with(|state| state.unseen = elements);
    }

    /// Deletes the table of IPv4.
    pub(super) fn lose(&self) {
        self.with(|state| state.tables.remove(&Family::V4));
    }

    /// Every state of the table of IPv4 that a packet could see since the last call.
    pub(super) fn seen(&self) -> Vec<FakeTable> {
        self.with(|state| std::mem::take(&mut state.seen))
    }
}

impl State {
    fn is_faulty(&mut self) -> bool {
        if self.faults == 0 {
            return false;
        }
        self.faults ^= self.faults << 13;
        self.faults ^= self.faults >> 7;
        self.faults ^= self.faults << 17;
        let is_faulty = self.faults.is_multiple_of(5);
        self.injected += usize::from(is_faulty);
        is_faulty
    }
}

#[async_trait]
impl Kernel for Fake {
    async fn commit(&self, family: Family, batch: &Batch) -> Result<(), KernelError> {
        self.with(|state| {
            if state.is_faulty() {
                return Err(KernelError::Injected(String::new()));
            }
            let before = state.tables.get(&family).cloned();
            match after(before, batch) {
                Ok(Some(table)) => {
                    if family == Family::V4 {
                        state.seen.push(table.clone());
                    }
                    state.tables.insert(family, table);
                    Ok(())
                }
                Ok(None) => {
                    state.tables.remove(&family);
                    Ok(())
                }
                Err(why) => {
                    state.refused.push(why.clone());
                    Err(KernelError::Injected(why))
                }
            }
        })
    }

    async fn scan(
        &self,
        family: Family,
        each: &mut (dyn FnMut(ElementKey, FoundElement) + Send),
    ) -> Result<Option<Found>, KernelError> {
        self.with(|state| {
            let Some(table) = state.tables.get(&family) else { return Ok(None) };
            let mut found = Found::default();
            let seen = table.elements.iter().skip(std::mem::take(&mut state.unseen));
            seen.for_each(|(key, element)| each(key.clone(), element.clone()));
            found.chains = table.chains.keys().copied().collect();
            found.sets = table.sets.iter().copied().collect();
            found.misshapen.clone_from(&table.misshapen);
            for chain in &table.kinds {
                found.kinds.push((SetName::Kinds, *chain));
                found.kinds.push((SetName::ListKinds, *chain));
                found.kinds.push((SetName::AnyKind, *chain));
            }
            found.rules = table.rules();
            Ok(Some(found))
        })
    }

    async fn remembered(&self, _family: Family) -> Result<u64, KernelError> {
        Ok(0)
    }

    async fn rules(&self, family: Family) -> Result<FoundRules, KernelError> {
        Ok(self.with(|state| state.tables.get(&family).map(FakeTable::rules)).unwrap_or_default())
    }
}

/// The table after a batch, or why the kernel refuses it.
fn after(table: Option<FakeTable>, batch: &Batch) -> Result<Option<FakeTable>, String> {
    let mut table = table;
    for what in &batch.before {
        restructure(&mut table, what)?;
    }
    for change in &batch.changes {
        let there = table.as_mut().ok_or("no table")?;
        element(there, change)?;
    }
    for what in &batch.after {
        restructure(&mut table, what)?;
    }
    Ok(table)
}

fn restructure(table: &mut Option<FakeTable>, what: &Structure) -> Result<(), String> {
    match what {
        Structure::AddTable if table.is_none() => *table = Some(FakeTable::default()),
        Structure::AddTable => return Err("the table exists".to_owned()),
        Structure::DeleteTable => *table = None,
        _ => return inside(table.as_mut().ok_or("no table")?, what),
    }
    Ok(())
}

fn inside(table: &mut FakeTable, what: &Structure) -> Result<(), String> {
    let done = match what {
        Structure::AddSet(set) => table.sets.insert(*set),
        Structure::AddChain(chain) => table.chains.insert(*chain, 0).is_none(),
        Structure::Rules(chain, bodies) => {
            table.edited.remove(chain);
            table.chains.get_mut(chain).map(|rules| *rules = bodies.len()).is_some()
        }
        Structure::AddKind(chain) => table.kinds.insert(*chain),
        Structure::DeleteKind(chain) => table.kinds.remove(chain),
        Structure::DeleteChain(chain) => {
            !table.kinds.contains(chain) && table.chains.remove(chain).is_some()
        }
        Structure::AddTable | Structure::DeleteTable => true,
    };
    done.then_some(()).ok_or_else(|| format!("{what:?}"))
}

fn element(table: &mut FakeTable, change: &Change) -> Result<(), String> {
    if !table.sets.contains(&change.set) {
        return Err(format!("no set {}", change.set.name()));
    }
    let key = (change.set, change.key.clone());
    if change.remove && table.elements.remove(&key).is_none() {
        return Err(format!("not there: {change:?}"));
    }
    let Some((data, comment)) = &change.put else { return Ok(()) };
    if let Data::Goto(chain) = data
        && chain.kind().is_some()
        && !table.kinds.contains(chain)
    {
        return Err(format!("no chain: {change:?}"));
    }
    let element = FoundElement { data: data.clone(), comment: comment.clone() };
    match table.elements.insert(key, element) {
        None => Ok(()),
        Some(_) => Err(format!("there already: {change:?}")),
    }
}
