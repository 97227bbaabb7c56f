//! More connected UDP sockets than a backend has room for beside them: each shows what it dialled.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use shunt_core::{backend::Feature, model::Protocol};

use super::{Dialect, Service, Stage, service_ip};
use crate::{probe::How, world::KernelSocket};

/// Sockets that are open at one time.
const SOCKETS: usize = 12;

/// Sockets that connect, connect elsewhere, dissolve and close, with room for two of them.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    if !stage.can(Feature::PeerName) {
        // Then a packet path translates back, which needs no memory of sockets.
        return Ok(());
    }
    stage.restart_at(|site| site.room.sockets = 2);
    for (number, dialect) in (1..).zip(stage.dialects()) {
        if dialect.protocol == Protocol::Udp {
            crowd(stage, dialect, number).with_context(|| dialect.to_string())?;
        }
    }
    Ok(())
}

/// A socket, and the peer that it is to show.
struct Connected<'w> {
    socket: KernelSocket<'w>,
    peer: SocketAddr,
}

impl Connected<'_> {
    fn connect(&mut self, peer: SocketAddr) -> Result<()> {
        self.socket.connect(How::Connect, peer)?;
        self.peer = peer;
        Ok(())
    }

    fn expect(&self) -> Result<()> {
        let peer = self.socket.peer_name()?;
        ensure!(peer == self.peer, "the socket shows {peer} and not {}", self.peer);
        self.socket.send()?;
        let from = self.socket.receive()?.from;
        ensure!(from == Some(self.peer), "recvfrom shows {from:?} and not {}", self.peer);
        Ok(())
    }
}

fn crowd(stage: &mut Stage<'_>, dialect: Dialect, number: u16) -> Result<()> {
    let family = dialect.family;
    let endpoint = stage.server("echo-1", dialect, 8000 + number)?;
    let plain = stage.server("echo-2", dialect, 8000 + number)?;
    let [one, other] = [number, 100 + number].map(|number| {
        let address = SocketAddr::new(service_ip(family, number), 53);
        let service = Service::new(&format!("crowd-{number}"), Protocol::Udp, family);
        (address, service.cluster_ip(address).endpoints(&[endpoint]))
    });
    stage.serve([one.1.clone(), other.1])?.nothing()?;
    let [one_as, other_as, endpoint_as, plain_as] =
        [one.0, other.0, endpoint, plain].map(|address| dialect.address(address));

    let mut sockets = Vec::new();
    for service in [one_as, other_as].into_iter().cycle().take(SOCKETS) {
        sockets.push(connected(stage, dialect, service)?);
    }
    all(&sockets).context("connected one after the other")?;

    // Each third goes to the other Service, to its endpoint, or to somebody else.
    for (socket, number) in sockets.iter_mut().zip(0..) {
        let other = if socket.peer == one_as { other_as } else { one_as };
        let to = match number % 3 {
            0 => other,
            1 => endpoint_as,
            _ => plain_as,
        };
        socket.connect(to)?;
    }
    all(&sockets).context("connected elsewhere")?;
    for socket in &mut sockets {
        socket.connect(one_as)?;
    }
    all(&sockets).context("connected to one Service")?;

    // What some leave others may take, among them some that had none.
    sockets = sockets.into_iter().step_by(2).collect();
    for socket in sockets.iter_mut().step_by(2) {
        socket.socket.disconnect()?;
        socket.connect(other_as)?;
    }
    for _ in 0..SOCKETS / 2 {
        sockets.push(connected(stage, dialect, other_as)?);
    }
    all(&sockets).context("among new ones")?;

    // The next agent changes nothing for those that are connected, nor does the Service's end.
    stage.restart();
    stage.apply_all()?.nothing()?;
    all(&sockets).context("taken over")?;
    stage.remove([one.1.key])?.nothing()?;
    // Where packets are translated, the flow goes with the Service: `stale_udp`.
    if stage.decides_at_calls() { all(&sockets).context("without the Service") } else { Ok(()) }
}

fn connected<'w>(
    stage: &Stage<'w>,
    dialect: Dialect,
    service: SocketAddr,
) -> Result<Connected<'w>> {
    let socket = stage.world().pod("client")?.open(dialect.socket())?;
    let mut socket = Connected { socket, peer: service };
    socket.connect(service)?;
    Ok(socket)
}

fn all(sockets: &[Connected<'_>]) -> Result<()> {
    sockets.iter().try_for_each(Connected::expect)
}
