//! What a world tells a probe process, and what that answers: one line of JSON each.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{
    Burst, Failure, Fate, How, Race, Received, Sighting, Socket, Stream, Tally, Times, Transport,
    Visit,
};

/// Something to do; answered by exactly one [`Answer`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Order {
    /// Answer at these addresses, under this name, as long as the process lives.
    Serve {
        /// Who the server says it is.
        name: String,
        /// The protocol.
        transport: Transport,
        /// Where to listen; port 0 is replaced by a free one.
        addresses: Vec<SocketAddr>,
    },
    /// Read and drop what TCP connections to this address send, as long as the process lives.
    Drain(SocketAddr),
    /// Make a socket and keep it.
    Open(Socket),
    /// Bind a kept socket.
    Bind {
        /// The socket's number.
        id: u32,
        /// Where to.
        to: SocketAddr,
    },
    /// Begin to connect a kept socket, and do not wait for what becomes of it; a datagram socket
    /// sends.
    Knock {
        /// The socket's number.
        id: u32,
        /// Where to.
        to: SocketAddr,
    },
    /// What became of a kept socket that knocked.
    Fate(u32),
    /// Connect a kept socket.
    Connect {
        /// The socket's number.
        id: u32,
        /// Where to.
        to: SocketAddr,
        /// By which call.
        how: How,
    },
    /// `connect(AF_UNSPEC)`: dissolve a kept socket's association.
    Disconnect(u32),
    /// Send a datagram that carries an address.
    SendTo {
        /// The socket's number.
        id: u32,
        /// Where to.
        to: SocketAddr,
    },
    /// Send on a connected socket.
    Send(u32),
    /// Receive what a server says, with the sender's address.
    Receive(u32),
    /// `getpeername`.
    PeerName(u32),
    /// `getsockname`.
    LocalName(u32),
    /// Close a kept socket.
    Close(u32),
    /// Open, connect, be answered, close.
    Visit {
        /// The kind of socket.
        socket: Socket,
        /// By which call.
        how: How,
        /// Where to.
        to: SocketAddr,
        /// The local port; without it the kernel chooses.
        port: Option<u16>,
    },
    /// Many visits.
    Burst(Burst),
    /// Timed calls to several addresses in turn.
    Race(Race),
    /// One long stream.
    Stream(Stream),
    /// Keep an eye on all packets, or no longer.
    Tap(bool),
    /// Say what was seen since the last time.
    Look,
    /// Send the packet that opens an SCTP association.
    SctpInit {
        /// The client's port.
        from: u16,
        /// Where to.
        to: SocketAddr,
    },
    /// Send an ICMP echo request and wait for the answer.
    Ping(IpAddr),
    /// Go on serving when the world's maker is gone.
    Detach,
}

/// What became of an [`Order`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// It is done.
    Done,
    /// The number of the new socket.
    Opened(u32),
    /// The address asked for.
    Address(SocketAddr),
    /// What became of a socket that knocked.
    Fate(Fate),
    /// The packets seen.
    Seen(Vec<Sighting>),
    /// The addresses served.
    Serving(Vec<SocketAddr>),
    /// What a server said.
    Received(Received),
    /// How a visit went.
    Visited(Visit),
    /// How a burst went.
    Tally(Tally),
    /// How a race went, lane by lane.
    Raced(Vec<Times>),
    /// How long a stream took, in nanoseconds.
    Streamed(u64),
    /// It failed.
    Failed(Failure),
}
