//! A way from a closed world to the API server, which runs outside of it.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
};

use anyhow::{Context as _, Result};

use crate::world::World;

/// Has whoever connects to the returned address, on the node of `world`, connected to `server`.
/// Several worlds can follow one server so, for the same price each. It ends with this process.
///
/// A socket belongs to the network namespace of the thread that makes it: the listener is made in
/// the world, and the connections to the server out of it.
///
/// # Errors
///
/// Fails where the world's node does not let it listen.
pub fn relay(server: SocketAddr, world: &World) -> Result<SocketAddr> {
    let listener = world.host().run(|| TcpListener::bind("127.0.0.1:0"))?;
    let listener = listener.context("cannot listen on a world's node")?;
    let address = listener.local_addr().context("a listener has an address")?;
    thread::spawn(move || {
        for client in listener.incoming() {
            // A proxy tries again.
            let Ok(client) = client else { continue };
            let Ok(server) = TcpStream::connect(server) else { continue };
            let _ = join(client, server);
        }
    });
    Ok(address)
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
