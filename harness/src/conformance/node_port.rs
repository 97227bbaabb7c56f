//! NodePorts: on the selected addresses of this node, and on loopback from the host alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use shunt_core::{
    backend::Feature,
    model::{Family, Protocol},
};

use super::{
    Dialect, Service, Stage,
    expect::{transport, visit},
    service_ip,
};

/// A Service with a NodePort in each dialect.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    if !stage.can(Feature::NodePort) {
        // No reason of its own exists for this: no backend leaves it yet.
        ensure!(!stage.can(Feature::LoopbackNodePort), "loopback NodePorts are NodePorts");
        return Ok(());
    }
    stage.in_each(stage.dialects(), one)
}

fn one(stage: &mut Stage<'_>, dialect: Dialect, number: u16) -> Result<()> {
    let Dialect { protocol, family, .. } = dialect;
    let port = 30000 + number;
    let endpoints = stage.farm(protocol, family, 8000 + 10 * number, 3)?;
    let service = Service::new(&format!("node-port-{number}"), protocol, family)
        .cluster_ip(SocketAddr::new(service_ip(family, number), 80))
        .node_port(port)
        .endpoints(&endpoints);
    stage.serve([service.clone()])?.nothing()?;

    let (client, host) = (stage.client()?, stage.world().host());
    let first = host.at(family, port);
    let second = stage.world().second_host_addresses().at(family, port);
    let loopback = SocketAddr::new(loopback(family), port);
    host.serve(transport(protocol), &[second])?;
    for pod in stage.clients()? {
        stage.expect_served(pod, dialect, first, &endpoints)?;
        plain(stage, pod, dialect, second, "host")?;
    }
    client.serve(transport(protocol), &[loopback])?;
    plain(stage, client, dialect, loopback, "client")?;
    if stage.can(Feature::LoopbackNodePort) {
        stage.expect_served(host, dialect, loopback, &endpoints)?;
    }

    // Addresses that are selected later, and those that no longer are.
    stage.select_node_addresses([first.ip(), second.ip()])?;
    for pod in stage.clients()? {
        stage.expect_served(pod, dialect, second, &endpoints)?;
        stage.expect_served(pod, dialect, first, &endpoints)?;
    }
    stage.select_node_addresses([second.ip()])?;
    host.serve(transport(protocol), &[first])?;
    for pod in stage.clients()? {
        plain(stage, pod, dialect, first, "host")?;
        stage.expect_served(pod, dialect, second, &endpoints)?;
    }
    stage.select_node_addresses([Family::V4, Family::V6].map(|f| host.addresses().of(f)))?;

    stage.remove([service.key])?.nothing()?;
    stage.clients()?.into_iter().try_for_each(|pod| plain(stage, pod, dialect, first, "host"))
}

/// A connection to `to` reaches what really listens there.
fn plain(
    stage: &Stage<'_>,
    pod: &crate::world::Pod,
    dialect: Dialect,
    to: SocketAddr,
    server: &str,
) -> Result<()> {
    debug_assert!(matches!(dialect.protocol, Protocol::Tcp | Protocol::Udp));
    let shown = stage.world().name();
    for how in dialect.hows() {
        let visit = visit(pod, dialect, how, to)
            .with_context(|| format!("{shown}: {how:?} from {} to {to}", pod.name()))?;
        ensure!(
            visit.said.server == server && visit.peer == dialect.address(to),
            "{how:?} from {} to {to} was translated to {}",
            pod.name(),
            visit.said.endpoint
        );
    }
    Ok(())
}

const fn loopback(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Family::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
    }
}
