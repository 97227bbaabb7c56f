//! Which EndpointSlices belong to which Service.

use std::{collections::HashMap, sync::Arc};

use foldhash::quality::RandomState;

use super::{EndpointSlice, ObjectName};

/// The slices of each Service, and the Services on which a change of this node's zone tells.
#[derive(Debug, Default)]
pub(super) struct SlicesByService {
    services: HashMap<ObjectName, Vec<Arc<EndpointSlice>>, RandomState>,
    /// How many slices of the Service carry zone hints. Hints are rare, so most are not here.
    zone_hinted: HashMap<ObjectName, usize>,
}

impl SlicesByService {
    /// The slices of a Service, sorted by name: what is planned must not depend on the order in
    /// which they came.
    pub(super) fn of(&self, service: &ObjectName) -> &[Arc<EndpointSlice>] {
        self.services.get(service).map_or(&[], Vec::as_slice)
    }

    /// The Services of which a slice carries zone hints.
    pub(super) fn zone_hinted(&self) -> impl Iterator<Item = &ObjectName> {
        self.zone_hinted.keys()
    }

    pub(super) fn insert(&mut self, service: &ObjectName, slice: &Arc<EndpointSlice>) {
        if has_zone_hints(slice) {
            *self.zone_hinted.entry(service.clone()).or_default() += 1;
        }
        let slices = self.services.entry(service.clone()).or_default();
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
        let Some(slices) = self.services.get_mut(service) else { return };
        if let Ok(found) = position(slices, slice) {
            slices.remove(found);
        }
        if slices.is_empty() {
            self.services.remove(service);
        }
    }
}

fn position(slices: &[Arc<EndpointSlice>], slice: &EndpointSlice) -> Result<usize, usize> {
    slices.binary_search_by(|other| other.name.name.cmp(&slice.name.name))
}

fn has_zone_hints(slice: &EndpointSlice) -> bool {
    slice.endpoints.iter().any(|endpoint| !endpoint.hint_zones.is_empty())
}
