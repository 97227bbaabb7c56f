//! What is no Service's is untouched: another port, protocol or address.

use std::net::SocketAddr;

use anyhow::Result;
use shunt_core::model::Protocol;

use super::{Dialect, Service, Stage, service_ip};

/// A Service on one port; everything beside it arrives untranslated.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    for (number, dialect) in (1..).zip(stage.dialects()) {
        let Dialect { protocol, family, .. } = dialect;
        let endpoints = stage.farm(protocol, family, 8000 + 10 * number, 3)?;
        let ip = service_ip(family, number);
        let service = Service::new(&format!("known-{number}"), protocol, family);
        let service = service.cluster_ip(SocketAddr::new(ip, 80)).endpoints(&endpoints);
        stage.serve([service])?.nothing()?;

        let client = stage.client()?;
        stage.expect_served(client, dialect, SocketAddr::new(ip, 80), &endpoints)?;
        stage.expect_untouched(client, dialect, SocketAddr::new(ip, 81))?;
        let neighbour = service_ip(family, 200 + number);
        stage.expect_untouched(client, dialect, SocketAddr::new(neighbour, 80))?;
        let other = match protocol {
            Protocol::Udp => Protocol::Tcp,
            _ => Protocol::Udp,
        };
        let other = Dialect { protocol: other, ..dialect };
        stage.expect_untouched(client, other, SocketAddr::new(ip, 80))?;
        // And the endpoint itself, which nobody may translate further.
        for &endpoint in &endpoints {
            stage.expect_served(client, dialect, endpoint, &[endpoint])?;
        }
    }
    Ok(())
}
