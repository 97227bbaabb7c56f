//! What the packet path costs: the first fill, one change, a connection through the table, and one
//! that does not go through it.
//!
//! The listener for others' changes is on, as in an agent.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    num::NonZeroU16,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use shunt_backends::nftables::{NftablesBackend, NftablesOptions, explain};
use shunt_core::{
    LbBackend as _,
    backend::Bell,
    model::{Family, ObjectName, Protocol},
    plan::{Delta, Endpoint, Frontend, FrontendKind, NodeState, ServicePort, ServicePortKey},
};
use shunt_harness::{
    probe::{Burst, Socket, Transport},
    world::World,
};
use tokio::runtime::Runtime;

use crate::table::{Table, quantile, time};

/// How often a table is filled.
const FILLS: usize = 5;

/// How often one endpoint is changed.
const CHANGES: usize = 2_000;

/// How many connections are made for a figure, and in how many turns.
const CONNECTS: usize = 8_000;
const TURNS: usize = 8;

/// Everything of the packet path, on the host of a world.
pub(crate) fn measure(world: &World, table: &mut Table) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot make a runtime")?;
    let host = world.host().addresses().v4;
    for (services, goal) in [(10, "-"), (1_000, "-"), (10_000, "< 0.3 s"), (50_000, "< 1.5 s")] {
        fill(&runtime, host, services, goal, table)?;
    }
    change(&runtime, host, table)?;
    connects(&runtime, host, table)?;
    beside(&runtime, world, table)
}

fn started(runtime: &Runtime) -> Result<NftablesBackend> {
    let mut backend = NftablesBackend::new(NftablesOptions::default());
    runtime.block_on(backend.start(Bell::default()))?;
    Ok(backend)
}

/// The first fill of an empty table, and how many chains and rules there are then.
fn fill(
    runtime: &Runtime,
    host: Ipv4Addr,
    services: u32,
    goal: &str,
    table: &mut Table,
) -> Result<()> {
    let delta = everything(host, services);
    let mut fills = Vec::with_capacity(FILLS);
    let mut size = String::new();
    for _ in 0..FILLS {
        let mut backend = started(runtime)?;
        let start = Instant::now();
        let report = runtime.block_on(backend.apply(&delta));
        fills.push(start.elapsed());
        ensure!(report.is_success(), "not applied: {:?}", report.error);
        let words = runtime.block_on(explain(&NftablesOptions::default()))?;
        size = words.first().cloned().unwrap_or_default();
        runtime.block_on(backend.cleanup())?;
    }
    let [least, middle] = [0.0, 0.5].map(|share| quantile(&mut fills, share));
    table.row(
        &format!("packet path: full sync, {services} Services × 2, median and least of {FILLS}"),
        &format!("{}, {}", time(middle), time(least)),
        &size,
        goal,
    );
    Ok(())
}

/// One endpoint more, or one less, of one among 10,000 Services.
fn change(runtime: &Runtime, host: Ipv4Addr, table: &mut Table) -> Result<()> {
    let mut backend = started(runtime)?;
    let delta = everything(host, 10_000);
    ensure!(runtime.block_on(backend.apply(&delta)).is_success(), "not filled");
    let mut times = Vec::with_capacity(CHANGES);
    for round in 0..CHANGES {
        let number = (round * 7 % 10_000) as u32;
        let mut port = service_port(number, host);
        if round % 2 == 0 {
            port.endpoints.pop();
        }
        let mut delta = Delta::default();
        delta.service_ports.insert(key(number), Some(Arc::new(port)));
        let start = Instant::now();
        let report = runtime.block_on(backend.apply(&delta));
        times.push(start.elapsed());
        ensure!(report.is_success(), "not applied: {:?}", report.error);
        // As long as a grace period takes: what it frees is deleted meanwhile, as in an agent.
        thread::park_timeout(Duration::from_millis(2));
    }
    let [p50, p99] = [0.5, 0.99].map(|share| quantile(&mut times, share));
    table.row(
        "packet path: one endpoint among 10,000 Services, to the committed transaction",
        &format!("p50 {}, p99 {}", time(p50), time(p99)),
        &format!("{CHANGES} changes"),
        "p50 < 0.2 ms, p99 < 1 ms",
    );
    runtime.block_on(backend.cleanup())?;
    Ok(())
}

/// Connections of the host through the table with one Service and with 10,000, turn about.
fn connects(runtime: &Runtime, host: Ipv4Addr, table: &mut Table) -> Result<()> {
    let listener = TcpListener::bind(SocketAddr::from((host, 0)))?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            drop(stream);
        }
    });
    let mut all = [Vec::new(), Vec::new()];
    for _ in 0..TURNS {
        for (services, times) in [1, 10_000].into_iter().zip(&mut all) {
            let mut backend = started(runtime)?;
            let mut delta = everything(host, services);
            let mut target = service_port(0, host);
            target.endpoints.truncate(1);
            for endpoint in &mut target.endpoints {
                endpoint.address = SocketAddr::from((host, port));
            }
            delta.service_ports.insert(key(0), Some(Arc::new(target)));
            ensure!(runtime.block_on(backend.apply(&delta)).is_success(), "not filled");
            for _ in 0..CONNECTS / TURNS {
                let start = Instant::now();
                drop(TcpStream::connect(SocketAddr::from((cluster_ip(0), 80)))?);
                times.push(start.elapsed());
            }
            runtime.block_on(backend.cleanup())?;
        }
    }
    let [one, many] = all.each_mut().map(|times| quantile(times, 0.5));
    table.row(
        "packet path: TCP connect of the host through 10,000 Services",
        &format!("{}: {:+.1} %", time(many), more(many, one)),
        &format!("{} through one Service", time(one)),
        "≤ 20 % more",
    );
    Ok(())
}

/// Connections from pod to pod that no Service has to do with, without a table and beside one:
/// what a hot standby costs those that do not need it.
fn beside(runtime: &Runtime, world: &World, table: &mut Table) -> Result<()> {
    let (client, server) = (world.pod("client")?, world.pod("echo-1")?);
    let bound = server.serve(Transport::Tcp, &[server.at(Family::V4, 8080)])?;
    let to = *bound.first().context("no server")?;
    let burst = Burst::new(Socket::tcp4(), to, (CONNECTS / TURNS) as u32);
    let delta = everything(world.host().addresses().v4, 10_000);
    let mut all = [Vec::new(), Vec::new()];
    for _ in 0..TURNS {
        for (has_table, times) in [false, true].into_iter().zip(&mut all) {
            let mut backend = started(runtime)?;
            if has_table {
                ensure!(runtime.block_on(backend.apply(&delta)).is_success(), "not filled");
            }
            let tally = client.burst(burst.clone())?;
            ensure!(tally.failed() == 0, "failed connects: {:?}", tally.failures);
            times.extend(tally.nanoseconds.iter().copied().map(Duration::from_nanos));
            runtime.block_on(backend.cleanup())?;
        }
    }
    let [without, with] = all.each_mut().map(|times| quantile(times, 0.5));
    table.row(
        "direct TCP connect between pods beside the standby of `auto` (10,000 Services)",
        &format!("{}: {:+.1} %", time(with), more(with, without)),
        &format!("{} with `connect` alone", time(without)),
        "-",
    );
    Ok(())
}

/// How much more `this` is than `that`, in per cent.
fn more(this: Duration, that: Duration) -> f64 {
    (this.as_secs_f64() / that.as_secs_f64() - 1.0) * 100.0
}

fn everything(host: Ipv4Addr, services: u32) -> Delta {
    let mut delta = Delta::default();
    delta.complete = true;
    let mut node = NodeState::default();
    node.node_port_addresses.insert(IpAddr::V4(host));
    node.primary_addresses.insert(IpAddr::V4(host));
    delta.node = Some(Arc::new(node));
    for number in 0..services {
        delta.cluster_ips.insert(IpAddr::V4(cluster_ip(number)), true);
        let port = Arc::new(service_port(number, host));
        delta.service_ports.insert(key(number), Some(port));
    }
    delta
}

fn key(number: u32) -> ServicePortKey {
    ServicePortKey {
        service: ObjectName::new("default", &format!("service-{number}")),
        port: "http".into(),
        protocol: Protocol::Tcp,
        family: Family::V4,
    }
}

fn cluster_ip(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from_be_bytes([10, 96, 1, 0]) + number)
}

fn service_port(number: u32, host: Ipv4Addr) -> ServicePort {
    let mut port = ServicePort::new();
    let http = NonZeroU16::new(80).unwrap_or(NonZeroU16::MIN);
    port.frontends.push(Frontend::new(FrontendKind::ClusterIp(cluster_ip(number).into()), http));
    for nth in 0..2 {
        let address = Ipv4Addr::from_bits(u32::from_be_bytes([10, 128, 0, 1]) + 2 * number + nth);
        debug_assert_ne!(address, host);
        port.endpoints.push(Endpoint::new(SocketAddr::from((address, 8080))));
    }
    port.has_any = true;
    port
}
