//! Who dials a ClusterIP from outside of the pods is masqueraded, as far as pods are recognised.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use shunt_core::{backend::Feature, model::Family};

use super::{Dialect, LocalPods, Service, Source, Stage, service_ip};
use crate::world::pod_cidr;

/// Each way of recognising pods, and masqueradeAll.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    if !stage.can(Feature::Forwarded) {
        // `forwarded` expects that such a backend leaves packets alone.
        return Ok(());
    }
    let mut services = Vec::new();
    for (number, dialect) in (1..).zip(stage.packet_dialects()) {
        let Dialect { protocol, family, .. } = dialect;
        let endpoints = ["echo-1", "echo-3"].map(|pod| stage.server(pod, dialect, 8000 + number));
        let [one, two] = endpoints;
        let endpoints = [one?, two?];
        let address = SocketAddr::new(service_ip(family, number), 80);
        let service = Service::new(&format!("seen-{number}"), protocol, family);
        stage.serve([service.cluster_ip(address).endpoints(&endpoints)])?.nothing()?;
        let service = Service::new(&format!("near-{number}"), protocol, family);
        let service = service.cluster_ip(near(address)).endpoints(&endpoints[..1]);
        stage.serve([service])?.nothing()?;
        services.push((dialect, address, endpoints));
    }
    use LocalPods::{Bridge, ClusterCidr, NodeCidr, Prefix, Unknown};
    for (local_pods, all) in [
        (Unknown, false),
        (ClusterCidr, false),
        (NodeCidr, false),
        (Bridge, false),
        (Prefix, false),
        (Unknown, true),
        (ClusterCidr, true),
    ] {
        stage.restart_at(|site| (site.local_pods, site.masquerade_all) = (local_pods, all));
        stage.apply_all()?.nothing()?;
        for (dialect, address, endpoints) in &services {
            seen(stage, *dialect, *address, endpoints)
                .with_context(|| format!("{local_pods:?}"))?;
        }
    }
    stage.restart_at(|site| (site.local_pods, site.masquerade_all) = (NodeCidr, false));
    without_pod_cidr(stage, &services)
}

/// The address of a Service that has only the endpoint on this node.
fn near(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port() + 1)
}

type Served = (Dialect, SocketAddr, [SocketAddr; 2]);

fn seen(
    stage: &Stage<'_>,
    dialect: Dialect,
    address: SocketAddr,
    endpoints: &[SocketAddr],
) -> Result<()> {
    let local_pods = stage.site().local_pods;
    for (name, address, endpoints) in [
        ("client", address, endpoints),
        ("outside", address, endpoints),
        // Answers from its own node would not come this way if its source stays.
        ("echo-2", near(address), &endpoints[..1]),
    ] {
        let is_local_pod = match local_pods {
            LocalPods::Unknown => true,
            // Pods of other nodes are as good.
            LocalPods::ClusterCidr => name != "outside",
            LocalPods::NodeCidr | LocalPods::Bridge | LocalPods::Prefix => name == "client",
        };
        let pod = stage.world().pod(name)?;
        let is_kept = is_local_pod && !stage.site().masquerade_all || stage.decides_calls_of(pod);
        let source = if is_kept { Source::Kept } else { Source::Masqueraded };
        stage.expect_reach(pod, dialect, address, endpoints, source)?;
    }
    stage.expect_reach(stage.world().host(), dialect, address, endpoints, Source::Kept)
}

/// Without a pod CIDR of the Node nobody knows who is a pod: the backend waits.
fn without_pod_cidr(stage: &mut Stage<'_>, services: &[Served]) -> Result<()> {
    let before = stage.inspect()?.services;
    let waiting = stage.change_node(|node| node.pod_cidrs.clear());
    let error = waiting.err().context("applied without a pod CIDR of the Node")?;
    let text = format!("{error:#}").to_lowercase();
    ensure!(text.contains("podcidr") || text.contains("pod cidr"), "does not say why: {text}");
    let after = stage.inspect()?.services;
    ensure!(before == after || stage.decides_at_calls(), "changed without a pod CIDR");
    stage.change_node(|node| {
        node.pod_cidrs = Family::ALL.map(|family| pod_cidr(true, family)).into();
    })?;
    for (dialect, address, endpoints) in services {
        seen(stage, *dialect, *address, endpoints)?;
    }
    Ok(())
}
