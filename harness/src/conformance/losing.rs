//! Losing one of two dataplanes costs nobody a connection, and it comes back.

use std::{fs, net::SocketAddr, path::Path, process, time::Duration};

use anyhow::{Context as _, Result, ensure};
use shunt_core::{backend::Feature, model::Family};

use super::{
    Dialect, Service, Stage,
    meanwhile::{Caller, expect_served_all, meanwhile},
    service_ip,
    table::Damage,
};
use crate::{probe::Burst, until};

/// How often each is lost.
const TURNS: usize = 3;

/// The table is deleted, then the cgroup goes with its links, while a pod and the host connect.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    if !(stage.can(Feature::Forwarded) && stage.decides_at_calls()) {
        // There are no two of which one could be lost: `repair` and `lost_cgroup` have the rest.
        return Ok(());
    }
    let cell = stage.world().cgroup().join("cell");
    fs::create_dir(&cell).context("cannot make the cell")?;
    let inhabitants = [stage.client()?.pid(), stage.world().host().pid(), process::id()];
    enter(&cell, &inhabitants)?;
    stage.restart_at(|site| site.cgroup = Some(cell.clone()));
    let dialects = stage.packet_dialects();
    for (number, &dialect) in (1..).zip(&dialects) {
        one(stage, dialect, number, &cell, &inhabitants).with_context(|| dialect.to_string())?;
    }
    Ok(())
}

fn one(
    stage: &mut Stage<'_>,
    dialect: Dialect,
    number: u16,
    cell: &Path,
    inhabitants: &[u32],
) -> Result<()> {
    let Dialect { protocol, family, .. } = dialect;
    let endpoints = stage.farm(protocol, family, 8000 + 10 * number, 4)?;
    let address = SocketAddr::new(service_ip(family, number), 80);
    let service = Service::new(&format!("standby-{number}"), protocol, family);
    stage.serve([service.cluster_ip(address).endpoints(&endpoints)])?.nothing()?;
    let burst = Burst::new(dialect.socket(), address, 100);
    let pods = [stage.client()?, stage.world().host()];
    let callers = || pods.map(|pod| Caller::new(pod, burst.clone())).to_vec();
    let tallies = meanwhile(callers(), || {
        (0..TURNS).try_for_each(|_| {
            Family::ALL
                .into_iter()
                .try_for_each(|family| stage.damage(&Damage::Table(family)).map(drop))?;
            stage.expect_bell().context("the table was lost")?;
            stage.repair()?;
            stage.expect_healthy()
        })
    })?;
    expect_served_all(&tallies, &endpoints).context("while the table was lost")?;
    let outside = stage.world().outside()?;
    stage.expect_served(outside, dialect, address, &endpoints).context("with the table again")?;

    let home = stage.world().host().cgroup().to_owned();
    let tallies = meanwhile(callers(), || {
        (0..TURNS).try_for_each(|_| {
            enter(&home, inhabitants)?;
            until("the cell to be removable", Duration::from_secs(20), || {
                fs::remove_dir(cell).ok()
            })?;
            fs::create_dir(cell).context("cannot make the cell again")?;
            enter(cell, inhabitants)?;
            let verdict = stage.repair()?;
            let is_told = !verdict.problems.is_empty() || !verdict.repaired.is_empty();
            ensure!(is_told, "the loss of the links was not noticed");
            stage.expect_healthy()
        })
    })?;
    expect_served_all(&tallies, &endpoints).context("while the links were lost")
}

pub(super) fn enter(cgroup: &Path, processes: &[u32]) -> Result<()> {
    for pid in processes {
        fs::write(cgroup.join("cgroup.procs"), pid.to_string())
            .with_context(|| format!("cannot move {pid} to {}", cgroup.display()))?;
    }
    Ok(())
}
