//! What becomes of a call to a frontend, wherever it came from.

use shunt_ebpf::{
    event::{KIND_LEFT, KIND_REFUSED, KIND_UNREADABLE},
    tables::Target,
};

use crate::{
    call::Call,
    choose::{Choice, Place, choose},
    events,
    verdict::Verdict,
};

/// The endpoint that a call is to go to.
pub(crate) struct Chosen {
    pub(crate) service: u32,
    pub(crate) list: u32,
    pub(crate) place: Place,
}

/// Chooses an endpoint, or says why there is none and tells whoever wants to know.
#[inline(always)]
pub(crate) fn decide(
    call: &Call,
    target: Target,
    dialled: Place,
    remembered: Option<Place>,
) -> Result<Chosen, Verdict> {
    match choose(call, target, remembered) {
        Choice::Endpoint { service, list, place } => Ok(Chosen { service, list, place }),
        Choice::Refuse { service } => {
            events::report(call, KIND_REFUSED, service, dialled, None);
            Err(Verdict::Refused)
        }
        Choice::Left { service } => {
            events::report(call, KIND_LEFT, service, dialled, None);
            Err(Verdict::Untranslated)
        }
        Choice::Unreadable => {
            events::report(call, KIND_UNREADABLE, 0, dialled, None);
            Err(Verdict::Untranslated)
        }
    }
}
