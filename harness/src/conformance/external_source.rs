//! `externalTrafficPolicy: Local` on the packet path: who gets which list, and whose source stays.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use shunt_core::backend::Feature;

use super::{Dialect, LocalPods, Service, Source, Stage, external_ip, service_ip};
use crate::world::Pod;

/// With local endpoints and without, from a pod, from the host and from outside; with pods
/// recognised, and not.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    if !stage.can(Feature::Forwarded) {
        // What starts on this node is in `external_local`.
        return Ok(());
    }
    let mut cases = Vec::new();
    for (number, dialect) in (1..).zip(stage.packet_dialects()) {
        let endpoints = stage.farm(dialect.protocol, dialect.family, 8000 + 10 * number, 6)?;
        cases.push((number, dialect, endpoints));
    }
    for local_pods in [LocalPods::ClusterCidr, LocalPods::NodeCidr, LocalPods::Unknown] {
        stage.restart_at(|site| site.local_pods = local_pods);
        for (number, dialect, endpoints) in &cases {
            one(stage, *dialect, *number, endpoints)
                .with_context(|| format!("{local_pods:?}, {dialect}"))?;
        }
    }
    Ok(())
}

fn one(stage: &mut Stage<'_>, dialect: Dialect, number: u16, all: &[SocketAddr]) -> Result<()> {
    let Dialect { protocol, family, .. } = dialect;
    let own_pod = stage.world().pod("echo-1")?.addresses().of(family);
    let local: Vec<_> = all.iter().copied().filter(|e| e.ip() == own_pod).collect();
    let external = SocketAddr::new(external_ip(family, number), 80);
    let balancer = SocketAddr::new(external_ip(family, 100 + number), 80);
    let node_port = stage.world().host().at(family, 30_000 + number);
    let frontends = [external, balancer, node_port];
    let service = Service::new(&format!("keeping-{number}"), protocol, family)
        .cluster_ip(SocketAddr::new(service_ip(family, number), 80))
        .external_ip(external)
        .load_balancer_ip(balancer)
        .node_port(node_port.port())
        .endpoints(all)
        .external_local();
    for local in [&local[..], &[]] {
        stage.serve([service.clone().local(local)])?.nothing()?;
        let clients = ["client", "echo-2", "outside"].map(|name| stage.world().pod(name));
        for to in frontends {
            for client in &clients {
                let client = *client.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
                from_elsewhere(stage, client, dialect, to, all, local)?;
            }
            let host = stage.world().host();
            stage.expect_reach(host, dialect, to, all, Source::Masqueraded)?;
        }
    }
    Ok(())
}

fn from_elsewhere(
    stage: &Stage<'_>,
    client: &Pod,
    dialect: Dialect,
    to: SocketAddr,
    all: &[SocketAddr],
    local: &[SocketAddr],
) -> Result<()> {
    let is_local_pod = match stage.site().local_pods {
        LocalPods::Unknown => false,
        LocalPods::ClusterCidr => client.name() != "outside",
        LocalPods::NodeCidr | LocalPods::Bridge | LocalPods::Prefix => client.name() == "client",
    };
    if client.name() == "echo-2" && is_local_pod {
        // Answers from its own node would not come this way.
        return Ok(());
    }
    if is_local_pod || stage.decides_calls_of(client) {
        stage.expect_reach(client, dialect, to, all, Source::Kept)
    } else if local.is_empty() {
        stage.expect_silence(client, dialect, to)
    } else {
        stage.expect_reach(client, dialect, to, local, Source::Kept)
    }
}
