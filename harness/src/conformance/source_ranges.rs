//! Load-balancer VIPs with source ranges: enforced, or left untouched.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use shunt_core::backend::{Feature, LeftReason};

use super::{Dialect, Service, Stage, external_ip, service_ip};
use crate::{probe::How, world::Pod};

/// Ranges that exclude everybody; where they are enforced, ranges of each client and of the node,
/// and none; else the same with affinity.
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
        stage
            .clients()?
            .into_iter()
            .try_for_each(|pod| stage.expect_silence(pod, dialect, balancer))?;
        return enforced(stage, dialect, number, &endpoints);
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

/// One VIP after the other, and addresses that no range concerns.
fn enforced(
    stage: &mut Stage<'_>,
    dialect: Dialect,
    number: u16,
    endpoints: &[SocketAddr],
) -> Result<()> {
    let Dialect { protocol, family, .. } = dialect;
    let balancer = SocketAddr::new(external_ip(family, 20 + number), 80);
    let external = SocketAddr::new(external_ip(family, 120 + number), 80);
    let node_port = stage.world().host().at(family, 30_000 + number);
    let service = Service::new(&format!("range-{number}"), protocol, family)
        .cluster_ip(SocketAddr::new(service_ip(family, 100 + number), 80))
        .load_balancer_ip(balancer)
        .external_ip(external)
        .node_port(node_port.port())
        .endpoints(endpoints);
    for allowed in stage.clients()? {
        let range = IpNet::from(allowed.addresses().of(family));
        let service = service.clone().source_range(range);
        stage.serve([service])?.nothing()?;
        for pod in stage.clients()? {
            let what = || format!("{} alone is allowed", allowed.name());
            if pod.name() == allowed.name() {
                stage.expect_served(pod, dialect, balancer, endpoints).with_context(what)?;
            } else {
                stage.expect_silence(pod, dialect, balancer).with_context(what)?;
            }
            for to in [external, node_port] {
                stage.expect_served(pod, dialect, to, endpoints)?;
            }
        }
    }
    // The last range goes: open to everybody.
    stage.serve([service.clone()])?.nothing()?;
    for pod in stage.clients()? {
        stage.expect_served(pod, dialect, balancer, endpoints).context("everybody is allowed")?;
    }
    own_vip(stage, dialect, &service, balancer).context("from the VIP itself")
}

/// Where the node carries a VIP, that is the source of what it sends there: allowed if a range
/// contains the node's primary address.
fn own_vip(
    stage: &mut Stage<'_>,
    dialect: Dialect,
    service: &Service,
    balancer: SocketAddr,
) -> Result<()> {
    let host = stage.world().host();
    let from_vip = SocketAddr::new(balancer.ip(), 0);
    let ranges = [host, stage.world().outside()?].map(|pod| pod.addresses().of(dialect.family));
    host.carry(balancer.ip())?;
    stage.serve([service.clone().source_range(IpNet::from(ranges[0]))])?.nothing()?;
    answered(host, dialect, from_vip, balancer)?;
    stage.serve([service.clone().source_range(IpNet::from(ranges[1]))])?.nothing()?;
    stage.expect_silence_from(host, dialect, balancer, from_vip)?;
    host.carry_no_longer(balancer.ip())
}

fn answered(pod: &Pod, dialect: Dialect, from: SocketAddr, to: SocketAddr) -> Result<()> {
    let socket = pod.open(dialect.socket())?;
    socket.bind(dialect.address(from))?;
    socket.connect(How::Connect, dialect.address(to))?;
    if dialect.protocol == shunt_core::model::Protocol::Udp {
        socket.send()?;
    }
    socket.receive().context("not answered").map(drop)
}

const fn family_is4(dialect: Dialect) -> bool {
    matches!(dialect.family, shunt_core::model::Family::V4)
}
