//! What the packet path costs: the first fill, one change, and a connection through the table.
//!
//! Everything is measured in a world of its own, on the machine as it is: figures are for reading,
//! never for a test. The listener for others' changes is on, as in an agent.

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
use shunt_harness::{probe::ProbeProgram, tier::missing_privilege, world::World};
use tokio::runtime::Runtime;

/// How often one endpoint is changed.
const CHANGES: usize = 2_000;
/// How many connections are made for a figure.
const CONNECTS: usize = 4_000;

fn main() -> Result<()> {
    // `cargo test` runs benchmarks to see whether they start.
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return Ok(());
    }
    let missing = missing_privilege();
    ensure!(missing.is_none(), "cannot measure: {}", missing.unwrap_or_default());
    let program = ProbeProgram::new(env!("CARGO_BIN_EXE_shunt-probe"), [""; 0]);
    let world = World::standard(&program)?;
    let _membership = world.join_host()?;
    world.host().run(|| measure(&world))?
}

fn measure(world: &World) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot make a runtime")?;
    let host = world.host().addresses().v4;
    for services in [10, 1_000, 10_000, 50_000] {
        fill(&runtime, host, services)?;
    }
    change(&runtime, host)?;
    connects(&runtime, host)
}

fn started(runtime: &Runtime) -> Result<NftablesBackend> {
    let mut backend = NftablesBackend::new(NftablesOptions::default());
    runtime.block_on(backend.start(Bell::default()))?;
    Ok(backend)
}

/// The first fill of an empty table, and how many chains and rules there are then.
fn fill(runtime: &Runtime, host: Ipv4Addr, services: u32) -> Result<()> {
    let mut backend = started(runtime)?;
    let delta = everything(host, services);
    let start = Instant::now();
    let report = runtime.block_on(backend.apply(&delta));
    let took = start.elapsed();
    ensure!(report.is_success(), "not applied: {:?}", report.error);
    let words = runtime.block_on(explain(&NftablesOptions::default()))?;
    let size = words.first().map(String::as_str).unwrap_or_default();
    print(&format!("{services} x 2: filled in {:.3} s. {size}", took.as_secs_f64()));
    runtime.block_on(backend.cleanup())?;
    Ok(())
}

/// One endpoint more, or one less, of one among 10,000 Services.
fn change(runtime: &Runtime, host: Ipv4Addr) -> Result<()> {
    let mut backend = started(runtime)?;
    let delta = everything(host, 10_000);
    ensure!(runtime.block_on(backend.apply(&delta)).is_success());
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
    let (p50, p99) = percentiles(times);
    print(&format!("one endpoint changed among 10,000 Services: p50 {p50:?}, p99 {p99:?}"));
    runtime.block_on(backend.cleanup())?;
    Ok(())
}

/// Connections through the table with one Service and with 10,000, turn about.
fn connects(runtime: &Runtime, host: Ipv4Addr) -> Result<()> {
    let listener = TcpListener::bind(SocketAddr::from((host, 0)))?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            drop(stream);
        }
    });
    let mut all = [Vec::new(), Vec::new()];
    for _ in 0..4 {
        for (services, times) in [1, 10_000].into_iter().zip(&mut all) {
            let mut backend = started(runtime)?;
            let mut delta = everything(host, services);
            let mut target = service_port(0, host);
            target.endpoints.truncate(1);
            for endpoint in &mut target.endpoints {
                endpoint.address = SocketAddr::from((host, port));
            }
            delta.service_ports.insert(key(0), Some(Arc::new(target)));
            ensure!(runtime.block_on(backend.apply(&delta)).is_success());
            for _ in 0..CONNECTS / 4 {
                let start = Instant::now();
                drop(TcpStream::connect(SocketAddr::from((cluster_ip(0), 80)))?);
                times.push(start.elapsed());
            }
            runtime.block_on(backend.cleanup())?;
        }
    }
    for (services, times) in [1, 10_000].into_iter().zip(all) {
        let (p50, p99) = percentiles(times);
        print(&format!("TCP connect through {services} Services: p50 {p50:?}, p99 {p99:?}"));
    }
    Ok(())
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

fn percentiles(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
    (at(50), at(99))
}

#[expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]
fn print(line: &str) {
    println!("{line}");
}
