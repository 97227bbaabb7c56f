//! Seats: where connected UDP sockets remember what they are connected to.
//!
//! A seat is written under its lock, by a socket that finds it empty or its own. All hooks of one
//! socket run under that socket's lock (`sock_release` after the last of them), so that a socket's
//! own seat can be read without the seat's lock: nobody else writes it while the socket's cookie is
//! in it, and nobody else puts that cookie there.

use core::ptr;

use aya_ebpf::helpers::generated::{bpf_spin_lock, bpf_spin_unlock};
use shunt_ebpf::socket::{Connected, Seat, seat_index};

use crate::maps::{SEAT_COUNT, SEATS};

/// What the socket with this cookie remembers, if it has a seat.
#[inline(always)]
pub(crate) fn find(cookie: u64) -> Option<Connected> {
    let seat = at(cookie)?;
    if holder(seat) != cookie {
        return None;
    }
    // SAFETY: `seat` points to the array's element, which is this socket's own, see above.
    Some(unsafe { ptr::read_volatile(&raw const (*seat).connected) })
}

/// Takes the seat of the socket with this cookie, or changes what is in it; false where another
/// socket sits there.
#[inline(always)]
pub(crate) fn take(cookie: u64, connected: Connected) -> bool {
    let Some(seat) = at(cookie) else { return false };
    // Nothing between the two calls of the kernel calls it or leaves: the verifier would refuse.
    lock(seat);
    let holder = holder(seat);
    let is_ours = holder == 0 || holder == cookie;
    if is_ours {
        // SAFETY: `seat` points to the array's element, whose lock is held.
        unsafe { ptr::write_volatile(&raw mut (*seat).connected, connected) };
        set_holder(seat, cookie);
    }
    unlock(seat);
    is_ours
}

/// Leaves the seat of the socket with this cookie, if it has one.
#[inline(always)]
pub(crate) fn leave(cookie: u64) {
    let Some(seat) = at(cookie) else { return };
    if holder(seat) == cookie {
        lock(seat);
        set_holder(seat, 0);
        unlock(seat);
    }
}

/// The one seat that a socket with this cookie can have; `None` where there are none at all.
#[inline(always)]
fn at(cookie: u64) -> Option<*mut Seat> {
    let count = SEAT_COUNT.load();
    if count == 0 {
        return None;
    }
    SEATS.get_ptr_mut(seat_index(cookie, count))
}

/// Who sits there.
#[inline(always)]
fn holder(seat: *const Seat) -> u64 {
    // SAFETY: `seat` points to the array's element; another socket's program may be storing the
    // word, at once, but never this socket's cookie.
    unsafe { ptr::read_volatile(&raw const (*seat).cookie) }
}

#[inline(always)]
fn set_holder(seat: *mut Seat, cookie: u64) {
    // SAFETY: `seat` points to the array's element, whose lock is held.
    unsafe { ptr::write_volatile(&raw mut (*seat).cookie, cookie) };
}

#[inline(always)]
fn lock(seat: *mut Seat) {
    // SAFETY: the element outlives the program, and the verifier sees that this is its lock.
    unsafe { bpf_spin_lock((&raw mut (*seat).lock).cast()) };
}

#[inline(always)]
fn unlock(seat: *mut Seat) {
    // SAFETY: as in `lock`.
    unsafe { bpf_spin_unlock((&raw mut (*seat).lock).cast()) };
}
