//! The figures as a page with a table, plots and the raw data.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::{
    measure::{Figures, Measured, Size},
    plot::{Plot, Row, file, quantile, short},
    traffic::{Lanes, Traffic},
};

const NAME: &str = "benchmarks-cluster";

/// Writes everything to a folder.
pub(crate) fn write(figures: &Figures, folder: &Path) -> Result<()> {
    let put = |end: &str, text: &str| {
        let path = folder.join(format!("{NAME}{end}"));
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    let raw = json!({ "machine": machine(), "sizes": figures.sizes });
    put(".json", &(serde_json::to_string_pretty(&raw)? + "\n"))?;
    put("-changes.svg", &file(&changes(figures)))?;
    put("-costs.svg", &file(&costs(figures)))?;
    put("-traffic.svg", &file(&traffic(figures)))?;
    put(".md", &page(figures))
}

fn page(figures: &Figures) -> String {
    format!(
        "\
# Beside kube-proxy

Made by `cargo xtask bench -- cluster` (as root, with Go): see `harness/benches/cluster/`.
{}

Of 25 Services one is of UDP, the others of TCP; each has one port and two endpoints.
Every proxy has a world of its own, of the same shape, with its process in the network namespace of the node; all follow one kube-apiserver 1.36, and kube-proxy is 1.36 too, with a minimum sync period of 1 ns (0 would mean 1 s).
kube-proxy's iptables mode uses the older programs (`iptables-legacy`), where there are such.
One proxy is awake at a time; they are measured turn about.
\"Shunt\" is its default, connect-time balancing with the packet path as a standby that carries everything; \"connect-time alone\" is `--mode connect`, \"packet path alone\" `--mode nftables`.

## Changes, start, memory
- **change**: from just before an EndpointSlice is sent to the API server (by PUT, as its controller does) to a connect that reaches one of its new endpoints, one change at a time, looked at every 0.2 ms, after 20 ms at every hundredth of the time.
- **write**: of that, until the API server has answered who sent it; watchers may be told sooner.
- **start**: from the start of the process to a hundred Services, spread over all, that answer; nothing was there before. The median of all starts.
- **memory**: VmRSS and VmHWM of the process after everything.
- **CPU**: of the process and the programs that it calls, by their cgroup, for 1,000 changes one after the other, each seen before the next; where they take too long, fewer are made and scaled up.

{}
![From an EndpointSlice to a connect that reaches the new endpoint]({NAME}-changes.svg)

![Start, memory and processor time]({NAME}-costs.svg)

## Data path
What clients pay, in a pod of the node, whose packets to other pods go through the node's network namespace; the servers are pods beside it.
All proxies and the API server are stopped (SIGSTOP) meanwhile; the proxies' worlds take turns, five each.
Every cell is \"through Services / directly to the address of an endpoint in the same world (ratio)\"; both are taken turn about, and the Services, at most 64 of a kind, are spread over the whole table.
What a proxy costs connections that need nothing of it is seen in the second number, beside that of the world without a proxy.

- **TCP connect**: `connect` of a new socket, until it is established: 4,000 calls on each way, one here, one there.
- **UDP answer**: from the `connect` of a new socket to the answer to its first packet: 4,000, likewise.
- **TCP connections**: socket, connect and close, by one thread: the median of 15 rounds of 500.
- **stream**: one TCP connection that carries 2 GB (of 10⁹ bytes) to a server that reads and drops them: the median of five.
- **CPU**: what all processors of the machine did (user, nice, system, irq and softirq of `/proc/stat`) during a stream, client and server included, for each GB: the work of a proxy's rules is done in whoever's time the packet comes.

{}
![First packets, connections, streams]({NAME}-traffic.svg)

The raw data are in [{NAME}.json]({NAME}.json).
",
        machine(),
        table(figures),
        traffic_table(figures)
    )
}

/// All figures, as a table.
pub(crate) fn table(figures: &Figures) -> String {
    let mut text = String::from(
        "| Services × 2 | proxy | change p50 | change p99 | write p50 | start | VmRSS | VmHWM | CPU for 1,000 changes |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for size in &figures.sizes {
        for proxy in &size.proxies {
            let made = proxy.cpu_changes;
            let scaled = if made < 1_000 { format!(" (from {made})") } else { String::new() };
            // A String takes whatever is written to it.
            let _ = writeln!(
                text,
                "| {} | {} | {} ms | {} ms | {} ms | {} ms | {} MB | {} MB | {} s{scaled} |",
                size.services,
                proxy.name,
                short(quantile(&proxy.changes, 0.5)),
                short(quantile(&proxy.changes, 0.99)),
                short(quantile(&proxy.writes, 0.5)),
                short(quantile(&proxy.starts, 0.5)),
                short(megabytes(proxy.rss)),
                short(megabytes(proxy.peak)),
                short(proxy.cpu),
            );
        }
    }
    text
}

/// The figures of the data path, as a table.
pub(crate) fn traffic_table(figures: &Figures) -> String {
    let mut text = String::from(
        "| Services × 2 | proxy | TCP connect p50, µs | p99, µs | UDP answer p50, µs | p99, µs | \
         TCP connections/s | stream, Gbit/s | CPU, s/GB |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for size in &figures.sizes {
        let without = ("no proxy", &size.without);
        let proxies = size.proxies.iter().map(|proxy| (proxy.name, &proxy.traffic));
        for (name, traffic) in [without].into_iter().chain(proxies) {
            // A String takes whatever is written to it.
            let _ = writeln!(
                text,
                "| {} | {name} | {} | {} | {} | {} | {} | {} | {} |",
                size.services,
                cell(&traffic.tcp_connect_us, 0.5),
                cell(&traffic.tcp_connect_us, 0.99),
                cell(&traffic.udp_answer_us, 0.5),
                cell(&traffic.udp_answer_us, 0.99),
                cell(&traffic.connections_per_second, 0.5),
                cell(&traffic.stream_gbit_per_second, 0.5),
                cell(&traffic.stream_cpu_s_per_gb, 0.5),
            );
        }
    }
    text
}

/// Through / directly (ratio).
fn cell(lanes: &Lanes, share: f64) -> String {
    let direct = short(quantile(&lanes.direct, share));
    if lanes.through.is_empty() {
        return format!("– / {direct}");
    }
    format!("{} / {direct} ({:.2})", short(quantile(&lanes.through, share)), lanes.ratio(share))
}

fn changes(figures: &Figures) -> Vec<Plot> {
    let of = |proxy: &Measured| proxy.changes.clone();
    let plot = |size| plot("change of an EndpointSlice to connect", "ms", size, of);
    figures.sizes.iter().map(plot).collect()
}

fn costs(figures: &Figures) -> Vec<Plot> {
    let one = |size: &Size| {
        [
            plot("start to everything served", "ms", size, |proxy| proxy.starts.clone()),
            plot("memory (VmHWM)", "MB", size, |proxy| vec![megabytes(proxy.peak)]),
            plot("CPU for 1,000 changes", "s", size, |proxy| vec![proxy.cpu]),
        ]
    };
    figures.sizes.iter().flat_map(one).collect()
}

fn plot(
    what: &str,
    unit: &'static str,
    size: &Size,
    values: impl Fn(&Measured) -> Vec<f64>,
) -> Plot {
    let rows = size.proxies.iter().zip(COLOURS).map(|(proxy, colour)| Row {
        name: proxy.name,
        colour,
        values: values(proxy),
    });
    Plot { title: title(what, size), unit, rows: rows.collect() }
}

fn title(what: &str, size: &Size) -> String {
    format!("{what}, {} Services × 2 endpoints", size.services)
}

/// Colours of the proxies, in order; those of ours are blue.
const COLOURS: [&str; 5] = ["#1f5fbf", "#3f83d8", "#6fa3e8", "#c2410c", "#a16207"];

/// The colour of what goes directly.
const DIRECT: &str = "#777777";

fn traffic(figures: &Figures) -> Vec<Plot> {
    let one = |size: &Size| {
        [
            ways("TCP connect, percentiles", "µs", size, |traffic| &traffic.tcp_connect_us),
            ways("UDP answer, percentiles", "µs", size, |traffic| &traffic.udp_answer_us),
            ways("TCP connections", "/s", size, |traffic| &traffic.connections_per_second),
            ways("stream", "Gbit/s", size, |traffic| &traffic.stream_gbit_per_second),
            ways("CPU of a stream", "s/GB", size, |traffic| &traffic.stream_cpu_s_per_gb),
        ]
    };
    figures.sizes.iter().flat_map(one).collect()
}

/// Every proxy, with the direct way beside it below.
fn ways(what: &str, unit: &'static str, size: &Size, lanes: fn(&Traffic) -> &Lanes) -> Plot {
    let row = |name, colour, values: &[f64]| {
        // Of percentiles every fifth, and none of the tails, which one call makes.
        let values = match values {
            percentiles if percentiles.len() == 101 => {
                percentiles.iter().copied().skip(5).step_by(5).take(19).collect()
            }
            few => few.to_vec(),
        };
        Row { name, colour, values }
    };
    let mut rows = vec![row("no proxy", DIRECT, &lanes(&size.without).direct)];
    for (proxy, colour) in size.proxies.iter().zip(COLOURS) {
        let lanes = lanes(&proxy.traffic);
        rows.push(row(proxy.name, colour, &lanes.through));
        rows.push(row("directly beside it", DIRECT, &lanes.direct));
    }
    Plot { title: title(what, size), unit, rows }
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Which machine and kernel, and when.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    format!(
        "Machine: {} × {}, Linux {}.",
        cpus.matches("processor\t").count(),
        model.unwrap_or("unknown processor"),
        read("/proc/sys/kernel/osrelease").trim(),
    )
}
