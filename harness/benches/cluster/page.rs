//! The figures as a page with a table, plots and the raw data.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::{
    measure::{Figures, Measured, Size},
    plot::{Plot, Row, file, quantile, short},
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
    put(".md", &page(figures))
}

fn page(figures: &Figures) -> String {
    format!(
        "\
# Beside kube-proxy

Made by `cargo xtask bench -- cluster` (as root, with Go): see `harness/benches/cluster/`.
{}

Every proxy has a world of its own, of the same shape, with its process in the network namespace of the node; all follow one kube-apiserver 1.36, and kube-proxy is 1.36 too, with a minimum sync period of 1 ns (0 would mean 1 s).
kube-proxy's iptables mode uses the older programs (`iptables-legacy`), where there are such.
One proxy is awake at a time; they are measured turn about.
\"Shunt\" is its default, connect-time balancing with the packet path as a standby that carries everything.

- **change**: from just before an EndpointSlice is written to the API server to a connect that reaches one of its new endpoints, one change at a time, looked at every 0.2 ms.
- **start**: from the start of the process to a hundred Services, spread over all, that answer; nothing was there before. The median of all starts.
- **memory**: VmRSS and VmHWM of the process after everything.
- **CPU**: of the process and the programs that it calls, for 1,000 changes one after the other, each seen before the next; where they take too long, fewer are made and scaled up.

{}
![From an EndpointSlice to a connect that reaches the new endpoint]({NAME}-changes.svg)

![Start, memory and processor time]({NAME}-costs.svg)

The raw data are in [{NAME}.json]({NAME}.json).
",
        machine(),
        table(figures)
    )
}

/// All figures, as a table.
pub(crate) fn table(figures: &Figures) -> String {
    let mut text = String::from(
        "| Services × 2 | proxy | change p50 | change p99 | start | VmRSS | VmHWM | CPU for 1,000 changes |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for size in &figures.sizes {
        for proxy in &size.proxies {
            let made = proxy.cpu_changes;
            let scaled = if made < 1_000 { format!(" (from {made})") } else { String::new() };
            // A String takes whatever is written to it.
            let _ = writeln!(
                text,
                "| {} | {} | {} ms | {} ms | {} ms | {} MB | {} MB | {} s{scaled} |",
                size.services,
                proxy.name,
                short(quantile(&proxy.changes, 0.5)),
                short(quantile(&proxy.changes, 0.99)),
                short(quantile(&proxy.starts, 0.5)),
                short(megabytes(proxy.rss)),
                short(megabytes(proxy.peak)),
                short(proxy.cpu),
            );
        }
    }
    text
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
    let rows = size.proxies.iter().map(|proxy| Row { name: proxy.name, values: values(proxy) });
    let title = format!("{what}, {} Services × 2 endpoints", size.services);
    Plot { title, unit, rows: rows.collect() }
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
