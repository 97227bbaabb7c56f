//! Endpoints come and go: each set serves from the moment at which apply returns.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use nix::errno::Errno;
use shunt_core::backend::Feature;

use super::{Dialect, Service, Stage, service_ip};

/// 1 → 0 → 1 → 5 → 4 → another one.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    stage.in_each(stage.dialects(), one)
}

fn one(stage: &mut Stage<'_>, dialect: Dialect, number: u16) -> Result<()> {
    let Dialect { protocol, family, .. } = dialect;
    let all = stage.farm(protocol, family, 8000 + 10 * number, 6)?;
    let address = SocketAddr::new(service_ip(family, number), 80);
    let service = Service::new(&format!("changing-{number}"), protocol, family);
    let service = service.cluster_ip(address);
    let key = service.key.clone();
    let client = stage.client()?;
    for set in [&all[..1], &[], &all[..1], &all[..5], &all[1..5], &all[5..], &[], &all[2..3]] {
        stage.serve([service.clone().endpoints(set)])?;
        if !set.is_empty() {
            stage
                .expect_served(client, dialect, address, set)
                .with_context(|| format!("with {} endpoints", set.len()))?;
        } else if stage.can(Feature::Refusal) {
            let failure = client.visit(dialect.socket(), dialect.address(address)).err();
            let errno = failure.as_ref().and_then(|failure| Some(failure.errno()?.1));
            ensure!(errno == Some(Errno::ECONNREFUSED), "without endpoints: {failure:?}");
        }
    }
    stage.remove([key])?.nothing()?;
    stage.expect_untouched(client, dialect, address)?;
    stage.serve([service.endpoints(&all)])?.nothing()?;
    stage.expect_served(client, dialect, address, &all)
}
