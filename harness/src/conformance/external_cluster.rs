//! `externalTrafficPolicy: Cluster`: packets to external addresses are always masqueraded.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use shunt_core::backend::Feature;

use super::{Dialect, LocalPods, Service, Source, Stage, external_ip, service_ip};

/// Every kind of external address, from everybody, whether pods are recognised or not.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    if !stage.can(Feature::Forwarded) {
        // Without packets nobody is masqueraded: `external_address` has what remains.
        return Ok(());
    }
    for local_pods in [LocalPods::ClusterCidr, LocalPods::Unknown] {
        stage.restart_at(|site| site.local_pods = local_pods);
        for (number, dialect) in (1..).zip(stage.packet_dialects()) {
            one(stage, dialect, number).with_context(|| format!("{local_pods:?}, {dialect}"))?;
        }
    }
    Ok(())
}

fn one(stage: &mut Stage<'_>, dialect: Dialect, number: u16) -> Result<()> {
    let Dialect { protocol, family, .. } = dialect;
    let echo = |pod| stage.server(pod, dialect, 8000 + number);
    // They listen already when this comes here for the second time.
    let _ = (echo("echo-1"), echo("echo-2"));
    let endpoints = ["echo-1", "echo-2"].map(|pod| stage.world().pod(pod));
    let [one, two] = endpoints;
    let endpoints = [one?.at(family, 8000 + number), two?.at(family, 8000 + number)];
    let external = SocketAddr::new(external_ip(family, number), 80);
    let balancer = SocketAddr::new(external_ip(family, 100 + number), 80);
    let node_port = stage.world().host().at(family, 30_000 + number);
    let service = Service::new(&format!("always-{number}"), protocol, family)
        .cluster_ip(SocketAddr::new(service_ip(family, number), 80))
        .external_ip(external)
        .load_balancer_ip(balancer)
        .node_port(node_port.port())
        .endpoints(&endpoints)
        .local(&endpoints[..1]);
    stage.serve([service])?.nothing()?;
    for pod in ["client", "echo-3", "outside"].map(|name| stage.world().pod(name)) {
        let pod = pod?;
        let source = if stage.decides_calls_of(pod) { Source::Kept } else { Source::Masqueraded };
        for to in [external, balancer, node_port] {
            stage.expect_reach(pod, dialect, to, &endpoints, source)?;
        }
    }
    let host = stage.world().host();
    [external, balancer, node_port]
        .into_iter()
        .try_for_each(|to| stage.expect_reach(host, dialect, to, &endpoints, Source::Masqueraded))
}
