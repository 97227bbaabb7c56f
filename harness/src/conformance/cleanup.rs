//! Cleaning up removes every trace, says what it removed, and finds nothing the second time.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};

use super::{Dialect, Service, Stage, service_ip};

/// With services in the kernel, after the agent's end; and where nothing ever was.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    expect_nothing_left(stage).context("where nothing ever was")?;
    let mut served = Vec::new();
    for (number, dialect) in (1..).zip(stage.dialects()) {
        let Dialect { protocol, family, .. } = dialect;
        let endpoints = stage.farm(protocol, family, 8000 + 10 * number, 3)?;
        let address = SocketAddr::new(service_ip(family, number), 80);
        let service = Service::new(&format!("passing-{number}"), protocol, family);
        stage.serve([service.cluster_ip(address).endpoints(&endpoints)])?.nothing()?;
        stage.expect_served(stage.client()?, dialect, address, &endpoints)?;
        served.push((dialect, address));
    }
    stage.restart();
    let removed = stage.cleanup()?;
    ensure!(!removed.is_empty() || served.is_empty(), "cleaning up removed nothing");
    ensure!(removed.iter().all(|line| !line.trim().is_empty()), "an empty line: {removed:?}");
    for (dialect, address) in served {
        stage.expect_untouched(stage.client()?, dialect, address)?;
    }
    stage.restart();
    expect_nothing_left(stage).context("after a first cleanup")
}

fn expect_nothing_left(stage: &mut Stage<'_>) -> Result<()> {
    let removed = stage.cleanup()?;
    ensure!(removed.is_empty(), "cleaning up removed {removed:?}");
    let services = stage.inspect()?.services;
    ensure!(services.is_empty(), "still served: {services:?}");
    let pins = &stage.site().pin_path;
    ensure!(!pins.exists(), "{} is still there", pins.display());
    Ok(())
}
