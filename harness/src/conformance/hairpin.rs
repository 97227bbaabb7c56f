//! Hairpin: a pod that dials a Service and is its endpoint itself is answered.

use std::net::SocketAddr;

use anyhow::Result;

use super::{Dialect, Service, Source, Stage, service_ip};

/// The only endpoint dials its Service; then there is another one.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    stage.in_each(stage.packet_dialects(), one)
}

fn one(stage: &mut Stage<'_>, dialect: Dialect, number: u16) -> Result<()> {
    let Dialect { protocol, family, .. } = dialect;
    let own = stage.server("echo-1", dialect, 8000 + number)?;
    let other = stage.server("echo-2", dialect, 8000 + number)?;
    let address = SocketAddr::new(service_ip(family, number), 80);
    let service = Service::new(&format!("self-{number}"), protocol, family).cluster_ip(address);
    stage.serve([service.clone().endpoints(&[own]).local(&[own])])?.nothing()?;
    let pod = stage.world().pod("echo-1")?;
    let source = if stage.decides_calls_of(pod) { Source::Kept } else { Source::Masqueraded };
    stage.expect_reach(pod, dialect, address, &[own], source)?;
    // Nobody else's source is changed by that.
    let client = stage.client()?;
    stage.expect_reach(client, dialect, address, &[own], Source::Kept)?;

    stage.serve([service.endpoints(&[own, other]).local(&[own])])?.nothing()?;
    stage.expect_served(pod, dialect, address, &[own, other])?;
    stage.expect_reach(client, dialect, address, &[own, other], Source::Kept)
}
