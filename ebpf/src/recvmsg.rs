//! `recvmsg4` and `recvmsg6`: datagrams whose sender the application asks for.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use shunt_ebpf::socket::Peers;

use crate::{
    call::Call, choose::Place, connected, lookup::node_port, maps::PEERS, peers, verdict::ALLOW,
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
    if let Some(dialled) = through_service(call, sender) {
        call.redirect(dialled);
        return ALLOW;
    }
    // SAFETY: the context's socket is valid while the program runs; null if it has no storage.
    let peers = unsafe { PEERS.get_ptr_mut(&call.context) };
    if let Some(dialled) = peers::dialled(peers, sender) {
        call.redirect(dialled);
    } else if node_port(call, sender.address, sender.port).is_some() {
        remember_client(call, peers, sender);
    }
    ALLOW
}

/// A client whose own port is a NodePort in use: an answer to it must not be taken for a call to
/// the NodePort, so its address stands for itself among the socket's peers.
#[inline(always)]
fn remember_client(call: &Call, peers: *mut Peers, client: Place) {
    let peers = peers::ensure(call, peers);
    // Without memory for it, its answer goes where the NodePort leads.
    if !peers.is_null() {
        let known = peers::find(peers, client);
        peers::remember(peers, known, peers::peer(client, client));
    }
}

/// What the application dialled, if the socket is connected to `sender` through a Service.
#[inline(always)]
fn through_service(call: &Call, sender: Place) -> Option<Place> {
    let connected = connected::recall(call)?;
    // The socket may have been disconnected meanwhile, which runs no hook.
    (Place::from(connected.endpoint) == sender && call.is_connected_to(connected.endpoint))
        .then(|| Place::from(connected.dialled))
}
