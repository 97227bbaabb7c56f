//! Events for people, by ring buffer, and nothing paid when they are off.

use core::ptr;

use aya_ebpf::helpers::bpf_ktime_get_ns;
use shunt_ebpf::{
    control::{EVENTS_ALL, EVENTS_OFF},
    event::{Event, KIND_NO_STORAGE, KIND_UNREADABLE},
    socket::Tuple,
};

use crate::{call::Call, choose::Place, lookup::control, maps::EVENTS};

/// Tells what became of a call to a Service, if somebody wants to know.
#[inline(always)]
pub(crate) fn report(call: &Call, kind: u8, service: u32, dialled: Place, endpoint: Option<Place>) {
    if is_wanted(kind, service) {
        send(call, kind, service, dialled, endpoint);
    }
}

#[inline(always)]
fn is_wanted(kind: u8, service: u32) -> bool {
    let Some(control) = control() else { return false };
    // SAFETY: `control` points to the array's element; user space stores the word while we load
    // it.
    let wanted = unsafe { ptr::read_volatile(&raw const (*control).events) };
    let level = wanted as u32;
    let filter = (wanted >> 32) as u32;
    level != EVENTS_OFF
        && (level == EVENTS_ALL || matches!(kind, KIND_UNREADABLE | KIND_NO_STORAGE))
        && (filter == 0 || filter == service)
}

#[inline(always)]
fn send(call: &Call, kind: u8, service: u32, dialled: Place, endpoint: Option<Place>) {
    let event = Event {
        // SAFETY: the helper has no preconditions.
        time: unsafe { bpf_ktime_get_ns() },
        netns: call.netns(),
        dialled: Tuple::from(dialled),
        endpoint: endpoint.map(Tuple::from).unwrap_or_default(),
        service,
        kind,
        protocol: call.protocol(),
        zero: 0,
    };
    // A full buffer loses the event: nobody reads fast enough, and no call waits for a reader.
    let _ = EVENTS.output(event, 0);
}
