//! The objects of one kind, each with the sources that bring it.

use std::{
    hash::{BuildHasher as _, Hash},
    mem,
    sync::Arc,
};

use foldhash::quality::RandomState;
use hashbrown::{HashTable, hash_table};

use super::{EndpointSlice, HostAddress, Node, ObjectName, Service, ServiceCidr};

/// A source, as the [`Cluster`](super::Cluster) numbers them, in one pass over all that it has.
///
/// A reset begins a new pass; at its end, what was last named in an earlier pass is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pass {
    pub(super) source: u32,
    pub(super) number: u32,
}

/// What carries its own key, so that no table has to keep it once more.
pub(super) trait Keyed {
    type Key: Eq + Hash + Clone;

    fn key(&self) -> &Self::Key;
}

impl Keyed for Box<Service> {
    type Key = ObjectName;

    fn key(&self) -> &ObjectName {
        &self.name
    }
}

impl Keyed for Arc<EndpointSlice> {
    type Key = ObjectName;

    fn key(&self) -> &ObjectName {
        &self.name
    }
}

impl Keyed for Node {
    type Key = Arc<str>;

    fn key(&self) -> &Arc<str> {
        &self.name
    }
}

impl Keyed for ServiceCidr {
    type Key = Arc<str>;

    fn key(&self) -> &Arc<str> {
        &self.name
    }
}

impl Keyed for HostAddress {
    type Key = Self;

    fn key(&self) -> &Self {
        self
    }
}

/// The objects of one kind. One source owns what is visible of an object; the same object from
/// other sources waits in the order in which it came.
///
/// The table holds little more than a pointer an object: its empty places cost as much as its full
/// ones, and it has between one and seven empty ones for each seven full.
#[derive(Debug)]
pub(super) struct Store<V> {
    entries: HashTable<Entry<V>>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Entry<V> {
    owner: Claim<V>,
    /// Nearly always empty, and then no allocation.
    waiting: Box<[Claim<V>]>,
}

#[derive(Debug)]
struct Claim<V> {
    pass: Pass,
    object: V,
}

/// What became of an upsert.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Upserted<V> {
    /// The same object was there.
    Unchanged,
    /// It is visible now, instead of this one.
    Visible(Option<V>),
    /// Another source owns the object.
    Waits {
        /// The source that owns it.
        owner: u32,
        /// Whether it did not wait before.
        fresh: bool,
    },
}

impl<V> Default for Store<V> {
    fn default() -> Self {
        Self { entries: HashTable::new(), hasher: RandomState::default() }
    }
}

impl<V: Keyed + PartialEq> Store<V> {
    pub(super) fn get(&self, key: &V::Key) -> Option<&V> {
        let hash = self.hasher.hash_one(key);
        let entry = self.entries.find(hash, |entry| entry.owner.object.key() == key);
        entry.map(|entry| &entry.owner.object)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &V> {
        self.entries.iter().map(|entry| &entry.owner.object)
    }

    pub(super) fn upsert(&mut self, pass: Pass, object: V) -> Upserted<V> {
        let entry = match self.entry(object.key()) {
            hash_table::Entry::Vacant(vacant) => {
                vacant.insert(Entry { owner: Claim { pass, object }, waiting: Box::default() });
                return Upserted::Visible(None);
            }
            hash_table::Entry::Occupied(occupied) => occupied.into_mut(),
        };
        if entry.owner.pass.source == pass.source {
            entry.owner.pass = pass;
            if entry.owner.object == object {
                return Upserted::Unchanged;
            }
            return Upserted::Visible(Some(mem::replace(&mut entry.owner.object, object)));
        }
        let owner = entry.owner.pass.source;
        let waiting = entry.waiting.iter_mut().find(|claim| claim.pass.source == pass.source);
        let fresh = waiting.is_none();
        match waiting {
            Some(claim) => *claim = Claim { pass, object },
            None => {
                let mut waiting = mem::take(&mut entry.waiting).into_vec();
                waiting.push(Claim { pass, object });
                entry.waiting = waiting.into();
            }
        }
        Upserted::Waits { owner, fresh }
    }

    /// Takes away what `source` brought under `key`; returns it if it was visible. The next in
    /// line is then visible.
    pub(super) fn remove(&mut self, source: u32, key: &V::Key) -> Option<V> {
        let hash_table::Entry::Occupied(mut occupied) = self.entry(key) else { return None };
        let entry = occupied.get_mut();
        let mut waiting = mem::take(&mut entry.waiting).into_vec();
        if entry.owner.pass.source != source {
            waiting.retain(|claim| claim.pass.source != source);
            entry.waiting = waiting.into();
            return None;
        }
        if waiting.is_empty() {
            return Some(occupied.remove().0.owner.object);
        }
        let next = waiting.remove(0);
        entry.waiting = waiting.into();
        Some(mem::replace(&mut entry.owner, next).object)
    }

    /// What the source of `pass` brought before this pass and not again in it.
    pub(super) fn stale(&self, pass: Pass) -> Vec<V::Key> {
        let is_stale =
            |claim: &Claim<V>| claim.pass.source == pass.source && claim.pass.number < pass.number;
        let stale =
            |entry: &&Entry<V>| is_stale(&entry.owner) || entry.waiting.iter().any(is_stale);
        let stale = self.entries.iter().filter(stale);
        stale.map(|entry| entry.owner.object.key().clone()).collect()
    }

    fn entry(&mut self, key: &V::Key) -> hash_table::Entry<'_, Entry<V>> {
        let hasher = &self.hasher;
        self.entries.entry(
            hasher.hash_one(key),
            |entry| entry.owner.object.key() == key,
            |entry| hasher.hash_one(entry.owner.object.key()),
        )
    }
}
