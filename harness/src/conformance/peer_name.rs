//! The application sees the address that it dialled, also after the Service is gone.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use shunt_core::{backend::Feature, model::Protocol};

use super::{Service, Stage, service_ip};
use crate::probe::How;

/// Every call in every dialect, from a pod and from the host; then the Service goes.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    for (number, dialect) in (1..).zip(stage.dialects()) {
        let (protocol, family) = (dialect.protocol, dialect.family);
        let endpoints = stage.farm(protocol, family, 8000 + 10 * number, 3)?;
        let address = SocketAddr::new(service_ip(family, number), 80);
        let service = Service::new(&format!("names-{number}"), protocol, family);
        let service = service.cluster_ip(address).endpoints(&endpoints);
        let key = service.key.clone();
        stage.serve([service])?.nothing()?;
        for pod in [stage.client()?, stage.world().host()] {
            stage.expect_served(pod, dialect, address, &endpoints)?;
        }

        let client = stage.client()?;
        let connected = client.open(dialect.socket())?;
        connected.connect(How::Connect, dialect.address(address))?;
        let unconnected = match protocol {
            Protocol::Udp => {
                let socket = client.open(dialect.socket())?;
                socket.send_to(dialect.address(address))?;
                Some(socket)
            }
            _ => None,
        };
        stage.remove([key])?.nothing()?;

        let shown = |endpoint| if stage.can(Feature::PeerName) { address } else { endpoint };
        if protocol == Protocol::Udp {
            connected.send()?;
        }
        let answer = connected.receive();
        if protocol == Protocol::Udp && stage.can(Feature::Forwarded) && answer.is_err() {
            // The flow went with the Service: `stale_udp`. What is shown stays all the same.
            let peer = connected.peer_name()?;
            ensure!(peer == dialect.address(address), "{dialect}: without a flow shows {peer}");
            continue;
        }
        let endpoint = answer.context("after the Service was removed")?.said.endpoint;
        let peer = connected.peer_name()?;
        ensure!(
            peer == dialect.address(shown(endpoint)),
            "{dialect}: a connected socket of a removed Service shows {peer}"
        );
        if let Some(socket) = unconnected {
            let received = socket.receive().context("after the Service was removed")?;
            let expected = dialect.address(shown(received.said.endpoint));
            ensure!(
                received.from == Some(expected),
                "{dialect}: an unconnected socket of a removed Service shows {:?}",
                received.from
            );
        }
    }
    Ok(())
}
