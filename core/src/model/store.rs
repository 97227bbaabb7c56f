//! The objects of one kind, each with the sources that bring it.

use std::{
    collections::{HashMap, hash_map},
    hash::Hash,
    mem,
};

use foldhash::quality::RandomState;

/// A source, as the [`Cluster`](super::Cluster) numbers them, in one pass over all that it has.
///
/// A reset begins a new pass; at its end, what was last named in an earlier pass is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pass {
    pub(super) source: usize,
    pub(super) number: u64,
}

/// The objects of one kind. One source owns what is visible of an object; the same object from
/// other sources waits in the order in which it came.
#[derive(Debug)]
pub(super) struct Store<K, V> {
    entries: HashMap<K, Entry<V>, RandomState>,
}

#[derive(Debug)]
struct Entry<V> {
    owner: Claim<V>,
    waiting: Vec<Claim<V>>,
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
        owner: usize,
        /// Whether it did not wait before.
        fresh: bool,
    },
}

impl<K, V> Default for Store<K, V> {
    fn default() -> Self {
        Self { entries: HashMap::default() }
    }
}

impl<K: Eq + Hash + Clone, V: PartialEq> Store<K, V> {
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|entry| &entry.owner.object)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, entry)| (key, &entry.owner.object))
    }

    pub(super) fn upsert(&mut self, pass: Pass, key: K, object: V) -> Upserted<V> {
        let entry = match self.entries.entry(key) {
            hash_map::Entry::Vacant(vacant) => {
                vacant.insert(Entry { owner: Claim { pass, object }, waiting: Vec::new() });
                return Upserted::Visible(None);
            }
            hash_map::Entry::Occupied(occupied) => occupied.into_mut(),
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
            None => entry.waiting.push(Claim { pass, object }),
        }
        Upserted::Waits { owner, fresh }
    }

    /// Takes away what `source` brought under `key`; returns it if it was visible. The next in
    /// line is then visible.
    pub(super) fn remove(&mut self, source: usize, key: &K) -> Option<V> {
        let entry = self.entries.get_mut(key)?;
        if entry.owner.pass.source != source {
            entry.waiting.retain(|claim| claim.pass.source != source);
            return None;
        }
        if entry.waiting.is_empty() {
            return self.entries.remove(key).map(|entry| entry.owner.object);
        }
        let next = entry.waiting.remove(0);
        Some(mem::replace(&mut entry.owner, next).object)
    }

    /// What the source of `pass` brought before this pass and not again in it.
    pub(super) fn stale(&self, pass: Pass) -> Vec<K> {
        let is_stale =
            |claim: &Claim<V>| claim.pass.source == pass.source && claim.pass.number < pass.number;
        let stale = |entry: &Entry<V>| is_stale(&entry.owner) || entry.waiting.iter().any(is_stale);
        self.entries.iter().filter(|(_, entry)| stale(entry)).map(|(key, _)| key.clone()).collect()
    }
}
