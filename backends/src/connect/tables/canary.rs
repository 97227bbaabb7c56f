//! The canary's frontend: one that belongs to no ServicePort.

use shunt_core::backend::BackendError;
use shunt_ebpf::tables::{Endpoint, FrontendKind, List, Target};

use super::{
    super::{encode::Content, slot::Slot, sys::Kernel},
    Failure, Tables,
    frontends::{Named, Writes},
};

/// The number that no ServicePort has.
const NOBODY: u32 = 0;

impl<K: Kernel> Tables<K> {
    /// Makes a frontend of the canary's lead to an endpoint.
    pub(in super::super) fn put_canary(
        &mut self,
        slot: Slot,
        endpoint: Endpoint,
    ) -> Result<(), BackendError> {
        let list = self.new_list().map_err(Failure::into_error)?;
        let content = Content::Endpoints(vec![endpoint]);
        let mut result = self.say(list, &content, List::owner(NOBODY, 0));
        if result.is_ok() {
            let target = Target::new(FrontendKind::Canary, list);
            let mut writes = Writes::new();
            writes.put(slot, target, ((), Named { target, service: NOBODY }));
            self.write_frontends(writes, |_, (), written| {
                result = written.map_err(|cause| Failure::writing("FRONTENDS", cause));
            });
        }
        if result.is_err() {
            self.orphans.push(list);
        }
        self.sweep();
        result.map_err(Failure::into_error)
    }
}
