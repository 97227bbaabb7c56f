//! What is no Service's: another address is untouched; another port or protocol of a ClusterIP is,
//! too, or where packets are looked at, is refused.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use nix::errno::Errno;
use shunt_core::{backend::Feature, model::Protocol};

use super::{Dialect, Service, Stage, service_ip};

/// A Service on one port, and everything beside it.
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
        let neighbour = service_ip(family, 200 + number);
        stage.expect_untouched(client, dialect, SocketAddr::new(neighbour, 80))?;
        let other = match protocol {
            Protocol::Udp => Protocol::Tcp,
            _ => Protocol::Udp,
        };
        let other = Dialect { protocol: other, ..dialect };
        for (dialect, port) in [(dialect, 81), (other, 80)] {
            let beside = SocketAddr::new(ip, port);
            if !stage.can(Feature::Forwarded) {
                stage.expect_untouched(client, dialect, beside)?;
                continue;
            }
            stage.expect_rejected(&stage.clients()?, dialect, &[beside])?;
        }
        ping(stage, ip).with_context(|| format!("ping {ip}"))?;
        // And the endpoint itself, which nobody may translate further.
        for &endpoint in &endpoints {
            stage.expect_served(client, dialect, endpoint, &[endpoint])?;
        }
    }
    Ok(())
}

/// An ICMP echo is no Service's either.
fn ping(stage: &Stage<'_>, ip: std::net::IpAddr) -> Result<()> {
    if !stage.can(Feature::Forwarded) {
        return Ok(stage.client()?.ping(ip)?);
    }
    for pod in stage.clients()? {
        let failure = pod.ping(ip).err().context("answered")?;
        let refused = failure.errno().map(|(_, errno)| errno) == Some(Errno::ECONNREFUSED);
        ensure!(refused, "from {}: {failure}", pod.name());
    }
    Ok(())
}
