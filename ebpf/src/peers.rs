//! The Services that one unconnected UDP socket talks to, in its storage.
//!
//! The hooks run under the socket's lock (`BPF_CGROUP_RUN_SA_PROG_LOCK` in
//! include/linux/bpf-cgroup.h), so nobody else touches the storage meanwhile.
//!
//! The scans have no branch but the loop's: with two branches a peer, the verifier walked 368,000
//! instructions of `sendmsg6`, of the million that it allows.

use core::ptr;

use shunt_ebpf::socket::{PEERS, Peer, Peers};

use crate::{
    call::Call,
    choose::Place,
    maps,
    number::{is_less, is_zero},
};

/// The storage of the call's socket, made where there is none yet; null if there is no memory.
#[inline(always)]
pub(crate) fn ensure(call: &Call, peers: *mut Peers) -> *mut Peers {
    if peers.is_null() {
        // SAFETY: the context's socket is valid while the program runs; the kernel fills new
        // storage with zeros.
        unsafe { maps::PEERS.get_or_insert_ptr_mut(&call.context, None) }
    } else {
        peers
    }
}

/// The peer of which the application knows the Service's address `dialled`; null if none.
#[inline(always)]
pub(crate) fn find(peers: *mut Peers, dialled: Place) -> *mut Peer {
    if peers.is_null() {
        return ptr::null_mut();
    }
    // SAFETY: `peers` is the socket's storage, see above.
    let last = at(peers, unsafe { (*peers).last });
    if is_dialled(last, dialled) != 0 {
        return last;
    }
    // Index + 1 of the peer, of which there is at most one.
    let mut found = 0;
    for index in 0..PEERS as u32 {
        found |= is_dialled(at(peers, index), dialled) * (index + 1);
    }
    if found == 0 { ptr::null_mut() } else { at(peers, found - 1) }
}

/// Where the last datagram to this peer went.
#[inline(always)]
pub(crate) fn endpoint(peer: *const Peer) -> Option<Place> {
    if peer.is_null() {
        return None;
    }
    // SAFETY: `peer` lies in the socket's storage.
    let address = unsafe { (*peer).endpoint };
    // SAFETY: as above.
    let port = unsafe { (*peer).endpoint_port };
    Some(Place { address, port })
}

/// What is remembered of datagrams to `dialled` that go to `place`.
#[inline(always)]
pub(crate) const fn peer(dialled: Place, place: Place) -> Peer {
    Peer {
        dialled: dialled.address,
        endpoint: place.address,
        dialled_port: dialled.port,
        endpoint_port: place.port,
        used: 0,
    }
}

/// Writes `peer` over `known`, or where that is null over the peer that was used least recently.
#[inline(always)]
pub(crate) fn remember(peers: *mut Peers, known: *mut Peer, peer: Peer) {
    // SAFETY: `peers` is the socket's storage, see above.
    let clock = unsafe { (*peers).clock };
    // 0 is a free place. After 2³² datagrams the order is lost once, and nothing else.
    let clock = clock.wrapping_add(1).max(1);
    // SAFETY: as above.
    unsafe { (*peers).clock = clock };
    let mut place = known;
    if known.is_null() {
        let mut oldest = u64::MAX;
        for index in 0..PEERS as u32 {
            let age = age(at(peers, index), index);
            oldest ^= (oldest ^ age) & mask(is_less(age, oldest));
        }
        let index = oldest as u32 & (PEERS as u32 - 1);
        // SAFETY: as above.
        unsafe { (*peers).last = index };
        place = at(peers, index);
    }
    // SAFETY: `place` lies in the socket's storage.
    unsafe { place.write(Peer { used: clock, ..peer }) };
}

/// Forgets every Service whose datagrams went to `place`.
#[inline(always)]
pub(crate) fn forget(peers: *mut Peers, place: Place) {
    if peers.is_null() {
        return;
    }
    for index in 0..PEERS as u32 {
        let peer = at(peers, index);
        let keep = 1 - is_at(peer, place);
        // SAFETY: `peer` lies in the socket's storage.
        unsafe { (*peer).used *= keep };
    }
}

/// What the application last sent to so that it reached `place`.
#[inline(always)]
pub(crate) fn dialled(peers: *mut Peers, place: Place) -> Option<Place> {
    if peers.is_null() {
        return None;
    }
    let mut latest = 0;
    for index in 0..PEERS as u32 {
        let peer = at(peers, index);
        let age = age(peer, index) & mask(is_at(peer, place));
        latest ^= (latest ^ age) & mask(is_less(latest, age));
    }
    if latest == 0 {
        return None;
    }
    let peer = at(peers, latest as u32);
    // SAFETY: `peer` lies in the socket's storage.
    let address = unsafe { (*peer).dialled };
    // SAFETY: as above.
    let port = unsafe { (*peer).dialled_port };
    Some(Place { address, port })
}

#[inline(always)]
fn at(peers: *mut Peers, index: u32) -> *mut Peer {
    // SAFETY: the mask keeps the index below PEERS, which the verifier checks too.
    unsafe { (&raw mut (*peers).peers).cast::<Peer>().add(index as usize & (PEERS - 1)) }
}

/// Last use and index in one number, to compare and to find the peer again; below PEERS if the
/// place is free.
#[inline(always)]
fn age(peer: *const Peer, index: u32) -> u64 {
    (u64::from(used(peer)) * PEERS as u64) | u64::from(index)
}

#[inline(always)]
fn used(peer: *const Peer) -> u32 {
    // SAFETY: `peer` lies in the socket's storage.
    unsafe { (*peer).used }
}

/// All ones for 1, all zeros for 0.
#[inline(always)]
const fn mask(bit: u32) -> u64 {
    (bit as u64).wrapping_neg()
}

/// 1 if the peer is in use and its Service was dialled as `place`, else 0.
#[inline(always)]
fn is_dialled(peer: *const Peer, place: Place) -> u32 {
    // SAFETY: `peer` lies in the socket's storage.
    let address = unsafe { (*peer).dialled };
    // SAFETY: as above.
    let port = unsafe { (*peer).dialled_port };
    is_same(address.hi, address.lo, port, place) & (1 - is_zero(used(peer).into()))
}

/// 1 if the peer is in use and its datagrams go to `place`, else 0.
#[inline(always)]
fn is_at(peer: *const Peer, place: Place) -> u32 {
    // SAFETY: `peer` lies in the socket's storage.
    let address = unsafe { (*peer).endpoint };
    // SAFETY: as above.
    let port = unsafe { (*peer).endpoint_port };
    is_same(address.hi, address.lo, port, place) & (1 - is_zero(used(peer).into()))
}

#[inline(always)]
fn is_same(hi: u64, lo: u64, port: u16, place: Place) -> u32 {
    is_zero((hi ^ place.address.hi) | (lo ^ place.address.lo) | u64::from(port ^ place.port))
}
