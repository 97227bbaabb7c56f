//! `sendmsg4` and `sendmsg6`: datagrams that carry an address, also on a connected socket.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use shunt_ebpf::{
    event::{KIND_NO_STORAGE, KIND_TRANSLATED},
    socket::Peers,
};

use crate::{
    call::Call,
    choose::Place,
    decide::{Chosen, decide},
    events,
    lookup::target,
    maps::PEERS,
    peers,
    verdict::{self, Verdict},
};

/// IPv4 addresses; v4-mapped ones on an AF_INET6 socket come here too.
#[cgroup_sock_addr(sendmsg4)]
pub(crate) fn sendmsg4(context: SockAddrContext) -> i32 {
    sendmsg(&Call::new(context, false))
}

/// IPv6 addresses.
#[cgroup_sock_addr(sendmsg6)]
pub(crate) fn sendmsg6(context: SockAddrContext) -> i32 {
    sendmsg(&Call::new(context, true))
}

#[inline(always)]
fn sendmsg(call: &Call) -> i32 {
    match translate(call) {
        Verdict::Translated | Verdict::Untranslated => verdict::ALLOW,
        Verdict::Refused => verdict::refuse(),
    }
}

#[inline(always)]
fn translate(call: &Call) -> Verdict {
    if !call.is_balanced() {
        return Verdict::Untranslated;
    }
    let dialled = Place { address: call.address(), port: call.port() };
    // SAFETY: the context's socket is valid while the program runs; null if it has no storage.
    let peers: *mut Peers = unsafe { PEERS.get_ptr_mut(&call.context) };
    let Some(target) = target(call, dialled.address, dialled.port) else {
        // The application talks to an endpoint directly: its answers are its own from now on.
        peers::forget(peers, dialled);
        return Verdict::Untranslated;
    };
    let known = peers::find(peers, dialled);
    let remembered = peers::endpoint(known);
    if remembered == Some(dialled) {
        // An answer to a client that has the port of a NodePort; see `recvmsg`.
        return Verdict::Untranslated;
    }
    let Chosen { service, place, .. } = match decide(call, target, dialled, remembered) {
        Ok(chosen) => chosen,
        Err(verdict) => return verdict,
    };
    let peers = peers::ensure(call, peers);
    if peers.is_null() {
        events::report(call, KIND_NO_STORAGE, service, dialled, Some(place));
        return Verdict::Untranslated;
    }
    peers::remember(peers, known, peers::peer(dialled, place));
    call.redirect(place);
    events::report(call, KIND_TRANSLATED, service, dialled, Some(place));
    Verdict::Translated
}
