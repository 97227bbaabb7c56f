//! One long stream, timed: what a benchmark takes throughput from.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
};

use serde::{Deserialize, Serialize};

use super::{Failure, Socket, Transport, burst::monotonic, client};

/// What is written or read by one call.
const BLOCK: usize = 256 * 1024;

/// Bytes over one TCP connection, to a server that drops them.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Stream {
    /// Where to.
    pub to: SocketAddr,
    /// How many.
    pub bytes: u64,
}

impl Stream {
    /// How long it took from the first byte until the server had said that it read them all, in
    /// nanoseconds.
    pub(super) fn run(self) -> Result<u64, Failure> {
        let socket = Socket::of(Transport::Tcp, self.to).open()?;
        client::connect(&socket, self.to, client::How::Connect)?;
        let mut connection = TcpStream::from(socket);
        let begin = monotonic();
        let arrived = self.send(&mut connection).map_err(|error| Failure::of("stream", &error))?;
        let took = monotonic() - begin;
        if arrived == self.bytes.to_be_bytes() {
            return Ok(took);
        }
        Err(Failure::Probe(format!("not all of {} bytes arrived", self.bytes)))
    }

    /// Sends everything; what the server says that it read.
    fn send(self, connection: &mut TcpStream) -> io::Result<[u8; 8]> {
        let block = vec![0; BLOCK];
        let mut left = self.bytes;
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
            connection.write_all(block.get(..length).unwrap_or_default())?;
            left -= length as u64;
        }
        connection.shutdown(Shutdown::Write)?;
        let mut arrived = [0; 8];
        connection.read_exact(&mut arrived)?;
        Ok(arrived)
    }
}

/// Reads and drops whatever connections to `address` send, one connection after the other, until
/// the process ends. At its end each is told how many bytes it were.
pub(super) fn drain(address: SocketAddr) -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind(address).map_err(|error| Failure::of("listen", &error))?;
    let bound = listener.local_addr().map_err(|error| Failure::of("getsockname", &error))?;
    let thread = thread::Builder::new().name("drain".to_owned());
    let running = thread.spawn(move || {
        let mut block = vec![0; BLOCK];
        for mut connection in listener.incoming().flatten() {
            // Whatever goes wrong is the client's, who sees a closed connection.
            let _ = drop_all(&mut connection, &mut block);
        }
    });
    running.map_err(|error| Failure::Probe(format!("cannot start a server thread: {error}")))?;
    Ok(bound)
}

fn drop_all(connection: &mut TcpStream, block: &mut [u8]) -> io::Result<()> {
    let mut all = 0_u64;
    loop {
        match connection.read(block)? {
            0 => return connection.write_all(&all.to_be_bytes()),
            length => all += length as u64,
        }
    }
}
