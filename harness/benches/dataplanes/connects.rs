//! What a connect costs an application.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use shunt_core::{
    model::{Protocol, Service},
    source::{Object, Update},
};
use shunt_harness::{
    crowd,
    probe::{Lap, Race, Socket, Times, Transport},
    world::World,
};

use crate::{
    crowded,
    table::{Table, quantile, time},
};

/// Direct and through Shunt, with so many Services present.
pub(crate) fn measure(world: &World, services: u16, table: &mut Table) -> Result<()> {
    let mut rig = crowded(world, services)?;
    let echo = world.pod("echo-1")?;
    let endpoint = SocketAddr::new(echo.address4().into(), crowd::ENDPOINT_PORT.get());
    echo.serve(Transport::Tcp, &[endpoint])?;
    echo.serve(Transport::Udp, &[endpoint])?;
    rig.send(Update::Upsert(Object::from(both_protocols(0))))?;
    let mut slice = crowd::slice_of(0, &[endpoint.ip()]);
    let mut udp = slice.ports.clone();
    udp.iter_mut().for_each(|port| port.protocol = Protocol::Udp);
    slice.ports.extend(udp);
    rig.send(Update::Upsert(Object::from(slice)))?;
    rig.settle()?;
    let service = SocketAddr::new(crowd::cluster_ip(0).into(), crowd::PORT.get());

    for (name, socket, lap, rounds, calls, goal) in [
        ("TCP connect", Socket::tcp4(), Lap::Connect, 200, 50, "≤ 1000 ns more, ≥ 93 %"),
        ("UDP connect", Socket::udp4(), Lap::Connect, 200, 200, "≤ 300 ns more"),
        ("UDP sendto", Socket::udp4(), Lap::Send, 200, 500, "≥ 90 %"),
    ] {
        let lanes = vec![vec![endpoint], vec![service]];
        let race = Race { socket, lap, lanes, rounds, calls };
        let times = world.pod("client")?.race(race)?;
        let [direct, through] = times.as_slice() else { continue };
        row(table, &format!("{name}, {services} Services"), direct, through, goal);
    }
    Ok(())
}

/// The medians of a turn's call and of all that belongs to it.
fn row(table: &mut Table, what: &str, direct: &Times, through: &Times, goal: &str) {
    let median = |values: &[u64]| quantile(&mut values.to_vec(), 0.5);
    let [direct_call, call] = [direct, through].map(|times| median(&times.call));
    let [direct_whole, whole] = [direct, through].map(|times| median(&times.whole));
    let more = i128::from(call) - i128::from(direct_call);
    let rate = direct_whole as f64 / whole.max(1) as f64 * 100.0;
    table.row(
        what,
        &format!("{}: {more:+} ns; {rate:.1} % of the rate", time(Duration::from_nanos(call))),
        &format!("{} directly", time(Duration::from_nanos(direct_call))),
        goal,
    );
}

/// A Service of the crowd, on UDP too.
fn both_protocols(number: u16) -> Service {
    let mut service = crowd::service(number);
    let mut udp = service.ports.clone();
    udp.iter_mut().for_each(|port| port.protocol = Protocol::Udp);
    service.ports.extend(udp);
    service
}
