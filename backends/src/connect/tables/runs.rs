//! Which entries of `ENDPOINTS` belong to a run.

use std::collections::{BTreeMap, BTreeSet};

/// Consecutive entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in super::super) struct Run {
    /// The first entry.
    pub(in super::super) base: u32,
    /// Entries; at least 1.
    pub(in super::super) count: u32,
}

/// The free entries, as extents that never touch each other.
///
/// Best fit: most lists have few endpoints and change by one, so a freed run is soon just right
/// for another.
pub(super) struct Runs {
    by_base: BTreeMap<u32, u32>,
    by_count: BTreeSet<(u32, u32)>,
    used: u32,
}

impl Runs {
    /// All of `size` entries are free.
    pub(super) fn new(size: u32) -> Self {
        let mut runs = Self { by_base: BTreeMap::new(), by_count: BTreeSet::new(), used: 0 };
        if size > 0 {
            runs.insert(Run { base: 0, count: size });
        }
        runs
    }

    /// Entries that belong to runs, those that wait for a grace period included.
    pub(super) const fn used(&self) -> u32 {
        self.used
    }

    /// Finds entries for a run, or `None` if no gap is long enough.
    pub(super) fn allocate(&mut self, count: u32) -> Option<Run> {
        let (found, base) = *self.by_count.range((count, 0)..).next()?;
        self.remove(Run { base, count: found });
        if found > count {
            self.insert(Run { base: base + count, count: found - count });
        }
        self.used += count;
        Some(Run { base, count })
    }

    /// Takes particular entries; false, and nothing is taken, if some are not free.
    pub(super) fn reserve(&mut self, run: Run) -> bool {
        let Some(end) = run.base.checked_add(run.count) else { return false };
        let Some((&base, &count)) = self.by_base.range(..=run.base).next_back() else {
            return false;
        };
        if run.count == 0 || end > base + count {
            return false;
        }
        self.remove(Run { base, count });
        if run.base > base {
            self.insert(Run { base, count: run.base - base });
        }
        if end < base + count {
            self.insert(Run { base: end, count: base + count - end });
        }
        self.used += run.count;
        true
    }

    /// Gives entries back; no program may still read them.
    pub(super) fn free(&mut self, run: Run) {
        self.used -= run.count;
        let mut whole = run;
        let before = self.by_base.range(..run.base).next_back();
        if let Some((&base, &count)) = before
            && base + count == run.base
        {
            self.remove(Run { base, count });
            whole = Run { base, count: count + whole.count };
        }
        let end = run.base + run.count;
        if let Some(&count) = self.by_base.get(&end) {
            self.remove(Run { base: end, count });
            whole.count += count;
        }
        self.insert(whole);
    }

    fn insert(&mut self, run: Run) {
        self.by_base.insert(run.base, run.count);
        self.by_count.insert((run.count, run.base));
    }

    fn remove(&mut self, run: Run) {
        self.by_base.remove(&run.base);
        self.by_count.remove(&(run.count, run.base));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Runs never overlap and lie within the table, and what is freed can be had again.
        #[test]
        fn runs_are_disjoint_and_all_come_back(
            steps in proptest::collection::vec((any::<bool>(), 1..9_u32, any::<prop::sample::Index>()), 1..200),
        ) {
            let size = 64;
            let mut runs = Runs::new(size);
            let mut held: Vec<Run> = Vec::new();
            for (allocate, count, index) in steps {
                if allocate {
                    held.extend(runs.allocate(count));
                } else if !held.is_empty() {
                    runs.free(held.swap_remove(index.index(held.len())));
                }
                let mut entries: Vec<u32> =
                    held.iter().flat_map(|run| run.base..run.base + run.count).collect();
                prop_assert!(entries.iter().all(|entry| *entry < size));
                prop_assert_eq!(entries.len(), runs.used() as usize);
                entries.sort_unstable();
                entries.dedup();
                prop_assert_eq!(entries.len(), runs.used() as usize);
            }
            for run in held.drain(..) {
                runs.free(run);
            }
            prop_assert_eq!(runs.allocate(size), Some(Run { base: 0, count: size }));
        }

        /// A take-over that reserves what was held leaves the same gaps.
        #[test]
        fn reserving_is_allocating(counts in proptest::collection::vec(1..9_u32, 1..20)) {
            let mut first = Runs::new(256);
            let held: Vec<Run> = counts.iter().filter_map(|count| first.allocate(*count)).collect();
            let mut second = Runs::new(256);
            for run in &held {
                prop_assert!(second.reserve(*run));
                prop_assert!(!second.reserve(*run));
            }
            prop_assert_eq!(&first.by_base, &second.by_base);
            prop_assert_eq!(&first.by_count, &second.by_count);
        }
    }
}
