//! A socket that was connected to a Service and then is not shows no Service any more.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use shunt_core::model::{Family, Protocol};

use super::{Dialect, Service, Stage, service_ip};
use crate::probe::How;

/// UDP sockets: connected elsewhere, dissolved by `connect(AF_UNSPEC)`, connected again.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    let dialects = stage.dialects();
    for (number, dialect) in
        (1..).zip(dialects.into_iter().filter(|dialect| dialect.protocol == Protocol::Udp))
    {
        let family = dialect.family;
        let endpoint = stage.server("echo-1", dialect, 8000 + number)?;
        let plain = stage.server("echo-2", dialect, 8000 + number)?;
        let address = SocketAddr::new(service_ip(family, number), 53);
        let service = Service::new(&format!("again-{number}"), Protocol::Udp, family);
        stage.serve([service.cluster_ip(address).endpoints(&[endpoint])])?.nothing()?;
        again(stage, dialect, address, endpoint, plain).with_context(|| dialect.to_string())?;
    }
    after_failure(stage)
}

/// A TCP socket whose connect to a Service's endpoint failed, and that then goes elsewhere.
fn after_failure(stage: &mut Stage<'_>) -> Result<()> {
    let dialects = stage.dialects();
    for (number, dialect) in
        (1..).zip(dialects.into_iter().filter(|dialect| dialect.protocol == Protocol::Tcp))
    {
        let family = dialect.family;
        let plain = stage.server("echo-2", dialect, 8100 + number)?;
        let closed = stage.world().pod("echo-1")?.at(family, 9);
        let address = SocketAddr::new(service_ip(family, 100 + number), 80);
        let service = Service::new(&format!("closed-{number}"), Protocol::Tcp, family);
        stage.serve([service.cluster_ip(address).endpoints(&[closed])])?.nothing()?;
        let socket = stage.client()?.open(dialect.socket())?;
        let refused = socket.connect(How::Connect, dialect.address(address));
        ensure!(refused.is_err(), "{dialect}: {closed} is not to be listening");
        socket.connect(How::Connect, dialect.address(plain)).context(dialect)?;
        let peer = socket.peer_name()?;
        ensure!(peer == dialect.address(plain), "{dialect}: after a failure shows {peer}");
    }
    Ok(())
}

fn again(
    stage: &Stage<'_>,
    dialect: Dialect,
    service: SocketAddr,
    endpoint: SocketAddr,
    plain: SocketAddr,
) -> Result<()> {
    let [service_as, endpoint_as, plain_as] =
        [service, endpoint, plain].map(|address| dialect.address(address));
    let socket = stage.client()?.open(dialect.socket())?;
    let shows = |expected: SocketAddr, when: &str| {
        let peer = socket.peer_name()?;
        ensure!(peer == expected, "{when} the socket shows {peer} and not {expected}");
        socket.send().with_context(|| when.to_owned())?;
        let from = socket.receive().with_context(|| when.to_owned())?.from;
        ensure!(from == Some(expected), "{when} recvfrom shows {from:?} and not {expected}");
        Ok(())
    };

    socket.connect(How::Connect, service_as)?;
    shows(service_as, "connected to a Service")?;
    socket.connect(How::Connect, plain_as)?;
    shows(plain_as, "connected to a plain address after a Service")?;
    socket.connect(How::Connect, service_as)?;
    socket.connect(How::Connect, endpoint_as)?;
    shows(endpoint_as, "connected to the endpoint itself after the Service")?;

    socket.connect(How::Connect, service_as)?;
    socket.disconnect()?;
    let name = socket.peer_name();
    ensure!(name.is_err(), "dissolved, the socket still has the peer {name:?}");
    // Linux does not forget an IPv6 peer at connect(AF_UNSPEC): the socket then is deaf to all but
    // the address that the kernel last had, which is the Service's unless the call was translated.
    let is_deaf = dialect.family == Family::V6 && !stage.decides_calls_of(stage.client()?);
    if !is_deaf {
        let from = socket.ask(endpoint_as).context("dissolved, the endpoint is asked")?.from;
        ensure!(from == Some(endpoint_as), "dissolved, recvfrom of the endpoint shows {from:?}");
    }
    let from = socket.ask(service_as).context("dissolved, the Service is asked")?.from;
    ensure!(from == Some(service_as), "dissolved, recvfrom of the Service shows {from:?}");

    socket.connect(How::Connect, service_as)?;
    shows(service_as, "connected to a Service once more")
}
