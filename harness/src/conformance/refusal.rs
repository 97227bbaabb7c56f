//! A Service without any endpoint refuses at once, with ECONNREFUSED and nothing else.

use std::net::SocketAddr;

use anyhow::Result;
use shunt_core::backend::{Feature, LeftReason};

use super::{Dialect, Service, Stage, external_ip, service_ip};

/// Every kind of address by every call in every dialect, from everybody.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    stage.in_each(stage.dialects(), one)
}

fn one(stage: &mut Stage<'_>, dialect: Dialect, number: u16) -> Result<()> {
    let Dialect { protocol, family, .. } = dialect;
    let address = SocketAddr::new(service_ip(family, number), 80);
    let external = SocketAddr::new(external_ip(family, number), 80);
    let balancer = SocketAddr::new(external_ip(family, 100 + number), 80);
    let node_port = stage.world().host().at(family, 30_000 + number);
    let service = Service::new(&format!("nobody-{number}"), protocol, family)
        .cluster_ip(address)
        .external_ip(external)
        .load_balancer_ip(balancer)
        .node_port(node_port.port());
    let key = service.key.clone();
    let left = stage.serve([service])?;
    if !stage.can(Feature::Refusal) {
        left.only(&key, |reason| *reason == LeftReason::NoRefusal)?;
        for pod in [stage.client()?, stage.world().host()] {
            stage.expect_untouched(pod, dialect, address)?;
        }
        return Ok(());
    }
    left.nothing()?;
    let frontends = [address, external, balancer, node_port];
    let (at_calls, by_packets): (Vec<_>, Vec<_>) =
        stage.clients()?.into_iter().partition(|pod| stage.decides_calls_of(pod));
    for pod in at_calls {
        frontends.iter().try_for_each(|&to| stage.expect_refused(pod, dialect, to))?;
    }
    stage.expect_rejected(&by_packets, dialect, &frontends)
}
