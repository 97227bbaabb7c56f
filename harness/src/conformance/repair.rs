//! What somebody else takes from the tables is noticed, told and put back.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use shunt_core::{
    backend::{Feature, Verdict},
    model::Family,
};

use super::{Dialect, Service, Stage, external_ip, service_ip, table::Damage};

/// The tables deleted, each chain flushed, the elements of each set and map deleted.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    if !stage.can(Feature::Forwarded) {
        for family in Family::ALL {
            ensure!(!stage.has_table(family)?, "a table for packets that are not served");
        }
        return Ok(());
    }
    let mut served = Vec::new();
    for (number, dialect) in (1..).zip(stage.packet_dialects()) {
        let Dialect { protocol, family, .. } = dialect;
        let endpoints = stage.farm(protocol, family, 8000 + 10 * number, 3)?;
        let cluster = SocketAddr::new(service_ip(family, number), 80);
        let balancer = SocketAddr::new(external_ip(family, number), 80);
        let service = Service::new(&format!("mended-{number}"), protocol, family)
            .cluster_ip(cluster)
            .load_balancer_ip(balancer)
            .node_port(30_000 + number)
            .endpoints(&endpoints)
            .local(&endpoints[..1]);
        // One of each kind, so that every chain and map is of use to somebody.
        let service = match number {
            1 => service.affinity(600),
            2 => service.source_range(stage.world().outside()?.addresses().of(family).into()),
            3 => service.external_local(),
            _ => service,
        };
        stage.serve([service])?.nothing()?;
        served.push((dialect, cluster, endpoints));
    }
    let served_all = |stage: &Stage<'_>| {
        let outside = stage.world().outside()?;
        served.iter().try_for_each(|(dialect, cluster, endpoints)| {
            stage.expect_served(outside, *dialect, *cluster, endpoints)
        })
    };
    served_all(stage)?;
    let mut damages: Vec<_> = Family::ALL.map(Damage::Table).into();
    // Both families have the same shape: one of each is enough.
    for (number, chain) in stage.chains(Family::V4)?.into_iter().enumerate() {
        damages.push(Damage::Chain(Family::ALL[number % 2], chain));
    }
    for (number, set) in stage.sets(Family::V4)?.into_iter().enumerate() {
        damages.push(Damage::Elements(Family::ALL[number % 2], set));
    }
    for damage in damages {
        let before = stage.inspect()?.services;
        let is_there = match &damage {
            Damage::Chain(family, chain) => stage.chains(*family)?.contains(chain),
            Damage::Table(_) | Damage::Elements(..) => true,
        };
        if !is_there || !stage.damage(&damage)? {
            continue;
        }
        mended(stage).with_context(|| format!("{damage:?}"))?;
        served_all(stage).with_context(|| format!("after the repair of {damage:?}"))?;
        ensure!(stage.inspect()?.services == before, "{damage:?} was not put back as it was");
    }
    Ok(())
}

/// The bell rings, what was wrong is told and nothing else is, and nothing is wrong any more.
fn mended(stage: &mut Stage<'_>) -> Result<()> {
    let told = |verdict: &Verdict| verdict.problems.len() + verdict.repaired.len();
    let verdict = loop {
        // It may still ring for what was damaged before: the kernel tells of each element.
        stage.expect_bell()?;
        let verdict = stage.repair()?;
        if told(&verdict) > 0 {
            break verdict;
        }
    };
    // One table was damaged, and a look at the other one has to find it as it was written.
    ensure!(told(&verdict) == 1, "one thing is to be told of: {verdict:?}");
    stage.expect_healthy()
}
