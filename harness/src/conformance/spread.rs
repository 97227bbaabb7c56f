//! The choice among usable endpoints is uniformly random.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};

use super::{Dialect, Service, Stage, service_ip};
use crate::probe::{Burst, How, Tally};

/// Visits for each dialect and call.
const VISITS: u32 = 400;

/// Endpoints of the Service.
const ENDPOINTS: u16 = 4;

/// With 3 degrees of freedom a uniform choice exceeds this once in 30 million.
const CHI_SQUARED: f64 = 38.0;

/// One Service in each dialect, many visits by each call.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    for (number, dialect) in (1..).zip(stage.dialects()) {
        let Dialect { protocol, family, .. } = dialect;
        let endpoints = stage.farm(protocol, family, 8000 + 10 * number, ENDPOINTS)?;
        let address = SocketAddr::new(service_ip(family, number), 80);
        let service = Service::new(&format!("spread-{number}"), protocol, family);
        stage.serve([service.cluster_ip(address).endpoints(&endpoints)])?.nothing()?;
        for how in dialect.hows() {
            let mut burst = Burst::new(dialect.socket(), dialect.address(address), VISITS);
            burst.how = how;
            burst.threads = 2;
            let tally = stage.client()?.burst(burst)?;
            judge(&tally, &endpoints).with_context(|| format!("{dialect} {how:?}"))?;
        }
        spread_of_one_socket(stage, dialect, address)?;
    }
    Ok(())
}

/// The choice is made anew for each connection, from the host as well.
fn spread_of_one_socket(stage: &Stage<'_>, dialect: Dialect, address: SocketAddr) -> Result<()> {
    let mut burst = Burst::new(dialect.socket(), dialect.address(address), 60);
    burst.how = How::Connect;
    let tally = stage.world().host().burst(burst)?;
    let reached = tally.reached.len();
    ensure!(
        reached == usize::from(ENDPOINTS),
        "{dialect} from the host: {reached} endpoints reached, {:?}",
        tally.failures
    );
    Ok(())
}

fn judge(tally: &Tally, endpoints: &[SocketAddr]) -> Result<()> {
    ensure!(tally.failed() == 0, "failures: {:?}", tally.failures);
    let strangers: Vec<_> = tally.reached.keys().filter(|a| !endpoints.contains(a)).collect();
    ensure!(strangers.is_empty(), "reached {strangers:?}");
    let expected = f64::from(VISITS) / f64::from(ENDPOINTS);
    let chi_squared: f64 = endpoints
        .iter()
        .map(|endpoint| f64::from(tally.reached.get(endpoint).copied().unwrap_or(0)))
        .map(|seen| (seen - expected).powi(2) / expected)
        .sum();
    ensure!(chi_squared < CHI_SQUARED, "not uniform ({chi_squared}): {:?}", tally.reached);
    Ok(())
}
