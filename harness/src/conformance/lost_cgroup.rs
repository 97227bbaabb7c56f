//! What someone else takes away is noticed and repaired: here the cgroup itself, removed and made
//! again under the same name.

use std::{fs, net::SocketAddr, process, time::Duration};

use anyhow::{Context as _, Result, ensure};
use shunt_core::backend::Feature;

use super::{Dialect, Service, Stage, losing::enter, service_ip};
use crate::until;

/// The agent and the client move into a cgroup of their own, which is then lost.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    let world = stage.world();
    let cell = world.cgroup().join("cell");
    fs::create_dir(&cell).context("cannot make the cell")?;
    let inhabitants = [stage.client()?.pid(), process::id()];
    enter(&cell, &inhabitants)?;
    stage.restart_at(|site| site.cgroup = Some(cell.clone()));

    let Some(&dialect) = stage.dialects().first() else { return Ok(()) };
    let Dialect { protocol, family, .. } = dialect;
    let endpoints = stage.farm(protocol, family, 8000, 3)?;
    let address = SocketAddr::new(service_ip(family, 1), 80);
    let service = Service::new("lost", protocol, family).cluster_ip(address);
    stage.serve([service.endpoints(&endpoints)])?.nothing()?;
    stage.expect_served(stage.client()?, dialect, address, &endpoints)?;
    stage.expect_healthy()?;

    enter(world.host().cgroup(), &inhabitants)?;
    until("the cell to be removable", Duration::from_secs(5), || fs::remove_dir(&cell).ok())?;
    fs::create_dir(&cell).context("cannot make the cell again")?;
    enter(&cell, &inhabitants)?;
    if stage.can(Feature::Forwarded) {
        // Who looks at packets serves them wherever they come from.
        stage.expect_served(stage.client()?, dialect, address, &endpoints)?;
    } else {
        stage.expect_untouched(stage.client()?, dialect, address)?;
    }
    let verdict = stage.repair()?;
    let is_told = !verdict.problems.is_empty() || !verdict.repaired.is_empty();
    ensure!(is_told == stage.decides_at_calls(), "of the cgroup's loss is told: {verdict:?}");
    stage.expect_served(stage.client()?, dialect, address, &endpoints).context("after repair")?;
    stage.expect_healthy()
}
