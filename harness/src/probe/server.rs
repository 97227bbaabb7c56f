//! Servers that say who they are.

use std::{
    io::{self, Read as _, Write as _},
    iter,
    net::{SocketAddr, TcpStream, UdpSocket},
    os::fd::AsFd as _,
    thread,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};
use socket2::Domain;

use super::{Failure, Transport, process::internet};

/// Connections that one server keeps open; the oldest goes for a newer one.
const CONNECTIONS: usize = 4096;

/// What a server says when it is reached and whenever it is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Its name: that of its pod, unless it was given another.
    pub server: String,
    /// The address at which it was reached, after any translation.
    pub endpoint: SocketAddr,
    /// The client's address as it arrived.
    pub source: SocketAddr,
}

impl Said {
    /// Reads what a server wrote, if it is complete.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let line = text.split(|&byte| byte == b'\n').next()?;
        serde_json::from_slice(line).ok()
    }

    fn line(&self) -> io::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        Ok(line)
    }
}

/// Listens at `addresses` and answers on a thread of its own until the process ends.
pub(super) fn serve(
    name: &str,
    transport: Transport,
    addresses: &[SocketAddr],
) -> Result<Vec<SocketAddr>, Failure> {
    let mut server = Server { name: name.to_owned(), ..Server::default() };
    let mut bound = Vec::with_capacity(addresses.len());
    for &address in addresses {
        bound.push(server.listen(transport, address)?);
    }
    let thread = thread::Builder::new().name(format!("server {name}"));
    thread
        .spawn(move || server.run())
        .map_err(|error| Failure::Probe(format!("cannot start a server thread: {error}")))?;
    Ok(bound)
}

#[derive(Default)]
struct Server {
    name: String,
    listeners: Vec<socket2::Socket>,
    datagrams: Vec<UdpSocket>,
    connections: Vec<TcpStream>,
}

impl Server {
    fn listen(&mut self, transport: Transport, address: SocketAddr) -> Result<SocketAddr, Failure> {
        let (kind, protocol) = transport.arguments();
        let listen = || {
            let socket = socket2::Socket::new(Domain::for_address(address), kind, Some(protocol))?;
            if address.is_ipv6() {
                socket.set_only_v6(true)?;
            }
            socket.set_reuse_address(transport != Transport::Udp)?;
            socket.bind(&address.into())?;
            socket.set_nonblocking(true)?;
            if transport != Transport::Udp {
                socket.listen(4096)?;
            }
            Ok(socket)
        };
        let socket = listen().map_err(|error| Failure::of("listen", &error))?;
        let bound = socket.local_addr().map_err(|error| Failure::of("getsockname", &error))?;
        match transport {
            Transport::Udp => self.datagrams.push(socket.into()),
            Transport::Tcp | Transport::Mptcp => self.listeners.push(socket),
        }
        internet("getsockname", &bound)
    }

    /// Serves until the process ends. Whatever goes wrong with one client is that client's: it
    /// sees a closed connection or no answer. Why a datagram was not answered is said.
    fn run(mut self) {
        loop {
            let ready = self.wait();
            let (listeners, rest) = ready.split_at(self.listeners.len());
            let (datagrams, connections) = rest.split_at(self.datagrams.len());
            let mut alive = connections.iter().map(|&readable| !readable);
            let name = &self.name;
            self.connections.retain_mut(|connection| {
                alive.next().unwrap_or(true) || answer_again(name, connection).is_ok()
            });
            for (socket, _) in self.datagrams.iter().zip(datagrams).filter(|(_, ready)| **ready) {
                let _ = answer_datagrams(name, socket);
            }
            for (listener, _) in self.listeners.iter().zip(listeners).filter(|(_, ready)| **ready) {
                self.connections.extend(iter::from_fn(|| accept(name, listener)).flatten());
            }
            let surplus = self.connections.len().saturating_sub(CONNECTIONS);
            self.connections.drain(..surplus);
        }
    }

    /// Waits until something can be read, and says of each socket whether it can: listeners,
    /// datagram sockets and connections in this order.
    fn wait(&self) -> Vec<bool> {
        let listeners = self.listeners.iter().map(|socket| socket.as_fd());
        let datagrams = self.datagrams.iter().map(|socket| socket.as_fd());
        let connections = self.connections.iter().map(|socket| socket.as_fd());
        let mut wanted: Vec<PollFd<'_>> = listeners
            .chain(datagrams)
            .chain(connections)
            .map(|socket| PollFd::new(socket, PollFlags::POLLIN))
            .collect();
        let _ = poll(&mut wanted, PollTimeout::NONE);
        wanted.iter().map(|socket| socket.any().unwrap_or(true)).collect()
    }
}

/// Takes the next connection: `None` if there is none, `Some(None)` if it is gone already.
fn accept(name: &str, listener: &socket2::Socket) -> Option<Option<TcpStream>> {
    let (connection, _) = listener.accept().ok()?;
    let mut connection = TcpStream::from(connection);
    Some(greet(name, &mut connection).is_ok().then_some(connection))
}

fn greet(name: &str, connection: &mut TcpStream) -> io::Result<()> {
    connection.set_nonblocking(true)?;
    let said = Said {
        server: name.to_owned(),
        endpoint: connection.local_addr()?,
        source: connection.peer_addr()?,
    };
    connection.write_all(&said.line()?)
}

fn answer_again(name: &str, connection: &mut TcpStream) -> io::Result<()> {
    let mut question = [0; 512];
    if connection.read(&mut question)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    greet(name, connection)
}

#[expect(clippy::print_stderr, reason = "a test that fails shows what its processes said")]
fn answer_datagrams(name: &str, socket: &UdpSocket) -> io::Result<()> {
    let endpoint = socket.local_addr()?;
    let mut question = [0; 512];
    loop {
        let (_, source) = socket.recv_from(&mut question)?;
        let said = Said { server: name.to_owned(), endpoint, source };
        if let Err(error) = socket.send_to(&said.line()?, source) {
            eprintln!("{name} cannot answer {source} from {endpoint}: {error}");
        }
    }
}
