//! Load-balancer VIPs with source ranges: enforced, or left untouched.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use shunt_core::backend::{Feature, LeftReason};

use super::{Dialect, Service, Stage, expect::visit, external_ip, service_ip};
use crate::probe::How;

/// Ranges that exclude the client; then the same with affinity.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    for (number, dialect) in (1..).zip(stage.dialects()) {
        one(stage, dialect, number).with_context(|| dialect.to_string())?;
    }
    Ok(())
}

fn one(stage: &mut Stage<'_>, dialect: Dialect, number: u16) -> Result<()> {
    let Dialect { protocol, family, .. } = dialect;
    let endpoints = stage.farm(protocol, family, 8000 + 10 * number, 3)?;
    let cluster = SocketAddr::new(service_ip(family, number), 80);
    let balancer = SocketAddr::new(external_ip(family, number), 80);
    let elsewhere =
        IpNet::new(external_ip(family, 50), if family_is4(dialect) { 32 } else { 128 })?;
    let service = Service::new(&format!("ranges-{number}"), protocol, family)
        .cluster_ip(cluster)
        .load_balancer_ip(balancer)
        .endpoints(&endpoints)
        .source_range(elsewhere);
    let key = service.key.clone();
    let left = stage.serve([service.clone()])?;
    let client = stage.client()?;
    stage.expect_served(client, dialect, cluster, &endpoints)?;
    if stage.can(Feature::SourceRanges) {
        left.nothing()?;
        let visit = visit(client, dialect, How::Connect, balancer);
        ensure!(visit.is_err(), "{balancer} is open to a client outside of the ranges");
        return Ok(());
    }
    let ranges = |reason: &LeftReason| *reason == LeftReason::SourceRanges;
    left.only(&key, ranges)?;
    stage.expect_untouched(client, dialect, balancer)?;

    // Affinity is one for all frontends of a ServicePort, so all go the same way.
    stage.serve([service.clone().affinity(600)])?.only(&key, ranges)?;
    stage.expect_untouched(client, dialect, balancer)?;
    stage.expect_untouched(client, dialect, cluster)?;
    stage.serve([service])?.only(&key, ranges)?;
    stage.expect_served(client, dialect, cluster, &endpoints)?;
    stage.remove([key])?.nothing()
}

const fn family_is4(dialect: Dialect) -> bool {
    matches!(dialect.family, shunt_core::model::Family::V4)
}
