//! What a socket remembers: in socket storage, which dies with the socket, or in a [`Seat`], which
//! the socket leaves when it ends.
//!
//! Every hook that touches these runs under the socket's lock, so no two programs write one
//! socket's memory at once.

use crate::address::Address;

/// Address and port of one end.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tuple {
    /// The address.
    pub address: Address,
    /// The port, host byte order.
    pub port: u16,
    /// Always 0.
    pub zero: [u16; 3],
}

/// Value of map `CONNECTED`, and what is in a [`Seat`]: the socket was connected to a Service.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connected {
    /// What the application dialled.
    pub dialled: Tuple,
    /// Where it was sent; checked at use, because `connect(AF_UNSPEC)` runs no hook.
    pub endpoint: Tuple,
    /// The ServicePort's number.
    pub service: u32,
    /// The list that it was taken from.
    pub list: u32,
}

/// Element of array `SEATS`: where a connected UDP socket remembers what it is connected to, for
/// making socket storage costs a connect 400 ns.
///
/// A seat belongs to the socket whose cookie is in it. The kernel gives no cookie to two sockets
/// between two boots, so a seat that nobody left is lost but never mistaken for another socket's.
/// A socket whose seat is taken uses storage; one that has both goes by its seat.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seat {
    /// Held by whoever writes the seat. User space reads a seat whole by `BPF_F_LOCK`.
    pub lock: bpf_spin_lock,
    /// Always 0.
    pub zero: u32,
    /// The socket's cookie; 0, which no socket has, if nobody sits here.
    pub cookie: u64,
    /// What the socket remembers.
    pub connected: Connected,
}

/// The kernel's lock, which it finds in a map's value by this name.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct bpf_spin_lock {
    /// Never read or written but by the kernel.
    pub val: u32,
}

/// The index of the one seat that a socket can have, among `count`, a power of two.
///
/// Cookies count up, so sockets that live at one time seldom have the same.
#[must_use]
#[inline(always)]
pub const fn seat_index(cookie: u64, count: u32) -> u32 {
    cookie as u32 & count.wrapping_sub(1)
}

/// Peers that an unconnected UDP socket remembers.
pub const PEERS: usize = 16;

/// Value of map `PEERS`: the Services that an unconnected UDP socket has sent to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// Counts sends, to tell which peer was used last.
    pub clock: u32,
    /// Index of the peer that was used last: most sockets have one.
    pub last: u32,
    /// The peers; `used` 0 is a free place.
    pub peers: [Peer; PEERS],
}

/// One peer of an unconnected UDP socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// What the application sent to.
    pub dialled: Address,
    /// Where it was sent.
    pub endpoint: Address,
    /// The port that the application sent to, host byte order.
    pub dialled_port: u16,
    /// The port where it was sent, host byte order.
    pub endpoint_port: u16,
    /// [`Peers::clock`] at the last send to it.
    pub used: u32,
}
