//! `recvmsg4` and `recvmsg6`: datagrams whose sender the application asks for.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};

use crate::{
    call::Call,
    choose::Place,
    maps::{CONNECTED, PEERS},
    peers,
    verdict::ALLOW,
};

/// AF_INET sockets.
#[cgroup_sock_addr(recvmsg4)]
pub(crate) fn recvmsg4(context: SockAddrContext) -> i32 {
    recvmsg(&Call::new(context, false))
}

/// AF_INET6 sockets, senders of IPv4 included.
#[cgroup_sock_addr(recvmsg6)]
pub(crate) fn recvmsg6(context: SockAddrContext) -> i32 {
    recvmsg(&Call::new(context, true))
}

#[inline(always)]
fn recvmsg(call: &Call) -> i32 {
    let sender = Place { address: call.address(), port: call.port() };
    if let Some(dialled) = connected(call, sender) {
        call.redirect(dialled);
        return ALLOW;
    }
    // SAFETY: the context's socket is valid while the program runs; null if it has no storage.
    let peers = unsafe { PEERS.get_ptr_mut(&call.context) };
    if let Some(dialled) = peers::dialled(peers, sender) {
        call.redirect(dialled);
    }
    ALLOW
}

/// What the application dialled, if the socket is connected to `sender` through a Service.
#[inline(always)]
fn connected(call: &Call, sender: Place) -> Option<Place> {
    // SAFETY: as in `recvmsg`.
    let state = unsafe { CONNECTED.get_ptr_mut(&call.context) };
    if state.is_null() {
        return None;
    }
    // SAFETY: `state` is this socket's own storage, and the hook runs under the socket's lock.
    let state = unsafe { state.read() };
    // The socket may have been disconnected meanwhile, which runs no hook.
    (Place::from(state.endpoint) == sender && call.is_connected_to(state.endpoint))
        .then(|| Place::from(state.dialled))
}
