//! `externalTrafficPolicy: Local`: what starts on this node gets the cluster list.

use std::net::SocketAddr;

use anyhow::Result;
use shunt_core::backend::Feature;

use super::{Dialect, Service, Stage, external_ip, service_ip};

/// With local endpoints and without them, at every kind of frontend.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    stage.in_each(stage.dialects(), one)
}

fn one(stage: &mut Stage<'_>, dialect: Dialect, number: u16) -> Result<()> {
    let Dialect { protocol, family, .. } = dialect;
    let all = stage.farm(protocol, family, 8000 + 10 * number, 6)?;
    let own_pod = stage.world().pod("echo-1")?.addresses().of(family);
    let local: Vec<_> = all.iter().copied().filter(|e| e.ip() == own_pod).collect();
    let cluster = SocketAddr::new(service_ip(family, number), 80);
    let external = SocketAddr::new(external_ip(family, number), 80);
    let node_port = 30000 + number;
    let outside = [
        (Feature::ExternalAddresses, external),
        (Feature::NodePort, stage.world().host().at(family, node_port)),
    ];
    for local in [&local[..], &[]] {
        let service = Service::new(&format!("external-{number}"), protocol, family)
            .cluster_ip(cluster)
            .external_ip(external)
            .node_port(node_port)
            .endpoints(&all)
            .local(local)
            .external_local();
        stage.serve([service])?.nothing()?;
        for pod in [stage.client()?, stage.world().host()] {
            stage.expect_served(pod, dialect, cluster, &all)?;
            for (_, address) in outside.iter().filter(|(feature, _)| stage.can(*feature)) {
                stage.expect_served(pod, dialect, *address, &all)?;
            }
        }
    }
    Ok(())
}
