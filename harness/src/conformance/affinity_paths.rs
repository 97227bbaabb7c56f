//! ClientIP affinity is one memory over the cluster list and the local list of a ServicePort.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use shunt_core::backend::Feature;

use super::{Dialect, Service, Stage, expect::visit, external_ip, service_ip};
use crate::probe::How;

/// A client outside that gets the cluster list at the ClusterIP and the local list elsewhere.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    if !(stage.can(Feature::Affinity) && stage.can(Feature::Forwarded)) {
        // What starts on this node gets one list only: `affinity` has that.
        return Ok(());
    }
    stage.in_each(stage.packet_dialects(), one)
}

fn one(stage: &mut Stage<'_>, dialect: Dialect, number: u16) -> Result<()> {
    let Dialect { protocol, family, .. } = dialect;
    let all = stage.farm(protocol, family, 8000 + 40 * number, 30)?;
    let own_pod = stage.world().pod("echo-1")?.addresses().of(family);
    let (local, far): (Vec<_>, Vec<_>) = all.iter().copied().partition(|e| e.ip() == own_pod);
    let cluster = SocketAddr::new(service_ip(family, number), 80);
    let external = SocketAddr::new(external_ip(family, number), 80);
    let node_port = stage.world().host().at(family, 30_000 + number);
    let service = Service::new(&format!("paths-{number}"), protocol, family)
        .cluster_ip(cluster)
        .external_ip(external)
        .node_port(node_port.port())
        .external_local()
        .affinity(600);
    let outside = stage.world().outside()?;
    let ask = |to| Ok::<_, anyhow::Error>(visit(outside, dialect, How::Connect, to)?.said.endpoint);

    // Only the far ones at first: the local list is in use, and empty.
    stage.serve([service.clone().endpoints(&far)])?.nothing()?;
    let first = ask(cluster)?;
    ensure!(far.contains(&first), "reached {first}");
    // Remembered, but in no local list: chosen anew, and remembered for all.
    stage.serve([service.clone().endpoints(&all).local(&local)])?.nothing()?;
    ensure!(ask(cluster)? == first, "moved when others came");
    let second = ask(external)?;
    ensure!(local.contains(&second), "the local list has {local:?}, reached {second}");
    for to in [node_port, cluster, external, cluster, node_port] {
        let reached = ask(to)?;
        ensure!(reached == second, "{to} reached {reached}, remembered was {second}");
    }
    // The remembered one goes.
    let rest: Vec<_> = all.into_iter().filter(|&endpoint| endpoint != second).collect();
    let local: Vec<_> = local.into_iter().filter(|&endpoint| endpoint != second).collect();
    stage.serve([service.endpoints(&rest).local(&local)])?.nothing()?;
    let third = ask(node_port)?;
    ensure!(local.contains(&third), "reached {third}");
    for to in [cluster, external] {
        let reached = ask(to)?;
        ensure!(reached == third, "{to} reached {reached}, remembered was {third}");
    }
    Ok(())
}
