//! The agent beside Kubernetes' own kube-proxy: `cargo xtask bench -- cluster`.
//!
//! Every proxy has a world of its own, of the same shape, and all follow one real API server. Only
//! one of them is awake at a time; they are measured turn about, so that each sees the machine as
//! the others do.
//!
//! ```text
//! cluster [SERVICES...] [--runs N] [--seconds N] [--out FOLDER]
//! ```

mod arguments;
mod cluster;
mod measure;
mod page;
mod plot;
mod proxy;
mod traffic;

use anyhow::{Context as _, Result, ensure};
use shunt_harness::{
    apiserver::{ApiServer, Place, Programs},
    probe::ProbeProgram,
    tier::missing_privilege,
};

use crate::{
    arguments::Arguments,
    cluster::Cluster,
    measure::Figures,
    proxy::{Kind, Site},
};

fn main() -> Result<()> {
    // `cargo test` runs benchmarks to see whether they start.
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return Ok(());
    }
    let arguments = Arguments::read()?;
    let missing = missing_privilege();
    ensure!(missing.is_none(), "cannot measure: {}", missing.unwrap_or_default());
    let programs = Programs::find()?;
    let program = ProbeProgram::new(env!("CARGO_BIN_EXE_shunt-probe"), [""; 0]);
    let server = ApiServer::start(&programs, Place::Loopback)?;
    let mut cluster = Cluster::new(&server, &Site::new(&program, &server)?.world)?;
    let mut figures = Figures::default();
    for &services in &arguments.sizes {
        say(&format!("{services} Services x 2 endpoints"));
        cluster.grow(services)?;
        let measured = measure::all(&cluster, &programs, &program, &arguments);
        figures.add(measured.with_context(|| format!("with {services} Services"))?);
        // So that nothing is lost if a larger size fails.
        page::write(&figures, &arguments.out)?;
    }
    say(&page::table(&figures));
    say(&page::traffic_table(&figures));
    Ok(())
}

/// What is measured, in the order of the tables.
const KINDS: [Kind; 5] =
    [Kind::Shunt, Kind::ShuntConnect, Kind::ShuntPackets, Kind::KubeNftables, Kind::KubeIptables];

#[expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]
fn say(line: &str) {
    println!("{line}");
}
