//! One agent at a time: a second one is refused and told who the first is.

use std::{net::SocketAddr, process};

use anyhow::{Context as _, Result, anyhow, ensure};
use shunt_core::backend::Bell;

use super::{Service, Stage, service_ip};

/// A second agent starts and cleans up beside the first; then the first ends.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    let Some(&dialect) = stage.dialects().first() else { return Ok(()) };
    let endpoints = stage.farm(dialect.protocol, dialect.family, 8000, 2)?;
    let address = SocketAddr::new(service_ip(dialect.family, 1), 80);
    let service = Service::new("first", dialect.protocol, dialect.family).cluster_ip(address);
    stage.serve([service.endpoints(&endpoints)])?.nothing()?;

    let mut rival = stage.rival();
    let refused = stage.block_on(rival.start(Bell::default()));
    let refused = refused.err().context("a second agent was let in")?;
    let refused = format!("{:#}", anyhow!(refused));
    let first = process::id().to_string();
    ensure!(refused.contains(&first), "the refusal does not name process {first}: {refused}");
    let cleaned = stage.block_on(rival.cleanup());
    ensure!(cleaned.is_err(), "cleaned up under a running agent: {cleaned:?}");
    stage.expect_served(stage.client()?, dialect, address, &endpoints)?;
    // Reading needs no leave.
    let seen = stage.block_on(rival.inspect())?;
    ensure!(seen.services.len() == 1, "a second agent reads {:?}", seen.services);

    stage.stop();
    stage.block_on(rival.start(Bell::default())).context("after the first agent's end")?;
    stage.expect_served(stage.client()?, dialect, address, &endpoints)
}
