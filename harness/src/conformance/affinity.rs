//! ClientIP affinity: one client, one endpoint, over all frontends of the ServicePort.

use std::{collections::BTreeSet, net::SocketAddr};

use anyhow::{Context as _, Result, ensure};
use shunt_core::backend::Feature;

use super::{Dialect, Service, Stage, expect::visit, external_ip, service_ip};
use crate::world::Pod;

/// So many endpoints that two clients hardly ever have the same by chance.
const ENDPOINTS: u16 = 30;

/// Clients and what each remembers; an endpoint that goes.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    if !stage.can(Feature::Affinity) {
        // No reason of its own exists for this: no backend leaves it yet.
        return Ok(());
    }
    let mut apart = false;
    for (number, dialect) in (1..).zip(stage.dialects()) {
        apart |= one(stage, dialect, number).with_context(|| dialect.to_string())?;
    }
    ensure!(apart, "all clients were always sent to one endpoint: that is no chance");
    Ok(())
}

/// Says whether different clients were sent to different endpoints.
fn one(stage: &mut Stage<'_>, dialect: Dialect, number: u16) -> Result<bool> {
    let Dialect { protocol, family, .. } = dialect;
    let all = stage.farm(protocol, family, 8000 + 40 * number, ENDPOINTS)?;
    let cluster = SocketAddr::new(service_ip(family, number), 80);
    let node_port = stage.world().host().at(family, 30000 + number);
    let external = SocketAddr::new(external_ip(family, number), 80);
    let service = Service::new(&format!("sticky-{number}"), protocol, family)
        .cluster_ip(cluster)
        .external_ip(external)
        .node_port(node_port.port())
        .affinity(600);
    stage.serve([service.clone().endpoints(&all)])?.nothing()?;
    let mut frontends = vec![cluster];
    if stage.can(Feature::ExternalAddresses) {
        frontends.push(external);
    }
    if stage.can(Feature::NodePort) {
        frontends.push(node_port);
    }

    let mut clients = stage.clients()?;
    clients.insert(1, stage.world().pod("client-2")?);
    let mut chosen = Vec::new();
    for client in &clients {
        chosen.push(one_of(client, dialect, &frontends)?);
    }

    // Others go: nobody moves. The remembered one goes: its clients are sent elsewhere and stay.
    let gone = chosen[0];
    let kept: BTreeSet<_> = chosen.iter().copied().collect();
    let fewer: Vec<_> = all.into_iter().filter(|e| kept.contains(e) || e.port() % 2 == 0).collect();
    stage.serve([service.clone().endpoints(&fewer)])?.nothing()?;
    for (client, &before) in clients.iter().zip(&chosen) {
        let now = one_of(client, dialect, &frontends)?;
        ensure!(now == before, "{} moved from {before} to {now}", client.name());
    }
    let without: Vec<_> = fewer.into_iter().filter(|&endpoint| endpoint != gone).collect();
    stage.serve([service.endpoints(&without)])?.nothing()?;
    for (client, &before) in clients.iter().zip(&chosen) {
        let now = one_of(client, dialect, &frontends)?;
        ensure!(without.contains(&now), "{} reached {now}, which is gone", client.name());
        ensure!(now == before || before == gone, "{} moved without need", client.name());
    }
    after_restart(stage, dialect, &frontends)?;
    Ok(kept.len() > 1)
}

/// What a client remembers survives the agent.
fn after_restart(stage: &mut Stage<'_>, dialect: Dialect, frontends: &[SocketAddr]) -> Result<()> {
    let client = stage.client()?;
    let before = one_of(client, dialect, frontends)?;
    stage.restart();
    stage.apply_all()?.nothing()?;
    let now = one_of(client, dialect, frontends)?;
    ensure!(now == before, "a restart moved the client from {before} to {now}");
    Ok(())
}

/// The one endpoint that a client reaches at all frontends by all calls.
fn one_of(client: &Pod, dialect: Dialect, frontends: &[SocketAddr]) -> Result<SocketAddr> {
    let mut reached = BTreeSet::new();
    for how in dialect.hows() {
        for &to in frontends.iter().chain(frontends) {
            reached.insert(visit(client, dialect, how, to)?.said.endpoint);
        }
    }
    ensure!(reached.len() == 1, "{} was sent to {reached:?}", client.name());
    reached.into_iter().next().context("something was reached")
}
