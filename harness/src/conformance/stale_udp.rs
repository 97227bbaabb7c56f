//! UDP flows whose endpoint no longer serves are forgotten, and no other flow.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use nlink::{
    Connection,
    netlink::{
        Netfilter,
        netfilter::{ConntrackFilter, IpProtocol},
    },
};
use shunt_core::{
    backend::Feature,
    model::{Family, Protocol},
};

use super::{Dialect, Service, Stage, external_ip, service_ip};
use crate::{
    probe::{How, Socket, Transport},
    until,
    world::{KernelSocket, Pod},
};

/// Flows through every kind of address; the endpoint terminates, leaves, and the Service goes.
///
/// # Errors
///
/// Fails where the backend does otherwise.
pub fn check(stage: &mut Stage<'_>) -> Result<()> {
    if !stage.can(Feature::Forwarded) {
        // Flows are a matter of packets; sockets that were translated themselves are another one.
        return Ok(());
    }
    for family in Family::ALL {
        let dialect = Dialect { protocol: Protocol::Udp, family, mapped: false };
        if stage.dialects().contains(&dialect) {
            one(stage, dialect).with_context(|| dialect.to_string())?;
        }
    }
    Ok(())
}

/// A connected socket and the frontend that it dialled.
struct Flow<'w> {
    name: String,
    socket: KernelSocket<'w>,
}

impl Flow<'_> {
    /// Who answers now; a refusal or silence is nobody.
    fn ask(&self) -> Option<SocketAddr> {
        // The first error may be about a datagram of before.
        let _ = self.socket.send();
        self.socket.receive().ok().map(|received| received.said.endpoint)
    }
}

fn one(stage: &mut Stage<'_>, dialect: Dialect) -> Result<()> {
    let family = dialect.family;
    let old = stage.server("echo-1", dialect, 8000)?;
    let new = stage.server("echo-2", dialect, 8000)?;
    let cluster = SocketAddr::new(service_ip(family, 1), 53);
    let external = SocketAddr::new(external_ip(family, 1), 53);
    let node_port = stage.world().host().at(family, 30_053);
    let steady = SocketAddr::new(service_ip(family, 2), 53);
    let service = Service::new("flows", Protocol::Udp, family)
        .cluster_ip(cluster)
        .external_ip(external)
        .node_port(node_port.port());
    let other = Service::new("steady", Protocol::Udp, family).cluster_ip(steady);
    let key = service.key.clone();
    stage.serve([service.clone().endpoints(&[old]), other.endpoints(&[old])])?.nothing()?;

    let clients: Vec<&Pod> =
        stage.clients()?.into_iter().filter(|pod| !stage.decides_calls_of(pod)).collect();
    let mut flows = Vec::new();
    for pod in &clients {
        for to in [cluster, external, node_port] {
            flows.push(open(pod, dialect, to, old)?);
        }
    }
    // What has nothing to do with it: another Service's, and a flow to the endpoint itself.
    let mut unrelated = Vec::new();
    for pod in &clients {
        unrelated.push(open(pod, dialect, steady, old)?);
        unrelated.push(open(pod, dialect, old, old)?);
    }
    let connections = tcp(stage, family, &clients, old)?;
    let kept = flow_ids(stage, |proto, to| proto == 6 || to == old || to == steady)?;

    // Terminating and still serving: nobody moves.
    stage.serve([service.clone().endpoints(&[old, new]).leaving(&[old])])?.nothing()?;
    expect_all(&flows, old).context("while the endpoint terminates")?;
    stage.serve([service.clone().endpoints(&[new])])?.nothing()?;
    for flow in &flows {
        moved(flow, new).context("when the endpoint was gone")?;
    }
    // A restart forgets nothing.
    let before = flow_ids(stage, |_, _| true)?;
    stage.restart();
    stage.apply_all()?.nothing()?;
    ensure!(before.is_subset(&flow_ids(stage, |_, _| true)?), "a restart forgot flows");
    // No endpoint at all, and then no Service.
    stage.serve([service.clone()])?.nothing()?;
    for flow in &flows {
        silent(flow).context("without an endpoint")?;
    }
    stage.serve([service.endpoints(&[old])])?.nothing()?;
    for flow in &flows {
        moved(flow, old).context("with an endpoint again")?;
    }
    stage.remove([key])?.nothing()?;
    for flow in &flows {
        silent(flow).context("without the Service")?;
    }
    expect_all(&unrelated, old).context("an unrelated flow")?;
    for connection in connections {
        connection.send()?;
        connection.receive().context("a TCP connection")?;
    }
    let after = flow_ids(stage, |_, _| true)?;
    let lost: Vec<_> = kept.difference(&after).collect();
    ensure!(lost.is_empty(), "unrelated flows were forgotten: {lost:?}");
    Ok(())
}

fn open<'w>(
    pod: &'w Pod,
    dialect: Dialect,
    to: SocketAddr,
    expected: SocketAddr,
) -> Result<Flow<'w>> {
    let socket = pod.open(dialect.socket())?;
    socket.connect(How::Connect, to)?;
    let flow = Flow { name: format!("{} to {to}", pod.name()), socket };
    let reached = flow.ask();
    ensure!(reached == Some(expected), "{}: reached {reached:?}", flow.name);
    Ok(flow)
}

/// TCP connections that never are forgotten, through a Service whose endpoint leaves as well.
fn tcp<'w>(
    stage: &mut Stage<'_>,
    family: Family,
    clients: &[&'w Pod],
    endpoint: SocketAddr,
) -> Result<Vec<KernelSocket<'w>>> {
    let address = SocketAddr::new(service_ip(family, 1), 53);
    stage.world().pod("echo-1")?.serve(Transport::Tcp, &[endpoint])?;
    let service = Service::new("flows", Protocol::Tcp, family).cluster_ip(address);
    stage.serve([service.clone().endpoints(&[endpoint])])?.nothing()?;
    let mut sockets = Vec::new();
    for pod in clients {
        let socket = pod.open(Socket::of(Transport::Tcp, address))?;
        socket.connect(How::Connect, address)?;
        socket.receive()?;
        sockets.push(socket);
    }
    stage.serve([service])?.nothing()?;
    Ok(sockets)
}

fn expect_all(flows: &[Flow<'_>], expected: SocketAddr) -> Result<()> {
    for flow in flows {
        let reached = flow.ask();
        ensure!(reached == Some(expected), "{}: {reached:?} answers", flow.name);
    }
    Ok(())
}

/// Flows are forgotten after the change, soon.
fn moved(flow: &Flow<'_>, expected: SocketAddr) -> Result<()> {
    let what = format!("{} to move to {expected}", flow.name);
    until(&what, Duration::from_secs(20), || (flow.ask() == Some(expected)).then_some(()))
}

fn silent(flow: &Flow<'_>) -> Result<()> {
    let what = format!("{} to be answered no more", flow.name);
    until(&what, Duration::from_secs(20), || flow.ask().is_none().then_some(()))
}

/// The kernel's numbers of the tracked flows of this protocol and original destination.
fn flow_ids(stage: &Stage<'_>, wanted: impl Fn(u8, SocketAddr) -> bool) -> Result<BTreeSet<u32>> {
    let dump = async {
        let connection = Connection::<Netfilter>::new()?;
        connection.get_conntrack_matching(&ConntrackFilter::new()).await
    };
    let entries = stage.block_on(dump).context("cannot read the tracked flows")?;
    let wanted = entries.iter().filter(|entry| {
        let proto = match entry.proto {
            IpProtocol::Tcp => 6,
            IpProtocol::Udp => 17,
            // Pings of neighbours come and go.
            _ => return false,
        };
        let to = entry.orig.dst_ip.zip(entry.orig.dst_port);
        to.is_some_and(|(ip, port)| wanted(proto, SocketAddr::new(ip, port)))
    });
    Ok(wanted.filter_map(|entry| entry.id).collect())
}
