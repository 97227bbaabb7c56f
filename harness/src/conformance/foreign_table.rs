//! A table of our name that is somebody else's does not keep the backend from serving.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use shunt_core::{backend::Feature, model::Family};

use super::{Dialect, Service, Stage, service_ip};

/// Chains of other kinds that eat everything, sets of other types, before the first start.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    if !stage.can(Feature::Forwarded) {
        // `repair` expects that there are no tables then.
        return Ok(());
    }
    Family::ALL.into_iter().try_for_each(|family| stage.squat(family))?;
    let mut served = Vec::new();
    for (number, dialect) in (1..).zip(stage.packet_dialects()) {
        let Dialect { protocol, family, .. } = dialect;
        let endpoints = stage.farm(protocol, family, 8000 + 10 * number, 3)?;
        let address = SocketAddr::new(service_ip(family, number), 80);
        let service = Service::new(&format!("ours-{number}"), protocol, family);
        stage.serve([service.cluster_ip(address).endpoints(&endpoints)])?.nothing()?;
        served.push((dialect, address, endpoints));
    }
    let served_all = |stage: &Stage<'_>| {
        served.iter().try_for_each(|(dialect, address, endpoints)| {
            let mut clients = stage.clients()?.into_iter();
            clients.try_for_each(|pod| stage.expect_served(pod, *dialect, *address, endpoints))
        })
    };
    served_all(stage)?;
    stage.expect_healthy()?;
    // Somebody else's table comes back while nobody looks.
    stage.stop();
    for family in Family::ALL {
        stage.damage(&super::table::Damage::Table(family))?;
        stage.squat(family)?;
    }
    stage.restart();
    stage.apply_all()?.nothing()?;
    served_all(stage).context("at the second time")?;
    stage.expect_healthy()
}
