//! A client on the node whose own UDP port is a NodePort in use gets its answers.
//!
//! A server answers with `sendto`, which is also how a program dials a NodePort. Masquerade chooses
//! such ports too, so this is no client's mistake.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use shunt_core::{backend::Feature, model::Protocol};

use super::{Dialect, Service, Stage, service_ip};
use crate::probe::Burst;

/// A Service with a NodePort, and a client with that port, in each dialect of UDP.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    if !stage.can(Feature::NodePort) {
        return Ok(());
    }
    for (number, dialect) in (1..).zip(stage.dialects()) {
        if dialect.protocol == Protocol::Udp {
            one(stage, dialect, number).with_context(|| dialect.to_string())?;
        }
    }
    Ok(())
}

fn one(stage: &mut Stage<'_>, dialect: Dialect, number: u16) -> Result<()> {
    let Dialect { protocol, family, .. } = dialect;
    let port = 30_000 + number;
    let endpoints = stage.farm(protocol, family, 8000 + 10 * number, 3)?;
    let address = SocketAddr::new(service_ip(family, number), 80);
    let service = Service::new(&format!("client-port-{number}"), protocol, family);
    let service = service.cluster_ip(address).node_port(port).endpoints(&endpoints);
    let key = service.key.clone();
    stage.serve([service])?.nothing()?;

    let host = stage.world().host();
    for &to in endpoints.iter().chain([&address]) {
        // Twice: a server may know the client already.
        for _ in 0..2 {
            answered(stage, dialect, port, to)?;
        }
    }
    // The servers' own sockets have answered; those of others dial the NodePort as ever.
    let dialled = host.at(family, port);
    for pod in stage.clients()? {
        stage.expect_served(pod, dialect, dialled, &endpoints)?;
    }
    stage.remove([key])?.nothing()?;
    answered(stage, dialect, port, endpoints[0]).context("without the Service")
}

/// One visit of the host to `to` from its own port `port`.
fn answered(stage: &Stage<'_>, dialect: Dialect, port: u16, to: SocketAddr) -> Result<()> {
    let mut burst = Burst::new(dialect.socket(), dialect.address(to), 1);
    burst.first_port = Some(port);
    let tally = stage.world().host().burst(burst)?;
    ensure!(tally.answered() == 1, "to {to} from port {port}: {:?}", tally.failures);
    Ok(())
}
