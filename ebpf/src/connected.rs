//! What a socket remembers that is connected to a Service: in a seat or in its storage.
//!
//! A seat costs next to nothing, but somebody has to tell when its socket ends: only UDP sockets
//! have one. TCP connects rarely enough, and MPTCP connects sockets of the kernel's own, whose end
//! nobody tells.
//!
//! The seat goes before the storage: a socket that found its seat taken has storage, and if it
//! finds the seat free when it connects again, the storage stays behind, out of date. It is never
//! believed again, for a socket leaves its seat only where it drops its storage too, or ends.

use shunt_ebpf::socket::Connected;

use crate::{call::Call, maps::CONNECTED, seats};

/// Remembers in place of what was remembered; false where there is no memory.
#[inline(always)]
pub(crate) fn remember(call: &Call, connected: Connected) -> bool {
    if call.is_udp() && seats::take(call.cookie(), connected) {
        return true;
    }
    // SAFETY: the context's socket is valid while the program runs.
    let storage = unsafe { CONNECTED.get_or_insert_ptr_mut(&call.context, None) };
    if storage.is_null() {
        return false;
    }
    // SAFETY: `storage` is this socket's own, and the hook runs under the socket's lock.
    unsafe { storage.write(connected) };
    true
}

/// What the socket remembers, which may be of an earlier connection: `connect(AF_UNSPEC)` runs no
/// hook.
#[inline(always)]
pub(crate) fn recall(call: &Call) -> Option<Connected> {
    if call.is_udp()
        && let Some(connected) = seats::find(call.cookie())
    {
        return Some(connected);
    }
    // SAFETY: the context's socket is valid while the program runs; null if it has no storage.
    let storage = unsafe { CONNECTED.get_ptr_mut(&call.context) };
    if storage.is_null() {
        return None;
    }
    // SAFETY: `storage` is this socket's own, and the hook runs under the socket's lock.
    Some(unsafe { storage.read() })
}

/// Forgets, wherever it is.
#[inline(always)]
pub(crate) fn forget(call: &Call) {
    if call.is_udp() {
        seats::leave(call.cookie());
    }
    // An error says that there was nothing to delete.
    // SAFETY: the context's socket is valid while the program runs.
    let _ = unsafe { CONNECTED.delete(call.socket()) };
}
