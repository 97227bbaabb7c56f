//! A ClusterIP that an interface of the node carries is answered there: NodeLocal DNSCache.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use shunt_core::backend::{Feature, LeftReason};

use super::{Dialect, Service, Stage, expect::transport, service_ip};

/// The interface takes the address, and gives it back.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    stage.in_each(stage.dialects(), one)
}

fn one(stage: &mut Stage<'_>, dialect: Dialect, number: u16) -> Result<()> {
    let Dialect { protocol, family, .. } = dialect;
    let endpoints = stage.farm(protocol, family, 8000 + 10 * number, 3)?;
    let address = SocketAddr::new(service_ip(family, number), 53);
    let service = Service::new(&format!("dns-{number}"), protocol, family)
        .cluster_ip(address)
        .endpoints(&endpoints);
    let key = service.key.clone();
    stage.serve([service.clone()])?.nothing()?;
    stage.expect_served(stage.client()?, dialect, address, &endpoints)?;

    let left = stage.serve([service.clone().on_interface("nodelocaldns")])?;
    if stage.can(Feature::Forwarded) {
        left.nothing()?;
        untracked(stage, dialect, address, &endpoints).context("NodeLocal DNSCache")?;
        return stage.serve([service])?.nothing();
    }
    left.only(&key, |reason| matches!(reason, LeftReason::OnInterface(_)))?;
    stage.expect_untouched(stage.client()?, dialect, address)?;

    stage.serve([service])?.nothing()?;
    stage.expect_served(stage.client()?, dialect, address, &endpoints)
}

/// Packets are translated as those to any other ClusterIP, until the cache has them left out of
/// connection tracking; then they are answered by what really listens there.
fn untracked(
    stage: &Stage<'_>,
    dialect: Dialect,
    address: SocketAddr,
    endpoints: &[SocketAddr],
) -> Result<()> {
    let host = stage.world().host();
    host.carry(address.ip())?;
    host.serve(transport(dialect.protocol), &[address])?;
    let outside = stage.world().outside()?;
    stage
        .expect_served(outside, dialect, address, endpoints)
        .context("before the cache is asked")?;
    stage.leave_untracked(address.ip())?;
    for pod in [outside, host] {
        stage.expect_served(pod, dialect, address, &[address])?;
    }
    stage.track(address.ip())?;
    host.carry_no_longer(address.ip())
}
