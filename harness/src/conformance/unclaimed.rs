//! A family or protocol that a backend does not claim is left to others, untouched.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use shunt_core::backend::LeftReason;

use super::{Dialect, Service, Stage, service_ip};

/// One Service in each dialect that is not claimed.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    let claimed = stage.dialects();
    let others = Dialect::ALL.into_iter().filter(|dialect| !claimed.contains(dialect));
    for (number, dialect) in (1..).zip(others) {
        one(stage, dialect, number).with_context(|| dialect.to_string())?;
    }
    Ok(())
}

fn one(stage: &mut Stage<'_>, dialect: Dialect, number: u16) -> Result<()> {
    let Dialect { protocol, family, .. } = dialect;
    let endpoints = stage.farm(protocol, family, 8000 + 10 * number, 3)?;
    let address = SocketAddr::new(service_ip(family, number), 80);
    let service = Service::new("unclaimed", protocol, family);
    let service = service.cluster_ip(address).endpoints(&endpoints);
    let key = service.key.clone();
    stage.serve([service])?.only(&key, |reason| {
        [LeftReason::Family(family), LeftReason::Protocol(protocol)].contains(reason)
    })?;
    stage.expect_untouched(stage.client()?, dialect, address)?;
    stage.remove([key])?.nothing()
}
