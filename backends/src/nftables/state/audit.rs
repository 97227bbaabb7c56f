//! Whether the kernel still has what is desired: pure.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
};

use super::{
    super::{
        data::{Data, ElementKey},
        dump::{Found, FoundRules},
        ruleset::{Chain, Hook, SetName, rules},
    },
    Table,
};

/// The elements that were found, as fingerprints: all of them beside all that are desired would be
/// several times what is kept of a table. That something else has the same is once in 2^64.
#[derive(Debug, Default)]
pub(in super::super) struct Prints {
    hasher: RandomState,
    /// The data of each key.
    elements: HashMap<u64, u64>,
    counts: HashMap<SetName, usize>,
}

/// The elements of one set.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    /// There, and something there is desired.
    present: usize,
    /// Of these, those that say something else.
    wrong: usize,
    missing: usize,
}

impl Prints {
    /// Takes note of an element.
    pub(in super::super) fn note(&mut self, key: &ElementKey, data: &Data) {
        let (set, bytes) = key;
        self.elements.insert(self.key(*set, bytes), self.hasher.hash_one(data));
        *self.counts.entry(*set).or_default() += 1;
    }

    fn key(&self, set: SetName, key: &[u8]) -> u64 {
        self.hasher.hash_one((set, key))
    }

    /// Whether a key is there, and says this, if anything.
    fn compare(&self, set: SetName, key: &[u8], data: Option<&Data>, tally: &mut Tally) {
        match self.elements.get(&self.key(set, key)) {
            Some(found) => {
                tally.present += 1;
                let is_other = |data| self.hasher.hash_one(data) != *found;
                tally.wrong += usize::from(data.is_some_and(is_other));
            }
            None => tally.missing += 1,
        }
    }
}

impl Table {
    /// What is other in the kernel than it is desired, in a few words each.
    pub(in super::super) fn faults(
        &self,
        found: Option<&Found>,
        prints: &Prints,
        noted: &FoundRules,
    ) -> Vec<String> {
        let Some(found) = found else { return vec!["it was gone".to_owned()] };
        let mut faults = found.misshapen.clone();
        let all = Chain::CONSTANT.into_iter().chain(Hook::ALL.map(Chain::Base));
        for chain in all.chain(self.chains()).filter(|chain| !found.chains.contains(chain)) {
            faults.push(format!("chain {chain} was gone"));
        }
        let leads = Chain::CONSTANT.into_iter().chain(self.chains());
        for chain in leads.filter(|chain| !found.leads_to(*chain)) {
            faults.push(format!("nothing led to chain {chain}"));
        }
        for chain in &found.chains {
            let name = chain.to_string();
            let there = found.rules.get(&name).map(Vec::as_slice).unwrap_or_default();
            let is_other = noted.get(&name).is_some_and(|noted| noted != there);
            if is_other || there.len() != rules(&self.shape, *chain).len() {
                faults.push(format!("chain {name} had other rules"));
            }
        }
        let tallies = self.tallies(prints);
        let packets = [SetName::Affinity, SetName::Kinds, SetName::ListKinds, SetName::AnyKind];
        for set in SetName::ALL {
            if !found.sets.contains(&set) {
                faults.push(format!("set {} was gone", set.name()));
                continue;
            }
            if packets.contains(&set) {
                continue;
            }
            let Tally { present, wrong, missing } = tallies.get(&set).copied().unwrap_or_default();
            let there = prints.counts.get(&set).copied().unwrap_or_default();
            let wrong = wrong + there.saturating_sub(present);
            if wrong + missing > 0 {
                let name = set.name();
                faults.push(format!("{wrong} elements of {name} were wrong and {missing} missing"));
            }
        }
        faults
    }

    fn tallies(&self, prints: &Prints) -> HashMap<SetName, Tally> {
        let mut tallies: HashMap<SetName, Tally> = HashMap::new();
        for element in self.desired() {
            let tally = tallies.entry(element.set).or_default();
            prints.compare(element.set, &element.key, Some(&element.data), tally);
        }
        // What they say is no matter any more.
        for (set, key) in self.limbo.keys() {
            prints.compare(*set, key, None, tallies.entry(*set).or_default());
        }
        tallies
    }
}
