//! A table that is full: what does not fit is left whole, and nothing else breaks.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use shunt_core::backend::LeftReason;

use super::{Dialect, Room, Service, Stage, service_ip};

/// Small tables; more Services than fit, and one Service with more endpoints than fit.
const ROOM: Room = Room { services: 24, frontends: 24, endpoints: 256, sockets: 2 };

/// Fills each table over its size and empties it again.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    stage.restart_at(|site| site.room = ROOM);
    let Some(&dialect) = stage.dialects().first() else { return Ok(()) };
    let endpoints = stage.farm(dialect.protocol, dialect.family, 8000, 3)?;
    let address = |number| SocketAddr::new(service_ip(dialect.family, number), 80);
    let service = |number: u16| {
        let service = Service::new(&format!("full-{number}"), dialect.protocol, dialect.family);
        service.cluster_ip(address(number)).endpoints(&endpoints)
    };
    stage.serve([service(1)])?.nothing()?;
    endpoints_full(stage, dialect, &service(2), address(2), &endpoints)?;
    stage.expect_served(stage.client()?, dialect, address(1), &endpoints)?;

    let numbers = 3..100;
    let left = stage.serve(numbers.clone().map(service))?.0;
    if left.is_empty() {
        // A backend whose tables grow has nothing to be full.
        return Ok(());
    }
    for number in numbers.clone() {
        match left.get(&service(number).key) {
            Some(LeftReason::Full(_)) => {
                stage.expect_untouched(stage.client()?, dialect, address(number))?;
            }
            Some(other) => anyhow::bail!("left because {other}"),
            None => stage.expect_served(stage.client()?, dialect, address(number), &endpoints)?,
        }
    }
    ensure!(left.len() < numbers.len(), "not one of {} Services was taken", numbers.len());
    stage.expect_served(stage.client()?, dialect, address(1), &endpoints)?;

    // Room that becomes free is used again.
    stage.remove(numbers.map(|number| service(number).key))?.nothing()?;
    for number in 3..10 {
        stage.serve([service(number)])?.nothing()?;
        stage.expect_served(stage.client()?, dialect, address(number), &endpoints)?;
    }
    stage.expect_healthy()
}

/// A Service of more endpoints than there is room for, and of few again.
fn endpoints_full(
    stage: &mut Stage<'_>,
    dialect: Dialect,
    service: &Service,
    address: SocketAddr,
    few: &[SocketAddr],
) -> Result<()> {
    let client = stage.client()?;
    stage.serve([service.clone()])?.nothing()?;
    stage.expect_served(client, dialect, address, few)?;
    let many: Vec<_> = (1..=1000)
        .map(|number| SocketAddr::new(service_ip(dialect.family, 50_000 + number), 80))
        .collect();
    let left = stage.serve([service.clone().endpoints(&many)])?;
    if left.0.is_empty() {
        return stage.serve([service.clone()])?.nothing();
    }
    left.only(&service.key, |reason| matches!(reason, LeftReason::Full(_)))?;
    stage.expect_untouched(client, dialect, address)?;
    stage.serve([service.clone()])?.nothing()?;
    stage.expect_served(client, dialect, address, few)
}
