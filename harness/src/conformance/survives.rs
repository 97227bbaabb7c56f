//! A connection lives on when its endpoint leaves, its Service goes, or the agent ends.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use shunt_core::model::Protocol;

use super::{Dialect, Service, Stage, service_ip};
use crate::{
    probe::{How, Received},
    world::{KernelSocket, Pod},
};

/// TCP connections from everybody, asked again after every change.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    for (number, dialect) in (1..).zip(stage.dialects()) {
        if dialect.protocol == Protocol::Tcp {
            one(stage, dialect, number).with_context(|| dialect.to_string())?;
        }
    }
    Ok(())
}

/// A connection and the endpoint that it has.
struct Kept<'w> {
    pod: &'w Pod,
    socket: KernelSocket<'w>,
    endpoint: SocketAddr,
}

fn one(stage: &mut Stage<'_>, dialect: Dialect, number: u16) -> Result<()> {
    let all = stage.farm(Protocol::Tcp, dialect.family, 8000 + 10 * number, 6)?;
    let (first, others) = all.split_at(3);
    let address = SocketAddr::new(service_ip(dialect.family, number), 80);
    let service = Service::new(&format!("kept-{number}"), Protocol::Tcp, dialect.family);
    let service = service.cluster_ip(address);
    let key = service.key.clone();
    stage.serve([service.clone().endpoints(first)])?.nothing()?;
    let mut kept = Vec::new();
    for pod in stage.clients()? {
        let socket = pod.open(dialect.socket())?;
        socket.connect(How::Connect, dialect.address(address))?;
        let Received { said, .. } = socket.receive()?;
        ensure!(first.contains(&said.endpoint), "reached {}", said.endpoint);
        kept.push(Kept { pod, socket, endpoint: said.endpoint });
    }
    let ask = |when: &str| kept.iter().try_for_each(|kept| kept.ask(when));
    ask("at first")?;
    stage.serve([service.clone().endpoints(others)])?.nothing()?;
    ask("without its endpoint")?;
    stage.serve([service])?;
    ask("without any endpoint")?;
    stage.restart();
    stage.apply_all()?;
    ask("after a restart")?;
    stage.remove([key])?.nothing()?;
    ask("without its Service")
}

impl Kept<'_> {
    fn ask(&self, when: &str) -> Result<()> {
        let what = || format!("{when}, from {}", self.pod.name());
        self.socket.send().with_context(what)?;
        let reached = self.socket.receive().with_context(what)?.said.endpoint;
        ensure!(reached == self.endpoint, "{}: {reached} answers", what());
        Ok(())
    }
}
