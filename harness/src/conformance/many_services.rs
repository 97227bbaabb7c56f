//! Many Services side by side: each is served by its own endpoints.

use std::{collections::HashMap, net::SocketAddr};

use anyhow::{Context as _, Result, ensure};

use super::{Dialect, Service, Stage, service_ip};
use crate::probe::Burst;

/// Services of each dialect.
const SERVICES: u16 = 150;

/// All in one Delta, each dialled; then all but every third go.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    stage.in_each(stage.dialects(), one)
}

fn one(stage: &mut Stage<'_>, dialect: Dialect, number: u16) -> Result<()> {
    let Dialect { protocol, family, .. } = dialect;
    let all = stage.farm(protocol, family, 8000 + 20 * number, 18)?;
    let mut owners = HashMap::new();
    let mut services = Vec::new();
    for service in 0..SERVICES {
        let address = SocketAddr::new(service_ip(family, 1000 * number + service), 80);
        let set = &all[usize::from(service % 15)..usize::from(service % 15) + 3];
        owners.insert(dialect.address(address), set.to_vec());
        let name = format!("many-{number}-{service}");
        let service = Service::new(&name, protocol, family);
        services.push(service.cluster_ip(address).endpoints(set));
    }
    stage.serve(services.clone())?.nothing()?;
    let addresses: Vec<_> = services
        .iter()
        .flat_map(|service| &service.port.frontends)
        .filter_map(|frontend| {
            let address = SocketAddr::new(frontend.kind.address()?, frontend.port.get());
            Some(dialect.address(address))
        })
        .collect();
    dial(stage, dialect, &addresses, &owners)?;

    let (kept, gone): (Vec<_>, Vec<_>) =
        services.into_iter().zip(&addresses).enumerate().partition(|(n, _)| n % 3 == 0);
    let gone_keys = gone.iter().map(|(_, (service, _))| service.key.clone());
    stage.remove(gone_keys)?.nothing()?;
    let kept: Vec<_> = kept.into_iter().map(|(_, (_, address))| *address).collect();
    dial(stage, dialect, &kept, &owners)?;
    for (_, (service, _)) in gone.iter().take(5) {
        for frontend in &service.port.frontends {
            let ip = frontend.kind.address().context("a clusterIP has an address")?;
            let address = SocketAddr::new(ip, frontend.port.get());
            stage.expect_untouched(stage.client()?, dialect, address)?;
        }
    }
    Ok(())
}

fn dial(
    stage: &Stage<'_>,
    dialect: Dialect,
    addresses: &[SocketAddr],
    owners: &HashMap<SocketAddr, Vec<SocketAddr>>,
) -> Result<()> {
    let mut burst = Burst::new(dialect.socket(), dialect.address(addresses[0]), 2000);
    burst.to = addresses.to_vec();
    burst.threads = 2;
    burst.log = true;
    let tally = stage.client()?.burst(burst)?;
    ensure!(tally.failed() == 0, "failed connects: {:?}", tally.failures);
    for call in tally.calls {
        let reached = call.reached.context("no call failed")?;
        let own = owners.get(&call.to).is_some_and(|own| own.contains(&reached));
        ensure!(own, "{} reached {reached}, which is another Service's", call.to);
    }
    Ok(())
}
