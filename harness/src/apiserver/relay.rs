//! A way from a closed world to the API server, which runs outside of it.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
};

use anyhow::{Context as _, Result};
use socket2::SockRef;

use crate::world::World;

/// Has whoever connects to its address, on the node of a world, connected to a server. Several
/// worlds can follow one server so, for the same price each. Takes no connections any more when it
/// is dropped: a listener would keep the network namespace, with all that a proxy left in it.
#[derive(Debug)]
pub struct Relay {
    listener: TcpListener,
    address: SocketAddr,
}

impl Relay {
    /// A relay on the node of `world`.
    ///
    /// A socket belongs to the network namespace of the thread that makes it: the listener is made
    /// in the world, and the connections to the server out of it.
    ///
    /// # Errors
    ///
    /// Fails where the world's node does not let it listen.
    pub fn start(server: SocketAddr, world: &World) -> Result<Self> {
        let listener = world.host().run(|| TcpListener::bind("127.0.0.1:0"))?;
        let listener = listener.context("cannot listen on a world's node")?;
        let address = listener.local_addr().context("a listener has an address")?;
        let clients = listener.try_clone().context("cannot share a listener")?;
        thread::spawn(move || {
            for client in clients.incoming() {
                match client {
                    // A proxy whose server is not there tries again.
                    Ok(client) => _ = TcpStream::connect(server).and_then(|to| join(client, to)),
                    // The relay was dropped.
                    Err(error) if error.kind() == io::ErrorKind::InvalidInput => break,
                    Err(_) => {}
                }
            }
        });
        Ok(Self { listener, address })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Wakes the thread that accepts, with EINVAL.
        let _ = SockRef::from(&self.listener).shutdown(Shutdown::Both);
    }
}

fn join(client: TcpStream, server: TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (requests, answers) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || copy(&requests, &server));
    thread::spawn(move || copy(&answers, &client));
    Ok(())
}

fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    // However it ends, there is no more to say in this direction.
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
