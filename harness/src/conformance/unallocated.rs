//! An address of a ServiceCIDR that is no Service's is a hole: packets to it are dropped.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use shunt_core::{backend::Feature, model::Family};

use super::{Dialect, Service, Stage, service_ip};

/// Addresses beside a Service's, that of a Service which goes, and a ServiceCIDR that goes.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    if !stage.can(Feature::Forwarded) {
        // A call to such an address is no Service's call: see `unknown_port`.
        return Ok(());
    }
    let nets = |family| {
        let length = if family == Family::V4 { 16 } else { 64 };
        Ok::<_, anyhow::Error>(vec![IpNet::new(service_ip(family, 0), length)?])
    };
    let cidrs = [nets(Family::V4)?, nets(Family::V6)?].concat();
    stage.change_node(|node| {
        node.service_cidrs.insert("kubernetes".into(), cidrs.clone());
    })?;
    let dialects = stage.packet_dialects();
    for (number, &dialect) in (1..).zip(&dialects) {
        one(stage, dialect, number).with_context(|| dialect.to_string())?;
    }
    // An overlapping one changes nothing.
    stage.change_node(|node| {
        let part = IpNet::new(IpAddr::from([10, 96, 0, 0]), 20);
        node.service_cidrs.insert("part".into(), part.into_iter().collect());
    })?;
    let hole = |dialect: Dialect| SocketAddr::new(service_ip(dialect.family, 3_000), 80);
    for &dialect in &dialects {
        stage.expect_silence(stage.client()?, dialect, hole(dialect))?;
    }
    stage.change_node(|node| node.service_cidrs.clear())?;
    for dialect in dialects {
        for pod in stage.clients()? {
            stage.expect_untouched(pod, dialect, hole(dialect))?;
        }
    }
    Ok(())
}

fn one(stage: &mut Stage<'_>, dialect: Dialect, number: u16) -> Result<()> {
    let Dialect { protocol, family, .. } = dialect;
    let endpoints = stage.farm(protocol, family, 8000 + 10 * number, 3)?;
    let address = SocketAddr::new(service_ip(family, number), 80);
    let service = Service::new(&format!("beside-{number}"), protocol, family).cluster_ip(address);
    let key = service.key.clone();
    for pod in stage.clients()? {
        stage.expect_silence(pod, dialect, address).context("before")?;
    }
    stage.serve([service.endpoints(&endpoints)])?.nothing()?;
    for pod in stage.clients()? {
        stage.expect_served(pod, dialect, address, &endpoints)?;
        let beside = SocketAddr::new(service_ip(family, 200 + number), 80);
        stage.expect_silence(pod, dialect, beside).context("beside")?;
    }
    stage.remove([key])?.nothing()?;
    for pod in stage.clients()? {
        stage.expect_silence(pod, dialect, address).context("afterwards")?;
    }
    Ok(())
}
