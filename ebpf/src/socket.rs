//! What a socket remembers, in socket storage: it dies with the socket.
//!
//! Every hook that touches these runs under the socket's lock, so no two programs write one
//! socket's storage at once.

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

/// Value of map `CONNECTED`: the socket was connected to a Service.
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
