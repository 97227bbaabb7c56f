//! A new agent takes over what the old one left: nothing is lost meanwhile.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use shunt_core::backend::Feature;

use super::{
    Dialect, Service, Stage,
    meanwhile::{Caller, expect_served_all, meanwhile},
    service_ip,
};
use crate::probe::{Burst, How};

/// Restarts during connects; what an agent without memory serves, keeps and removes.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    let mut services = Vec::new();
    for (number, dialect) in (1..).zip(stage.dialects()) {
        let Dialect { protocol, family, .. } = dialect;
        let endpoints = stage.farm(protocol, family, 8000 + 10 * number, 4)?;
        let address = SocketAddr::new(service_ip(family, number), 80);
        let service = Service::new(&format!("kept-{number}"), protocol, family);
        services.push((dialect, address, endpoints.clone()));
        stage.serve([service.cluster_ip(address).endpoints(&endpoints)])?.nothing()?;
    }
    without_agent(stage, &services)?;
    partial_list(stage, &services)?;
    resized(stage, &services)?;
    for (dialect, address, endpoints) in services {
        during_restarts(stage, dialect, address, &endpoints)
            .with_context(|| format!("{dialect}: connects during restarts"))?;
    }
    Ok(())
}

type Served = (Dialect, SocketAddr, Vec<SocketAddr>);

/// What was applied is served, read back and shown without any agent; the next one knows it.
fn without_agent(stage: &mut Stage<'_>, services: &[Served]) -> Result<()> {
    let client = stage.client()?;
    let before = stage.inspect()?.services;
    ensure!(before.len() == services.len(), "{} ServicePorts are served", before.len());
    let mut sockets = Vec::new();
    for (dialect, address, _) in services {
        let socket = client.open(dialect.socket())?;
        socket.connect(How::Connect, dialect.address(*address))?;
        sockets.push((socket, dialect.address(*address)));
    }
    stage.stop();
    for (dialect, address, endpoints) in services {
        stage.expect_served(client, *dialect, *address, endpoints)?;
    }
    stage.restart();
    ensure!(stage.inspect()?.services == before, "without an agent the state reads otherwise");
    stage.start().context("take-over")?;
    ensure!(stage.inspect()?.services == before, "take-over changed what is served");
    stage.restart();
    stage.apply_all()?.nothing()?;
    ensure!(stage.inspect()?.services == before, "the same state again changed what is served");
    stage.expect_healthy()?;
    if stage.can(Feature::PeerName) {
        for (socket, address) in sockets {
            let peer = socket.peer_name()?;
            ensure!(peer == address, "an old socket shows {peer} and not {address}");
        }
    }
    Ok(())
}

/// What an earlier run left is removed by a complete list, and only by that.
fn partial_list(stage: &mut Stage<'_>, services: &[Served]) -> Result<()> {
    let client = stage.client()?;
    let Some((dialect, _, endpoints)) = services.first() else { return Ok(()) };
    let address = SocketAddr::new(service_ip(dialect.family, 500), 80);
    let service = Service::new("forgotten", dialect.protocol, dialect.family);
    let service = service.cluster_ip(address).endpoints(endpoints);
    let key = service.key.clone();
    stage.serve([service])?.nothing()?;
    stage.restart();
    stage.forget(&key);
    stage.apply_first(false)?.nothing()?;
    stage.expect_served(client, *dialect, address, endpoints).context("an incomplete list")?;
    stage.restart();
    stage.apply_first(true)?.nothing()?;
    stage.expect_untouched(client, *dialect, address).context("a complete list")
}

/// Larger tables are new tables: what serves and what live sockets show moves over.
fn resized(stage: &mut Stage<'_>, services: &[Served]) -> Result<()> {
    let client = stage.client()?;
    let mut sockets = Vec::new();
    for (dialect, address, _) in services {
        let socket = client.open(dialect.socket())?;
        socket.connect(How::Connect, dialect.address(*address))?;
        sockets.push((socket, dialect.address(*address)));
    }
    let before = stage.inspect()?.services;
    stage.restart_at(|site| site.room.endpoints *= 2);
    stage.apply_all()?.nothing()?;
    ensure!(stage.inspect()?.services == before, "larger tables changed what is served");
    for (dialect, address, endpoints) in services {
        stage.expect_served(client, *dialect, *address, endpoints).context("larger tables")?;
    }
    if stage.can(Feature::PeerName) {
        for (socket, address) in sockets {
            let peer = socket.peer_name()?;
            ensure!(peer == address, "with larger tables an old socket shows {peer}");
        }
    }
    stage.expect_healthy()
}

fn during_restarts(
    stage: &mut Stage<'_>,
    dialect: Dialect,
    address: SocketAddr,
    endpoints: &[SocketAddr],
) -> Result<()> {
    let mut burst = Burst::new(dialect.socket(), dialect.address(address), 200);
    burst.threads = 2;
    let callers = stage.clients()?.into_iter().map(|pod| Caller::new(pod, burst.clone()));
    let tallies = meanwhile(callers.collect(), || {
        (0..8).try_for_each(|number| {
            // Twice the agent comes back with tables of another size.
            stage.restart_at(|site| match number {
                3 => site.room.endpoints *= 2,
                6 => site.room.endpoints /= 2,
                _ => {}
            });
            stage.apply_all()?.nothing()
        })
    })?;
    expect_served_all(&tallies, endpoints)
}
