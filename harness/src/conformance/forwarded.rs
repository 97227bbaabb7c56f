//! Packets without a socket on this node are served, or left alone whole.

use std::net::SocketAddr;

use anyhow::Result;
use shunt_core::backend::Feature;

use super::{Dialect, Service, Stage, external_ip, service_ip};

/// A Service at every kind of address, dialled from outside and from a pod of another node. Where
/// such a pod's source stays, its endpoint has to be on this node: answers from its own node would
/// not come this way.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    stage.in_each(stage.packet_dialects(), one)
}

fn one(stage: &mut Stage<'_>, dialect: Dialect, number: u16) -> Result<()> {
    let Dialect { protocol, family, .. } = dialect;
    let all = stage.farm(protocol, family, 8000 + 10 * number, 6)?;
    let own_pod = stage.world().pod("echo-1")?.addresses().of(family);
    let endpoints: Vec<_> = all.into_iter().filter(|e| e.ip() == own_pod).collect();
    let cluster = SocketAddr::new(service_ip(family, number), 80);
    let external = SocketAddr::new(external_ip(family, number), 80);
    let balancer = SocketAddr::new(external_ip(family, 100 + number), 80);
    let node_port = stage.world().host().at(family, 30_000 + number);
    let service = Service::new(&format!("forwarded-{number}"), protocol, family)
        .cluster_ip(cluster)
        .external_ip(external)
        .load_balancer_ip(balancer)
        .node_port(node_port.port())
        .endpoints(&endpoints);
    let key = service.key.clone();
    stage.serve([service])?.nothing()?;
    let clients = [stage.world().outside()?, stage.world().pod("echo-2")?];
    for pod in clients {
        for to in [cluster, external, balancer] {
            if stage.can(Feature::Forwarded) {
                stage.expect_served(pod, dialect, to, &endpoints)?;
            } else {
                stage.expect_untouched(pod, dialect, to)?;
            }
        }
        if stage.can(Feature::Forwarded) {
            stage.expect_served(pod, dialect, node_port, &endpoints)?;
        }
    }
    stage.remove([key])?.nothing()?;
    clients.into_iter().try_for_each(|pod| stage.expect_untouched(pod, dialect, external))
}
