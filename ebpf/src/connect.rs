//! `connect4` and `connect6`: TCP (MPTCP's subflows too) and UDP sockets that connect.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use shunt_ebpf::{
    event::{KIND_NO_STORAGE, KIND_TRANSLATED},
    socket::{Connected, Tuple},
};

use crate::{
    call::Call,
    choose::Place,
    connected,
    decide::{Chosen, decide},
    events,
    lookup::target,
    maps::PEERS,
    verdict::{self, Verdict},
};

/// IPv4 addresses, dialled from AF_INET sockets or by AF_INET addresses.
#[cgroup_sock_addr(connect4)]
pub(crate) fn connect4(context: SockAddrContext) -> i32 {
    connect(&Call::new(context, false))
}

/// IPv6 addresses and v4-mapped ones.
#[cgroup_sock_addr(connect6)]
pub(crate) fn connect6(context: SockAddrContext) -> i32 {
    connect(&Call::new(context, true))
}

#[inline(always)]
fn connect(call: &Call) -> i32 {
    match translate(call) {
        Verdict::Translated => verdict::ALLOW,
        Verdict::Untranslated => {
            forget(call);
            verdict::ALLOW
        }
        Verdict::Refused => {
            forget(call);
            verdict::refuse()
        }
    }
}

#[inline(always)]
fn translate(call: &Call) -> Verdict {
    if !call.is_balanced() {
        return Verdict::Untranslated;
    }
    let dialled = Place { address: call.address(), port: call.port() };
    let Some(target) = target(call, dialled.address, dialled.port) else {
        return Verdict::Untranslated;
    };
    let Chosen { service, list, place } = match decide(call, target, dialled, None) {
        Ok(chosen) => chosen,
        Err(verdict) => return verdict,
    };
    let connected =
        Connected { dialled: Tuple::from(dialled), endpoint: Tuple::from(place), service, list };
    if !connected::remember(call, connected) {
        events::report(call, KIND_NO_STORAGE, service, dialled, Some(place));
        return Verdict::Untranslated;
    }
    call.redirect(place);
    events::report(call, KIND_TRANSLATED, service, dialled, Some(place));
    Verdict::Translated
}

/// The socket leaves for somewhere else: what it remembers must not colour its peer's name.
#[inline(always)]
fn forget(call: &Call) {
    connected::forget(call);
    if call.is_udp() {
        // An error says that there was nothing to delete.
        // SAFETY: the context's socket is valid while the program runs.
        let _ = unsafe { PEERS.delete(call.socket()) };
    }
}
