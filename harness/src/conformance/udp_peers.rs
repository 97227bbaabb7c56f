//! An unconnected UDP socket knows its peers apart.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use shunt_core::{backend::Feature, model::Protocol};

use super::{Dialect, Service, Stage, service_ip};

/// Peers that a socket remembers at least.
const PEERS: u16 = 16;

/// Sixteen Services by one socket, then a seventeenth; two Services on one endpoint.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    if !stage.can(Feature::PeerName) {
        // Then a packet path translates back, which needs no memory in the socket.
        return Ok(());
    }
    for (number, dialect) in (1..).zip(stage.dialects()) {
        if dialect.protocol == Protocol::Udp {
            many(stage, dialect, number * 100).with_context(|| format!("{dialect}: many"))?;
            shared(stage, dialect, number * 100 + 50)
                .with_context(|| format!("{dialect}: one endpoint of two Services"))?;
        }
    }
    Ok(())
}

fn many(stage: &mut Stage<'_>, dialect: Dialect, first: u16) -> Result<()> {
    let endpoints = stage.farm(dialect.protocol, dialect.family, 8000 + first, PEERS + 1)?;
    let peers: Vec<_> = endpoints
        .iter()
        .zip(first..)
        .map(|(&endpoint, number)| {
            let address = SocketAddr::new(service_ip(dialect.family, number), 53);
            let service = Service::new(&format!("many-{number}"), Protocol::Udp, dialect.family);
            (address, service.cluster_ip(address).endpoints(&[endpoint]))
        })
        .collect();
    stage.serve(peers.iter().map(|(_, service)| service.clone()))?.nothing()?;

    let socket = stage.client()?.open(dialect.socket())?;
    let neighbour = stage.client()?.open(dialect.socket())?;
    let (last, sixteen) = peers.split_last().context("there are peers")?;
    neighbour.send_to(dialect.address(last.0))?;
    // All are asked before any answer is taken: the answers must be told apart afterwards.
    for (address, _) in sixteen {
        socket.send_to(dialect.address(*address))?;
    }
    let mut shown = Vec::new();
    for _ in sixteen {
        let received = socket.receive()?;
        let owner = peers.iter().find(|(_, service)| {
            service.port.endpoints.iter().any(|e| e.address == received.said.endpoint)
        });
        let (address, _) = owner.context("a stranger answered")?;
        let expected = Some(dialect.address(*address));
        ensure!(received.from == expected, "{:?} instead of {expected:?}", received.from);
        shown.push(received.from);
    }
    shown.sort_unstable();
    shown.dedup();
    ensure!(shown.len() == sixteen.len(), "only {} different peers", shown.len());
    // The seventeenth takes the place of the one used longest ago, in this socket alone.
    let received = socket.ask(dialect.address(last.0))?;
    ensure!(received.from == Some(dialect.address(last.0)), "17th: {:?}", received.from);
    let received = neighbour.receive()?;
    ensure!(received.from == Some(dialect.address(last.0)), "neighbour: {:?}", received.from);
    Ok(())
}

/// Of two Service addresses on one endpoint, the one sent to last is shown.
fn shared(stage: &mut Stage<'_>, dialect: Dialect, first: u16) -> Result<()> {
    let endpoint = stage.server("echo-1", dialect, 8000 + first)?;
    let addresses =
        [first, first + 1].map(|number| SocketAddr::new(service_ip(dialect.family, number), 53));
    let services = addresses.map(|address| {
        let service = Service::new(&format!("shared-{address}"), Protocol::Udp, dialect.family);
        service.cluster_ip(address).endpoints(&[endpoint])
    });
    stage.serve(services)?.nothing()?;
    let socket = stage.client()?.open(dialect.socket())?;
    let [one, two] = addresses.map(|address| dialect.address(address));
    for to in [one, two, two, one, two, one] {
        let from = socket.ask(to)?.from;
        ensure!(from == Some(to), "sent to {to}, shown {from:?}");
    }
    // A send to the endpoint itself is no Service's.
    let plain = dialect.address(endpoint);
    let from = socket.ask(plain)?.from;
    ensure!(from == Some(plain), "sent to the endpoint itself, shown {from:?}");
    Ok(())
}
