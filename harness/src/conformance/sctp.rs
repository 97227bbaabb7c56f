//! SCTP: taken, or left for a stated reason without harm to others.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use shunt_core::{backend::LeftReason, model::Protocol};

use super::{Dialect, Service, Stage, service_ip};

/// An SCTP ServicePort beside another one of the same address and port.
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
    let address = SocketAddr::new(service_ip(family, number), 80);
    let sctp = Service::new("sctp", Protocol::Sctp, family);
    let sctp = sctp.cluster_ip(address).endpoints(&endpoints);
    let key = sctp.key.clone();
    let other = Service::new(&format!("other-{number}"), protocol, family);
    let left = stage.serve([sctp, other.cluster_ip(address).endpoints(&endpoints)])?;
    if stage.capabilities().protocols.contains(&Protocol::Sctp) {
        left.nothing()?;
    } else {
        left.only(&key, |reason| *reason == LeftReason::Protocol(Protocol::Sctp))?;
    }
    stage.expect_served(stage.client()?, dialect, address, &endpoints)?;
    stage.remove([key])?.nothing()?;
    stage.expect_served(stage.client()?, dialect, address, &endpoints)
}
