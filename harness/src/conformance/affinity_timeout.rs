//! The time-out of ClientIP affinity slides: every new connection renews it.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use shunt_core::backend::Feature;

use super::{Dialect, Service, Stage, service_ip};
use crate::{probe::monotonic, until};

/// The time-out, in seconds.
const TIMEOUT: u32 = 1;

const ENDPOINTS: u16 = 30;

/// All dialects at once: connections at intervals below the time-out, then a pause above it.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    if !stage.can(Feature::Affinity) {
        return Ok(());
    }
    let mut all = Vec::new();
    for (number, dialect) in (1..).zip(stage.dialects()) {
        let Dialect { protocol, family, .. } = dialect;
        let endpoints = stage.farm(protocol, family, 8000 + 40 * number, ENDPOINTS)?;
        let address = SocketAddr::new(service_ip(family, number), 80);
        let service = Service::new(&format!("sliding-{number}"), protocol, family)
            .cluster_ip(address)
            .endpoints(&endpoints)
            .affinity(TIMEOUT);
        stage.serve([service])?.nothing()?;
        all.push((dialect, address));
    }
    let visit_all = || {
        let visit = |(dialect, address): &(Dialect, SocketAddr)| {
            let visit = stage.client()?.visit(dialect.socket(), dialect.address(*address));
            Ok(visit.with_context(|| dialect.to_string())?.said.endpoint)
        };
        all.iter().map(visit).collect::<Result<Vec<_>>>()
    };

    let first = renewed(&visit_all)?;
    // One dialect forgets and is sent to the same endpoint by chance once in 30 times.
    let mut moved = vec![false; first.len()];
    for _ in 0..6 {
        pass(Duration::from_millis(1200))?;
        for ((moved, now), before) in moved.iter_mut().zip(visit_all()?).zip(&first) {
            *moved |= now != *before;
        }
        if moved.iter().all(|moved| *moved) {
            return Ok(());
        }
    }
    let stuck = all.iter().zip(moved).filter(|(_, moved)| !moved);
    let stuck: Vec<_> = stuck.map(|((dialect, _), _)| dialect.to_string()).collect();
    anyhow::bail!("the time-out never came for {}", stuck.join(", "))
}

/// Visits at intervals that together are longer than the time-out and each alone shorter, and
/// returns what was reached all the time.
fn renewed(visit_all: &impl Fn() -> Result<Vec<SocketAddr>>) -> Result<Vec<SocketAddr>> {
    let limit = u64::from(TIMEOUT) * 1_000_000_000;
    // A busy machine may stretch an interval; such a round proves nothing.
    for _ in 0..10 {
        let mut asked = monotonic();
        let first = visit_all()?;
        let mut stretched = false;
        let mut moved = false;
        for _ in 0..4 {
            pass(Duration::from_millis(400))?;
            let before = std::mem::replace(&mut asked, monotonic());
            moved |= visit_all()? != first;
            stretched |= monotonic() - before > limit * 9 / 10;
        }
        if !stretched {
            ensure!(!moved, "a connection did not renew the time-out");
            return Ok(first);
        }
    }
    anyhow::bail!("the machine is too busy for a time-out of {TIMEOUT} s")
}

/// Waits until the kernel's clock has moved on by `time`.
fn pass(time: Duration) -> Result<()> {
    let start = monotonic();
    until("the clock to move on", time * 10, || {
        (u128::from(monotonic() - start) > time.as_nanos()).then_some(())
    })
}
