//! An agent that is killed between any two instructions leaves a state that serves.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use shunt_core::model::{Family, Protocol};

use super::{
    Dialect, Service, Stage,
    agent::Script,
    meanwhile::{Caller, expect_served_all, meanwhile},
    service_ip,
};
use crate::{
    probe::{Burst, monotonic},
    until,
};

/// Agents killed one after the other.
const KILLS: u64 = 8;

/// Agents that change endpoints without pause are killed; connects go on, the next one takes over.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    let dialect = Dialect { protocol: Protocol::Tcp, family: Family::V4, mapped: false };
    if !stage.dialects().contains(&dialect) {
        return Ok(());
    }
    let endpoints = stage.farm(dialect.protocol, dialect.family, 8000, 6)?;
    let script = Script {
        cgroup: stage.site().cgroup.clone(),
        pin_path: stage.site().pin_path.clone(),
        name: "surviving".to_owned(),
        address: SocketAddr::new(service_ip(dialect.family, 1), 80),
        sets: vec![
            endpoints[..1].to_vec(),
            endpoints[..2].to_vec(),
            endpoints[..4].to_vec(),
            endpoints[1..4].to_vec(),
            endpoints[4..].to_vec(),
        ],
        verdict: stage.world().folder().join("verdict"),
    };
    let Service { key, port } = script.service(&endpoints);
    stage.serve([Service { key, port }])?.nothing()?;
    stage.stop();

    let client = stage.client()?;
    let burst = Burst::new(dialect.socket(), script.address, 200);
    let callers = stage.clients()?.into_iter().map(|pod| Caller::new(pod, burst.clone()));
    let tallies = meanwhile(callers.collect(), || {
        (0..KILLS).try_for_each(|number| kill_one(stage, &script, number))
    })?;
    expect_served_all(&tallies, &endpoints)?;

    stage.restart();
    stage.serve([script.service(&endpoints[2..4])])?.nothing()?;
    stage.expect_served(client, dialect, script.address, &endpoints[2..4])?;
    stage.expect_healthy()
}

fn kill_one(stage: &Stage<'_>, script: &Script, number: u64) -> Result<()> {
    let _ = std::fs::remove_file(&script.verdict);
    let mut agent = script.command(stage)?.spawn().context("cannot start another agent")?;
    let problems = script.verdict(stage, &mut agent);
    // Another moment for each agent: the phase of its work is what matters.
    let start = monotonic();
    let pause = Duration::from_micros(700 * number);
    let waited = until("the moment", Duration::from_secs(5), || {
        (u128::from(monotonic() - start) >= pause.as_nanos()).then_some(())
    });
    agent.kill().context("cannot kill the agent")?;
    agent.wait().context("cannot wait for the agent")?;
    waited?;
    let problems = problems.with_context(|| format!("agent {number}"))?;
    ensure!(problems.is_empty(), "agent {number} found {problems:?}");
    Ok(())
}
