//! What someone else takes away is noticed and repaired: here the cgroup itself, removed and made
//! again under the same name.

use std::{fs, net::SocketAddr, path::Path, process, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::{Dialect, Service, Stage, service_ip};
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
    if stage.expect_untouched(stage.client()?, dialect, address).is_err() {
        // A backend that does not live in a cgroup has lost nothing.
        stage.expect_served(stage.client()?, dialect, address, &endpoints)?;
        return stage.expect_healthy();
    }

    let verdict = stage.verify()?;
    ensure!(
        !verdict.problems.is_empty() || !verdict.repaired.is_empty(),
        "the loss of the cgroup was not noticed"
    );
    if verdict.reapply {
        stage.apply_all()?.nothing()?;
    }
    stage.expect_served(stage.client()?, dialect, address, &endpoints).context("after repair")?;
    stage.expect_healthy()
}

fn enter(cgroup: &Path, processes: &[u32]) -> Result<()> {
    for pid in processes {
        fs::write(cgroup.join("cgroup.procs"), pid.to_string())
            .with_context(|| format!("cannot move {pid} to {}", cgroup.display()))?;
    }
    Ok(())
}
