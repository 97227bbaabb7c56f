//! MPTCP: the hook runs on a subflow, with another cookie than the socket's.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use shunt_core::model::Protocol;

use super::{Service, Stage, service_ip};
use crate::probe::{Socket, Transport};

/// The connection is served; the peer that the socket shows is the Service or the endpoint.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    for (number, dialect) in (1..).zip(stage.dialects()) {
        if dialect.protocol != Protocol::Tcp {
            continue;
        }
        let endpoint = stage.world().pod("echo-1")?.at(dialect.family, 8000 + number);
        stage.world().pod("echo-1")?.serve(Transport::Mptcp, &[endpoint])?;
        let address = SocketAddr::new(service_ip(dialect.family, number), 80);
        let service = Service::new(&format!("multi-{number}"), Protocol::Tcp, dialect.family);
        stage.serve([service.cluster_ip(address).endpoints(&[endpoint])])?.nothing()?;
        let socket = Socket { transport: Transport::Mptcp, ..dialect.socket() };
        let visit = stage
            .client()?
            .visit(socket, dialect.address(address))
            .with_context(|| format!("MPTCP {dialect}"))?;
        ensure!(visit.said.endpoint == endpoint, "reached {}", visit.said.endpoint);
        let may_show = [address, endpoint].map(|address| dialect.address(address));
        ensure!(may_show.contains(&visit.peer), "MPTCP {dialect} shows {}", visit.peer);
    }
    Ok(())
}
