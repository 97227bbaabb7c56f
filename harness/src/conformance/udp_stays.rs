//! Two datagrams of one socket to one Service go to one endpoint as long as it is usable.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use shunt_core::model::Protocol;

use super::{Dialect, Service, Stage, service_ip};
use crate::until;

/// Many datagrams, changes of other endpoints, then the endpoint goes.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    for (number, dialect) in (1..).zip(stage.dialects()) {
        if dialect.protocol == Protocol::Udp {
            stays(stage, dialect, number).with_context(|| dialect.to_string())?;
        }
    }
    Ok(())
}

fn stays(stage: &mut Stage<'_>, dialect: Dialect, number: u16) -> Result<()> {
    let all = stage.farm(Protocol::Udp, dialect.family, 8000 + number * 20, 8)?;
    let address = SocketAddr::new(service_ip(dialect.family, number), 53);
    let service = Service::new(&format!("stays-{number}"), Protocol::Udp, dialect.family);
    let service = service.cluster_ip(address);
    stage.serve([service.clone().endpoints(&all)])?.nothing()?;

    let socket = stage.client()?.open(dialect.socket())?;
    let ask = || Ok::<_, anyhow::Error>(socket.ask(dialect.address(address))?.said.endpoint);
    let first = ask()?;
    for _ in 0..20 {
        let next = ask()?;
        ensure!(next == first, "moved from {first} to {next} while {first} was usable");
    }
    // Half of the others go; what stays is in other places of the list now.
    let mut fewer: Vec<_> = all.iter().copied().filter(|&endpoint| endpoint != first).collect();
    fewer.truncate(3);
    fewer.push(first);
    stage.serve([service.clone().endpoints(&fewer)])?.nothing()?;
    let next = ask()?;
    ensure!(next == first, "moved from {first} to {next} when others went");

    let without: Vec<_> = fewer.into_iter().filter(|&endpoint| endpoint != first).collect();
    stage.serve([service.endpoints(&without)])?.nothing()?;
    // Where packets are translated, the flow is forgotten soon after the change.
    let patience = if stage.decides_calls_of(stage.client()?) { 0 } else { 20 };
    let what = format!("{first} not to answer any more");
    let next = until(&what, Duration::from_secs(patience), || {
        ask().ok().filter(|next| without.contains(next))
    })?;
    for _ in 0..10 {
        ensure!(ask()? == next, "moved from {next} while it was usable");
    }
    Ok(())
}
