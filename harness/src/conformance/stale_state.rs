//! What a socket remembers is shown only where it is true of what is shown.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use shunt_core::model::{Family, Protocol};

use super::{Service, Stage, service_ip};
use crate::{
    probe::How,
    until,
    world::{KernelSocket, Pod},
};

/// UDP sockets whose memory is of something else than what they now receive or are connected to.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    let dialects = stage.dialects();
    let udp = dialects.into_iter().filter(|dialect| dialect.protocol == Protocol::Udp);
    for (number, dialect) in (1..).zip(udp) {
        let endpoint = stage.server("echo-1", dialect, 8000 + number)?;
        let plain = stage.server("echo-2", dialect, 8000 + number)?;
        let [good, bad] = [number, 100 + number]
            .map(|number| SocketAddr::new(service_ip(dialect.family, number), 53));
        let service = |name: &str, address, endpoint| {
            let service = Service::new(&format!("{name}-{number}"), Protocol::Udp, dialect.family);
            service.cluster_ip(address).endpoints(&[endpoint])
        };
        let unreachable = unreachable(dialect.family);
        stage
            .serve([service("good", good, endpoint), service("bad", bad, unreachable)])?
            .nothing()?;
        let [good, bad, endpoint, plain] =
            [good, bad, endpoint, plain].map(|address| dialect.address(address));
        let client = stage.client()?;
        let open = || client.open(dialect.socket());
        after_sends(&open()?, good, endpoint).with_context(|| format!("{dialect}: sends"))?;
        queued(client, &open()?, good, plain).with_context(|| format!("{dialect}: queued"))?;
        // Elsewhere the address that is dialled is none at which connect() fails.
        if stage.decides_at_calls() {
            failed(&open()?, good, bad).with_context(|| format!("{dialect}: failed connect"))?;
        }
    }
    Ok(())
}

/// An address at which a connect fails after the hooks have run: broadcast without the socket's
/// leave, or link-local without an interface.
const fn unreachable(family: Family) -> SocketAddr {
    let address = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::BROADCAST),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)),
    };
    SocketAddr::new(address, 9)
}

/// A socket that sent to a Service connects to the endpoint itself: from now on it talks to that.
fn after_sends(socket: &KernelSocket<'_>, service: SocketAddr, endpoint: SocketAddr) -> Result<()> {
    socket.ask(service)?;
    socket.connect(How::Connect, endpoint)?;
    socket.send()?;
    let from = socket.receive()?.from;
    ensure!(from == Some(endpoint), "connected to {endpoint}, recvfrom shows {from:?}");
    Ok(())
}

/// A datagram that came before the socket was connected to a Service is not the Service's.
fn queued(
    client: &Pod,
    socket: &KernelSocket<'_>,
    service: SocketAddr,
    plain: SocketAddr,
) -> Result<()> {
    socket.send_to(plain)?;
    let port = socket.local_name()?.port();
    until("the answer to wait in the socket", Duration::from_secs(5), || {
        has_datagrams(client, port).then_some(())
    })?;
    socket.connect(How::Connect, service)?;
    let from = socket.receive()?.from;
    ensure!(from == Some(plain), "{plain} is shown as {from:?}");
    Ok(())
}

/// Whether something waits in the pod's UDP socket with this local port: in `/proc/net/udp` the
/// second field is `address:port`, the fifth `sending:waiting`, all hexadecimal.
fn has_datagrams(pod: &Pod, port: u16) -> bool {
    let port = format!(":{port:04X}");
    ["udp", "udp6"].iter().any(|table| {
        let table = fs::read_to_string(format!("/proc/{}/net/{table}", pod.pid()));
        table.unwrap_or_default().lines().any(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, local, _, _, queues, ..] = fields.as_slice() else { return false };
            local.ends_with(&port) && !queues.ends_with(":00000000")
        })
    })
}

/// A connect that failed leaves the socket connected to what it was: never to the other Service.
fn failed(socket: &KernelSocket<'_>, good: SocketAddr, bad: SocketAddr) -> Result<()> {
    socket.connect(How::Connect, good)?;
    let result = socket.connect(How::Connect, bad);
    ensure!(result.is_err(), "the connect to {bad} is to fail");
    let peer = socket.peer_name()?;
    ensure!(peer != bad, "after a failed connect the socket shows {peer}");
    socket.send()?;
    let from = socket.receive()?.from;
    ensure!(from.is_some() && from != Some(bad), "after a failed connect recvfrom shows {from:?}");
    Ok(())
}
