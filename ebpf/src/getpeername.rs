//! `getpeername4` and `getpeername6`: what the application dialled, not where it was sent.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};

use crate::{call::Call, choose::Place, connected, verdict::ALLOW};

/// AF_INET sockets.
#[cgroup_sock_addr(getpeername4)]
pub(crate) fn getpeername4(context: SockAddrContext) -> i32 {
    getpeername(&Call::new(context, false))
}

/// AF_INET6 sockets, peers of IPv4 included.
#[cgroup_sock_addr(getpeername6)]
pub(crate) fn getpeername6(context: SockAddrContext) -> i32 {
    getpeername(&Call::new(context, true))
}

#[inline(always)]
fn getpeername(call: &Call) -> i32 {
    let Some(connected) = connected::recall(call) else { return ALLOW };
    // The peer is what the kernel says it is; the memory may be of an earlier connection.
    if Place::from(connected.endpoint) == (Place { address: call.address(), port: call.port() }) {
        call.redirect(Place::from(connected.dialled));
    }
    ALLOW
}
