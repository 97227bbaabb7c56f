//! The calls of a client, with the kernel's answers as they are.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsFd as _,
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use rustix::net::{RecvFlags, recvfrom};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Type};

use super::{Failure, Said, burst::monotonic, process::internet};
use crate::wait::patience;

/// How long a call may block, where machines are not slow by nature; nothing in a world takes this
/// long unless packets are lost.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a visit waits for its answer, which no test of silence does: as long as a starved machine
/// may take.
const LONG_PATIENCE: Duration = Duration::from_secs(10);

/// What a client sends; a server answers anything.
const QUESTION: &[u8] = b"who are you?\n";

/// A transport protocol, as a program chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Multipath TCP.
    Mptcp,
}

impl Transport {
    pub(super) const fn arguments(self) -> (Type, Protocol) {
        match self {
            Self::Tcp => (Type::STREAM, Protocol::TCP),
            Self::Udp => (Type::DGRAM, Protocol::UDP),
            Self::Mptcp => (Type::STREAM, Protocol::MPTCP),
        }
    }
}

/// A kind of socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    /// Whether it is an AF_INET6 socket. It reaches IPv4 through v4-mapped addresses.
    pub inet6: bool,
    /// Its protocol.
    pub transport: Transport,
}

impl Socket {
    /// An AF_INET socket for `to`, or an AF_INET6 one where `to` is IPv6 or v4-mapped.
    #[must_use]
    pub const fn of(transport: Transport, to: SocketAddr) -> Self {
        Self { inet6: to.is_ipv6(), transport }
    }

    /// TCP over AF_INET.
    #[must_use]
    pub const fn tcp4() -> Self {
        Self { inet6: false, transport: Transport::Tcp }
    }

    /// TCP over AF_INET6.
    #[must_use]
    pub const fn tcp6() -> Self {
        Self { inet6: true, transport: Transport::Tcp }
    }

    /// UDP over AF_INET.
    #[must_use]
    pub const fn udp4() -> Self {
        Self { inet6: false, transport: Transport::Udp }
    }

    /// UDP over AF_INET6.
    #[must_use]
    pub const fn udp6() -> Self {
        Self { inet6: true, transport: Transport::Udp }
    }

    pub(super) fn open(self) -> Result<socket2::Socket, Failure> {
        let domain = if self.inet6 { Domain::IPV6 } else { Domain::IPV4 };
        let (kind, protocol) = self.transport.arguments();
        let open = || {
            let socket = socket2::Socket::new(domain, kind, Some(protocol))?;
            socket.set_read_timeout(Some(patience(PATIENCE)))?;
            socket.set_write_timeout(Some(patience(PATIENCE)))?;
            Ok(socket)
        };
        open().map_err(|error| Failure::of("socket", &error))
    }
}

/// By which call a client reaches a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    /// `connect`.
    #[default]
    Connect,
    /// `connect` on a non-blocking socket.
    NonBlocking,
    /// `sendto` with MSG_FASTOPEN; TCP only.
    FastOpen,
    /// `sendto` on an unconnected socket; UDP only.
    SendTo,
}

/// What a client got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// What the server said.
    pub said: Said,
    /// The sender as `recvfrom` names it; TCP names none.
    pub from: Option<SocketAddr>,
}

/// One visit of a client to a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visit {
    /// What the server said.
    pub said: Said,
    /// The server's address as the client sees it: `getpeername`, or `recvfrom` on an unconnected
    /// socket.
    pub peer: SocketAddr,
    /// The client's own address.
    pub local: SocketAddr,
    /// How long the call that connects took, in nanoseconds; for an unconnected socket the first
    /// `sendto`.
    pub nanoseconds: u64,
    /// When that call returned, in nanoseconds of CLOCK_MONOTONIC.
    pub ended: u64,
}

/// What became of a socket that knocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// Nothing yet: no answer and no word of an error.
    Waiting,
    /// It is connected; a datagram was answered.
    Answered,
    /// It failed with this error number.
    Failed(i32),
}

/// Opens, connects (from local port `port`, if given), is answered, closes.
pub(super) fn visit(
    socket: Socket,
    how: How,
    to: SocketAddr,
    port: Option<u16>,
) -> Result<Visit, Failure> {
    let kernel = socket.open()?;
    if let Some(port) = port {
        let any: IpAddr = match to {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        bind(&kernel, SocketAddr::new(any, port))?;
    }
    if socket.transport != Transport::Udp {
        reset_at_close(&kernel)?;
    }
    kernel
        .set_read_timeout(Some(patience(LONG_PATIENCE)))
        .map_err(|error| Failure::of("setsockopt", &error))?;
    let started = monotonic();
    connect(&kernel, to, how)?;
    let ended = monotonic();
    if socket.transport == Transport::Udp && how != How::SendTo {
        send(&kernel)?;
    }
    let received = receive(&kernel)?;
    let peer = match (how, received.from) {
        (How::SendTo, Some(from)) => from,
        _ => peer_name(&kernel)?,
    };
    let local = local_name(&kernel)?;
    Ok(Visit { said: received.said, peer, local, nanoseconds: ended - started, ended })
}

pub(super) fn bind(socket: &socket2::Socket, to: SocketAddr) -> Result<(), Failure> {
    socket.bind(&to.into()).map_err(|error| Failure::of("bind", &error))
}

/// Sends the first packet of a connection, and leaves the socket to its fate.
pub(super) fn knock(socket: &socket2::Socket, to: SocketAddr) -> Result<(), Failure> {
    socket.set_nonblocking(true).map_err(|error| Failure::of("fcntl", &error))?;
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => return Ok(()),
        other => other.map_err(|error| Failure::of("connect", &error))?,
    }
    if socket.r#type().ok() != Some(Type::DGRAM) {
        return Ok(());
    }
    match socket.send(QUESTION) {
        // Dropped on its way out of this very namespace: only then does the sender notice.
        Err(error) if error.raw_os_error() == Some(Errno::EPERM as i32) => Ok(()),
        other => other.map(drop).map_err(|error| Failure::of("send", &error)),
    }
}

pub(super) fn fate(socket: &socket2::Socket) -> Result<Fate, Failure> {
    let error = socket.take_error().map_err(|error| Failure::of("getsockopt", &error))?;
    if let Some(errno) = error.and_then(|error| error.raw_os_error()) {
        return Ok(Fate::Failed(errno));
    }
    let is_datagram = socket.r#type().ok() == Some(Type::DGRAM);
    let event = if is_datagram { PollFlags::POLLIN } else { PollFlags::POLLOUT };
    let mut wanted = [PollFd::new(socket.as_fd(), event)];
    let ready = poll(&mut wanted, PollTimeout::ZERO);
    let ready = ready.map_err(|error| Failure::of("poll", &error.into()))?;
    Ok(if ready == 0 { Fate::Waiting } else { Fate::Answered })
}

/// A reset at close leaves no port behind in TIME_WAIT, of which there are but 28,000.
pub(super) fn reset_at_close(socket: &socket2::Socket) -> Result<(), Failure> {
    socket.set_linger(Some(Duration::ZERO)).map_err(|error| Failure::of("setsockopt", &error))
}

pub(super) fn connect(socket: &socket2::Socket, to: SocketAddr, how: How) -> Result<(), Failure> {
    match how {
        How::Connect => socket.connect(&to.into()).map_err(|error| Failure::of("connect", &error)),
        How::NonBlocking => connect_later(socket, to).map_err(|e| Failure::of("connect", &e)),
        How::FastOpen => socket
            .send_to_with_flags(QUESTION, &to.into(), nix::libc::MSG_FASTOPEN)
            .map(drop)
            .map_err(|error| Failure::of("sendto", &error)),
        How::SendTo => send_to(socket, to),
    }
}

fn connect_later(socket: &socket2::Socket, to: SocketAddr) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => {
            let mut wanted = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
            let limit = PollTimeout::try_from(patience(PATIENCE)).unwrap_or(PollTimeout::MAX);
            if poll(&mut wanted, limit)? == 0 {
                return Err(error);
            }
            if let Some(error) = socket.take_error()? {
                return Err(error);
            }
        }
        other => other?,
    }
    socket.set_nonblocking(false)
}

pub(super) fn disconnect(socket: &socket2::Socket) -> Result<(), Failure> {
    rustix::net::connect_unspec(socket).map_err(|error| Failure::of("connect", &error.into()))
}

pub(super) fn send_to(socket: &socket2::Socket, to: SocketAddr) -> Result<(), Failure> {
    let sent = socket.send_to(QUESTION, &to.into());
    sent.map(drop).map_err(|error| Failure::of("sendto", &error))
}

pub(super) fn send(socket: &socket2::Socket) -> Result<(), Failure> {
    socket.send(QUESTION).map(drop).map_err(|error| Failure::of("send", &error))
}

/// Takes one datagram, or one line of a stream.
pub(super) fn receive(socket: &socket2::Socket) -> Result<Received, Failure> {
    let mut text = Vec::with_capacity(256);
    while text.last() != Some(&b'\n') {
        let mut buffer = [0; 512];
        let (length, _, from) = recvfrom(socket, &mut buffer, RecvFlags::empty())
            .map_err(|error| Failure::of("recvfrom", &error.into()))?;
        if length == 0 {
            return Err(Failure::Probe("the server closed the connection".to_owned()));
        }
        text.extend_from_slice(buffer.get(..length).unwrap_or_default());
        if let Some(said) = Said::read(&text) {
            let from = from.and_then(|from| SocketAddr::try_from(from).ok());
            return Ok(Received { said, from });
        }
    }
    Err(Failure::Probe("this is not what a server of ours says".to_owned()))
}

pub(super) fn peer_name(socket: &socket2::Socket) -> Result<SocketAddr, Failure> {
    let name = socket.peer_addr().map_err(|error| Failure::of("getpeername", &error))?;
    internet("getpeername", &name)
}

pub(super) fn local_name(socket: &socket2::Socket) -> Result<SocketAddr, Failure> {
    let name = socket.local_addr().map_err(|error| Failure::of("getsockname", &error))?;
    internet("getsockname", &name)
}
