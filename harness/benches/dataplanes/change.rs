//! From one endpoint's change to the first connect that sees it.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use shunt_core::{
    model::{EndpointSlice, Protocol, Service},
    source::{Object, Update},
};
use shunt_harness::{crowd, world::World};

use crate::{
    crowded,
    table::{Table, quantile, time},
};

const SERVICES: u16 = 10_000;
const CHANGES: usize = 2_000;

/// Moves one Service among 10,000 to and fro between two endpoints.
///
/// Which one a connect reaches is seen by the source address that the kernel chooses for it: a UDP
/// socket that is connected to an address of the host itself has that very address as its own,
/// and towards a pod it has the host's primary one.
pub(crate) fn measure(world: &World, table: &mut Table) -> Result<()> {
    let mut rig = crowded(world, SERVICES)?;
    let service = SocketAddr::new(crowd::cluster_ip(0).into(), crowd::PORT.get());
    let pod = IpAddr::V4(world.pod("echo-1")?.address4());
    let host = IpAddr::V4(world.second_host_addresses().v4);
    let primary = IpAddr::V4(world.host().address4());
    rig.send(Update::Upsert(Object::from(udp_slice(host))))?;
    rig.send(Update::Upsert(Object::from(with_udp())))?;
    rig.settle()?;
    rig.applies();
    let mut times = Vec::with_capacity(CHANGES);
    for number in 0..CHANGES {
        let (endpoint, source) = if number % 2 == 0 { (pod, primary) } else { (host, host) };
        let update = Update::Upsert(Object::from(udp_slice(endpoint)));
        let start = Instant::now();
        rig.send(update)?;
        while connect(service)? != source {
            ensure!(start.elapsed() < Duration::from_secs(5), "a change is not seen");
        }
        times.push(start.elapsed());
        rig.settle()?;
    }
    let mut applies = rig.applies();
    let [middle, slow] = [0.5, 0.99].map(|share| quantile(&mut times, share));
    let [middle_apply, slow_apply] = [0.5, 0.99].map(|share| quantile(&mut applies, share));
    table.row(
        "one endpoint among 10,000 Services, from Update to a connect that reaches it",
        &format!("p50 {}, p99 {}", time(middle), time(slow)),
        &format!("of which the tables: p50 {}, p99 {}", time(middle_apply), time(slow_apply)),
        "p50 < 50 µs, p99 < 500 µs",
    );
    Ok(())
}

/// Connects and says from which address.
fn connect(to: SocketAddr) -> Result<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").context("cannot make a socket")?;
    socket.connect(to).with_context(|| format!("cannot connect to {to}"))?;
    Ok(socket.local_addr().context("cannot ask for the own address")?.ip())
}

/// The first Service of the crowd, on UDP: a connected UDP socket sends nothing.
fn with_udp() -> Service {
    let mut service = crowd::service(0);
    for port in &mut service.ports {
        port.protocol = Protocol::Udp;
    }
    service
}

fn udp_slice(endpoint: IpAddr) -> EndpointSlice {
    let mut slice = crowd::slice_of(0, &[endpoint]);
    for port in &mut slice.ports {
        port.protocol = Protocol::Udp;
    }
    slice
}
