//! The objects of one kind, each with the sources that bring it.

use std::{
    collections::HashMap,
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
pub(super) struct Store<V: Keyed> {
    owners: HashTable<Claim<V>>,
    /// Those that wait, in order. What no other source brings is not here, which is nearly all.
    waiting: HashMap<V::Key, Vec<Claim<V>>, RandomState>,
    hasher: RandomState,
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

impl<V: Keyed> Default for Store<V> {
    fn default() -> Self {
        let (owners, waiting) = (HashTable::new(), HashMap::default());
        Self { owners, waiting, hasher: RandomState::default() }
    }
}

impl<V: Keyed + PartialEq> Store<V> {
    pub(super) fn get(&self, key: &V::Key) -> Option<&V> {
        let hash = self.hasher.hash_one(key);
        let owner = self.owners.find(hash, |owner| owner.object.key() == key);
        owner.map(|owner| &owner.object)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &V> {
        self.owners.iter().map(|owner| &owner.object)
    }

    pub(super) fn upsert(&mut self, pass: Pass, object: V) -> Upserted<V> {
        let owner = match entry(&mut self.owners, &self.hasher, object.key()) {
            hash_table::Entry::Vacant(vacant) => {
                vacant.insert(Claim { pass, object });
                return Upserted::Visible(None);
            }
            hash_table::Entry::Occupied(occupied) => occupied.into_mut(),
        };
        if owner.pass.source == pass.source {
            owner.pass = pass;
            if owner.object == object {
                return Upserted::Unchanged;
            }
            return Upserted::Visible(Some(mem::replace(&mut owner.object, object)));
        }
        let owner = owner.pass.source;
        let waiting = self.waiting.entry(object.key().clone()).or_default();
        let known = waiting.iter_mut().find(|claim| claim.pass.source == pass.source);
        let fresh = known.is_none();
        match known {
            Some(claim) => *claim = Claim { pass, object },
            None => waiting.push(Claim { pass, object }),
        }
        Upserted::Waits { owner, fresh }
    }

    /// Takes away what `source` brought under `key`; returns it if it was visible. The next in
    /// line is then visible.
    pub(super) fn remove(&mut self, source: u32, key: &V::Key) -> Option<V> {
        let owner = entry(&mut self.owners, &self.hasher, key);
        let hash_table::Entry::Occupied(mut owner) = owner else { return None };
        if owner.get().pass.source != source {
            let waiting = self.waiting.get_mut(key)?;
            waiting.retain(|claim| claim.pass.source != source);
            if waiting.is_empty() {
                self.waiting.remove(key);
            }
            return None;
        }
        match take_first(&mut self.waiting, key) {
            Some(next) => Some(mem::replace(owner.get_mut(), next).object),
            None => Some(owner.remove().0.object),
        }
    }

    /// What the source of `pass` brought before this pass and not again in it.
    pub(super) fn stale(&self, pass: Pass) -> Vec<V::Key> {
        let is_stale =
            |claim: &Claim<V>| claim.pass.source == pass.source && claim.pass.number < pass.number;
        let owners = self.owners.iter().filter(|owner| is_stale(owner));
        let waiting = self.waiting.iter().filter(|(_, waiting)| waiting.iter().any(is_stale));
        let waiting = waiting.map(|(key, _)| key.clone());
        owners.map(|owner| owner.object.key().clone()).chain(waiting).collect()
    }
}

fn entry<'a, V: Keyed>(
    owners: &'a mut HashTable<Claim<V>>,
    hasher: &RandomState,
    key: &V::Key,
) -> hash_table::Entry<'a, Claim<V>> {
    owners.entry(
        hasher.hash_one(key),
        |owner| owner.object.key() == key,
        |owner| hasher.hash_one(owner.object.key()),
    )
}

/// Takes the first of those that wait for a key.
fn take_first<V: Keyed>(
    waiting: &mut HashMap<V::Key, Vec<Claim<V>>, RandomState>,
    key: &V::Key,
) -> Option<Claim<V>> {
    let of_key = waiting.get_mut(key)?;
    // What is here is never empty.
    let first = of_key.remove(0);
    if of_key.is_empty() {
        waiting.remove(key);
    }
    Some(first)
}
