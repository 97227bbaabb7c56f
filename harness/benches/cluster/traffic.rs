//! What the data path costs those who use it: through a proxy, and directly beside it.

use std::{fs, net::SocketAddr};

use anyhow::{Context as _, Result};
use serde::Serialize;
use shunt_harness::probe::{Lap, Race, Socket, Stream, Times};

use crate::{
    cluster::Cluster,
    plot::quantile,
    proxy::{DRAIN, PORT, Site},
};

/// How often it is every proxy's turn.
pub(crate) const TURNS: usize = 5;

/// First packets in a turn, on each lane.
const FIRST: u32 = 800;

/// Rounds of a turn in which connections are counted, and the connections of each.
const ROUNDS: u32 = 3;
const CONNECTIONS: u32 = 500;

/// Services that are reached, at the most.
const REACHED: usize = 64;

/// The length of a stream.
const BYTES: u64 = 2_000_000_000;

/// What the data path took.
#[derive(Default, Serialize)]
pub(crate) struct Traffic {
    /// TCP, a `connect` of a new socket, in microseconds.
    pub(crate) tcp_connect_us: Lanes,
    /// UDP, from the connect of a new socket to the answer to its first packet, in microseconds.
    pub(crate) udp_answer_us: Lanes,
    /// TCP connections that are opened and closed in a second.
    pub(crate) connections_per_second: Lanes,
    /// The throughput of one stream, in gigabits a second.
    pub(crate) stream_gbit_per_second: Lanes,
    /// Processor time of the whole machine for a gigabyte of it, in seconds.
    pub(crate) stream_cpu_s_per_gb: Lanes,
}

/// Values of the two ways to a server.
#[derive(Default, Serialize)]
pub(crate) struct Lanes {
    /// To the address of an endpoint.
    pub(crate) direct: Vec<f64>,
    /// To that of a Service; nothing where there is no proxy.
    pub(crate) through: Vec<f64>,
}

impl Lanes {
    /// How much more `through` is than `direct`.
    pub(crate) fn ratio(&self, share: f64) -> f64 {
        quantile(&self.through, share) / quantile(&self.direct, share)
    }

    /// Direct and through, in this order; only the first where there is no proxy.
    fn both(&mut self) -> [&mut Vec<f64>; 2] {
        [&mut self.direct, &mut self.through]
    }

    fn add(&mut self, times: &[Vec<f64>]) {
        for (values, new) in self.both().into_iter().zip(times) {
            values.extend(new);
        }
    }

    /// Puts the percentiles, 0 to 100, in the place of the values.
    fn condense(&mut self) {
        for values in self.both().into_iter().filter(|values| !values.is_empty()) {
            *values = (0..=100).map(|share| quantile(values, f64::from(share) / 100.0)).collect();
        }
    }
}

impl Traffic {
    /// One turn in a world. Without a cluster nothing proxies there.
    pub(crate) fn turn(&mut self, site: &Site, cluster: Option<&Cluster<'_>>) -> Result<()> {
        let client = site.world.pod("client")?;
        let lanes = |port, services: Option<&Vec<SocketAddr>>| -> Result<Vec<_>> {
            let direct = site.servers(port)?;
            let through = services.map(|services| spread(services));
            Ok([Some(direct), through].into_iter().flatten().collect())
        };
        let tcp = lanes(PORT, cluster.map(|cluster| &cluster.addresses))?;
        let udp = lanes(PORT, cluster.map(|cluster| &cluster.udp))?;
        let race = |socket, lap, lanes: &[Vec<SocketAddr>], rounds, calls| {
            client.race(Race { socket, lap, lanes: lanes.to_vec(), rounds, calls })
        };
        let microseconds = |times: &Times| {
            times.call.iter().map(|nanoseconds| *nanoseconds as f64 / 1e3).collect::<Vec<_>>()
        };
        let rate = |times: &Times| {
            times.whole.iter().map(|nanoseconds| 1e9 / *nanoseconds as f64).collect::<Vec<_>>()
        };

        let times = race(Socket::tcp4(), Lap::Connect, &tcp, FIRST, 1).context("TCP")?;
        self.tcp_connect_us.add(&times.iter().map(microseconds).collect::<Vec<_>>());
        let times = race(Socket::udp4(), Lap::Ask, &udp, FIRST, 1).context("UDP")?;
        self.udp_answer_us.add(&times.iter().map(microseconds).collect::<Vec<_>>());
        let times = race(Socket::tcp4(), Lap::Connect, &tcp, ROUNDS, CONNECTIONS)?;
        self.connections_per_second.add(&times.iter().map(rate).collect::<Vec<_>>());

        let (mut throughput, mut cpu) = (Vec::new(), Vec::new());
        for lane in lanes(DRAIN, cluster.map(|cluster| &cluster.drains))? {
            let number = self.stream_gbit_per_second.direct.len() * lane.len() / TURNS;
            let to = *lane.get(number).context("nobody to stream to")?;
            let before = busy()?;
            let nanoseconds = client.stream(Stream { to, bytes: BYTES }).context("a stream")?;
            cpu.push(vec![(busy()? - before) / (BYTES as f64 / 1e9)]);
            throughput.push(vec![BYTES as f64 * 8.0 / nanoseconds as f64]);
        }
        self.stream_gbit_per_second.add(&throughput);
        self.stream_cpu_s_per_gb.add(&cpu);
        Ok(())
    }

    /// After the last turn.
    pub(crate) fn condense(&mut self) {
        self.tcp_connect_us.condense();
        self.udp_answer_us.condense();
    }
}

/// Some of the Services, evenly spread over all.
fn spread(services: &[SocketAddr]) -> Vec<SocketAddr> {
    services.iter().copied().step_by(services.len().div_ceil(REACHED).max(1)).collect()
}

/// The time that all processors together were not idle since the start of the machine, in seconds.
fn busy() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat").context("cannot read the processor time")?;
    // user nice system idle iowait irq softirq, in hundredths of a second; what follows is of
    // others or counted in user already.
    let fields = stat.split_whitespace().skip(1).take(7).enumerate();
    let ticks = fields.filter(|(number, _)| ![3, 4].contains(number));
    let ticks: u64 = ticks.map(|(_, field)| field.parse::<u64>().unwrap_or_default()).sum();
    Ok(ticks as f64 / 100.0)
}
