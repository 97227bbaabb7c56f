//! Which EndpointSlices belong to which Service.

use std::{collections::HashMap, hash::BuildHasher as _, sync::Arc};

use foldhash::quality::RandomState;
use hashbrown::{HashTable, hash_table};
use smallvec::{SmallVec, smallvec};

use super::{EndpointSlice, ObjectName};

/// The slices of each Service, and the Services on which a change of this node's zone tells.
#[derive(Debug, Default)]
pub(super) struct SlicesByService {
    services: HashTable<Slices>,
    hasher: RandomState,
    /// How many slices of the Service carry zone hints. Hints are rare, so most are not here.
    zone_hinted: HashMap<ObjectName, usize, RandomState>,
}

/// The slices of one Service, sorted by name; never empty. Each of them says which Service that
/// is, and most Services have one.
type Slices = SmallVec<[Arc<EndpointSlice>; 1]>;

impl SlicesByService {
    /// The slices of a Service, sorted by name: what is planned must not depend on the order in
    /// which they came.
    pub(super) fn of(&self, service: &ObjectName) -> &[Arc<EndpointSlice>] {
        let hash = self.hasher.hash_one(service);
        let found = self.services.find(hash, |slices| service_of(slices) == Some(service));
        found.map_or(&[], |slices| slices.as_slice())
    }

    /// The Services of which a slice carries zone hints.
    pub(super) fn zone_hinted(&self) -> impl Iterator<Item = &ObjectName> {
        self.zone_hinted.keys()
    }

    pub(super) fn insert(&mut self, service: &ObjectName, slice: &Arc<EndpointSlice>) {
        if has_zone_hints(slice) {
            *self.zone_hinted.entry(service.clone()).or_default() += 1;
        }
        let slices = match self.entry(service) {
            hash_table::Entry::Occupied(occupied) => occupied.into_mut(),
            hash_table::Entry::Vacant(vacant) => {
                vacant.insert(smallvec![Arc::clone(slice)]);
                return;
            }
        };
        match position(slices, slice) {
            Ok(found) => slices[found] = Arc::clone(slice),
            Err(place) => slices.insert(place, Arc::clone(slice)),
        }
    }

    pub(super) fn remove(&mut self, service: &ObjectName, slice: &EndpointSlice) {
        if has_zone_hints(slice)
            && let Some(count) = self.zone_hinted.get_mut(service)
        {
            *count -= 1;
            if *count == 0 {
                self.zone_hinted.remove(service);
            }
        }
        let hash_table::Entry::Occupied(mut occupied) = self.entry(service) else { return };
        let slices = occupied.get_mut();
        let Ok(found) = position(slices, slice) else { return };
        if slices.len() == 1 {
            occupied.remove();
        } else {
            slices.remove(found);
        }
    }

    fn entry(&mut self, service: &ObjectName) -> hash_table::Entry<'_, Slices> {
        let hasher = &self.hasher;
        self.services.entry(
            hasher.hash_one(service),
            |slices| service_of(slices) == Some(service),
            // What is here is never empty, and of a Service.
            |slices| service_of(slices).map_or(0, |service| hasher.hash_one(service)),
        )
    }
}

/// Whose slices these are.
fn service_of(slices: &Slices) -> Option<&ObjectName> {
    slices.first()?.service.as_ref()
}

fn position(slices: &[Arc<EndpointSlice>], slice: &EndpointSlice) -> Result<usize, usize> {
    slices.binary_search_by(|other| other.name.name.cmp(&slice.name.name))
}

fn has_zone_hints(slice: &EndpointSlice) -> bool {
    slice.endpoints.iter().any(|endpoint| !endpoint.hint_zones().is_empty())
}
