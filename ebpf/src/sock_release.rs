//! `sock_release`: the last descriptor of a socket is closed.
//!
//! Nothing relies on it: sockets of the kernel's own end without it, and then a seat is lost to
//! others, who do with storage.

use core::ptr;

use aya_ebpf::{
    EbpfContext as _, helpers::bpf_get_socket_cookie, macros::cgroup_sock, programs::SockContext,
};

use crate::{call::UDP, seats, verdict::ALLOW};

/// Sockets of both families.
#[cgroup_sock(sock_release)]
pub(crate) fn sock_release(context: SockContext) -> i32 {
    // SAFETY: the context is the socket, valid as long as the program runs.
    let protocol = unsafe { ptr::read_volatile(&raw const (*context.sock).protocol) };
    if protocol == u32::from(UDP) {
        // SAFETY: the helper takes the program's own context.
        seats::leave(unsafe { bpf_get_socket_cookie(context.as_ptr()) });
    }
    ALLOW
}
