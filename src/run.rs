//! The agent: what the command line asks for, wired together, until a signal.

use std::{fs, net::SocketAddr, path::Path};

use anyhow::{Context as _, Result, anyhow, ensure};
use shunt_backends::nftables::conntrack::sysctl::Sysctls;
use shunt_core::{
    Engine,
    engine::{EngineOptions, Status},
    notice::{Notice, Notices},
};
use shunt_plugins::{
    Composition, Registry, Settings, compose, compose_notice_board, compose_sources,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    args::{AgentArgs, Args, Place},
    http::{self, Health, Metrics, Server},
};

/// Runs the agent until SIGTERM or SIGINT. The kernel's state stays in place.
pub(crate) async fn run(args: &Args) -> Result<()> {
    let shutdown = end_on_signal()?;
    let registry = Registry::builtin();
    let mut settings = agent_settings(args)?;
    let (packets, packet_warnings) = args.agent.packets.settings()?;
    settings.packets = packets;
    // Before anything is measured.
    let metrics = match args.agent.http.metrics() {
        Some(address) => Some((address, Metrics::install()?)),
        None => None,
    };
    let sources = compose_sources(&registry, &args.agent.source, &settings)?;
    let notices = notices(&registry, args, &settings, &shutdown)?;
    let composition = compose(&registry, &args.agent.mode, &settings).await?;
    tell(&composition, args, &packet_warnings);
    let options = engine_options(&args.agent, &settings);
    let (period, patience) = (options.verify_period, options.patience());
    let freshness = sources.iter().filter_map(|(_, source)| source.freshness()).collect();
    let engine = Engine::new(options, sources, composition.backends);
    let mut engine = engine.with_notices(notices.clone());
    for (name, capabilities) in &composition.capabilities {
        engine = engine.with_capabilities(name, capabilities);
    }
    let status = engine.status();
    let health_checks = engine.health_checks();
    tokio::spawn(http::serve(health_checks, engine.status(), period, notices.clone()));
    tokio::spawn(set_sysctls(args.agent.packets.sysctls(), engine.status()));
    info!(node = %settings.node_name, version = env!("CARGO_PKG_VERSION"), "shunt starts");
    notices.give(Notice::of_node("Starting", "StartKubeProxy", String::new()));
    let stale_after = args.agent.http.stale_after;
    let health = Health { status: engine.status(), patience, sources: freshness, stale_after };
    let configuration = args.agent.configz(&settings.node_name);
    tokio::select! {
        ended = engine.run(shutdown) => ended?,
        Err(error) = serve_health(&args.agent, health, &notices) => return Err(error),
        Err(error) = serve_metrics(&args.agent, metrics, configuration, &notices) => return Err(error),
        reasons = nothing_started(status) => return Err(anyhow!("no backend starts: {reasons}")),
    }
    info!("shunt ends; what the kernel was told stays in place");
    Ok(())
}

/// Where notices are given; posted where a source has a place for them.
fn notices(
    registry: &Registry,
    args: &Args,
    settings: &Settings,
    shutdown: &CancellationToken,
) -> Result<Notices> {
    let Some(board) = compose_notice_board(registry, &args.agent.source, settings)? else {
        return Ok(Notices::default());
    };
    let (notices, given) = Notices::new();
    tokio::spawn(board.run(given, shutdown.clone()));
    Ok(notices)
}

/// Answers on the port for health checks, if there is to be one, until that fails for good.
async fn serve_health(agent: &AgentArgs, health: Health, notices: &Notices) -> Result<()> {
    let Some(address) = agent.http.healthz() else { return std::future::pending().await };
    let server = Server {
        name: "/healthz and /livez",
        address,
        flag: "--healthz-bind-address",
        reason: "FailedToStartProxierHealthcheck",
        hard_fail: agent.http.bind_address_hard_fail,
    };
    server.run(health.answers(), notices.clone()).await
}

/// Answers on the port for metrics, if there is to be one, until that fails for good.
async fn serve_metrics(
    agent: &AgentArgs,
    metrics: Option<(SocketAddr, Metrics)>,
    configuration: serde_json::Value,
    notices: &Notices,
) -> Result<()> {
    let Some((address, metrics)) = metrics else { return std::future::pending().await };
    if agent.http.profiling {
        debug!("--profiling has no effect: there are no profiles of Go to serve");
    }
    let server = Server {
        name: "/metrics",
        address,
        flag: "--metrics-bind-address",
        reason: "FailedToStartMetricServer",
        hard_fail: agent.http.bind_address_hard_fail,
    };
    server.run(http::answers(metrics, configuration), notices.clone()).await
}

/// Says what was chosen, and what of the command line that leaves without effect.
fn tell(composition: &Composition, args: &Args, packet_warnings: &[String]) {
    for line in &composition.lines {
        info!("{line}");
    }
    for line in &composition.losses {
        warn!("{line}");
    }
    if composition.backends.iter().any(|(name, _)| name == PACKET_PATH) {
        packet_warnings.iter().for_each(|warning| warn!("{warning}"));
        return;
    }
    for flag in args.agent.packets.given() {
        debug!("{flag} has no effect on connect-time balancing, which never rewrites a source");
    }
}

/// The backend for which connection tracking works.
const PACKET_PATH: &str = "nftables";

/// Sets what is asked of connection tracking once there is a reason to track: the kernel then has
/// the settings, and where another proxy tracks, they are that one's affair.
async fn set_sysctls(sysctls: Sysctls, mut status: watch::Receiver<Status>) {
    let tracks = |status: &Status| {
        status.backends.get(PACKET_PATH).is_some_and(|backend| backend.applied > 0)
    };
    // An error means that the engine ended before.
    if status.wait_for(tracks).await.is_ok() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        sysctls.set(Path::new("/"), cores);
    }
}

/// Settings for what only reads or removes state.
pub(crate) fn settings(place: &Place) -> Settings {
    let mut settings = Settings::new("");
    settings.cgroup.clone_from(&place.cgroup);
    settings.pin_path.clone_from(&place.pin_path);
    settings
}

/// The sources that `--source` can name. The host's own addresses are always read.
pub(crate) fn source_names(registry: &Registry) -> String {
    let names = registry.sources().filter(|source| source.name() != "host");
    let lines = names.map(|source| format!("{} ({})", source.name(), source.summary()));
    lines.collect::<Vec<_>>().join(", ")
}

fn agent_settings(args: &Args) -> Result<Settings> {
    let name = match &args.agent.node_name {
        Some(name) => name.clone(),
        // What uname(2) gives, in the agent's own UTS namespace.
        None => fs::read_to_string("/proc/sys/kernel/hostname")
            .context("cannot read the host's name; give --node-name")?,
    };
    let name = name.trim().to_lowercase();
    ensure!(!name.is_empty(), "the name of the Node is empty: give --node-name");
    let mut settings = settings(&args.place);
    settings.node_name = name.into();
    settings.manifests.clone_from(&args.agent.manifests);
    settings.kube = args.agent.api.settings();
    settings.table_sizes = args.agent.table_size.iter().cloned().collect();
    Ok(settings)
}

fn engine_options(agent: &AgentArgs, settings: &Settings) -> EngineOptions {
    let mut options = EngineOptions::new(&settings.node_name);
    options.node_port_addresses = agent.nodeport_addresses.clone();
    options.node_ip = Some(agent.bind_address).filter(|address| !address.is_unspecified());
    options.cluster_cidrs = agent.packets.pod_cidrs();
    options.min_sync_period = agent.iptables_min_sync_period;
    // 0s is kube-proxy's way to say "the default".
    if !agent.iptables_sync_period.is_zero() {
        options.verify_period = agent.iptables_sync_period;
    }
    options
}

/// A token that SIGTERM and SIGINT cancel.
pub(crate) fn end_on_signal() -> Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => debug!("SIGTERM"),
            _ = interrupt.recv() => debug!("SIGINT"),
        }
        token.cancel();
    });
    Ok(shutdown)
}

/// Ends when every backend has failed to start, and says why; never ends otherwise.
///
/// The engine would try again for ever. An agent that has never worked had better end: whoever
/// started it sees why, and a supervisor tries again.
async fn nothing_started(mut status: watch::Receiver<Status>) -> String {
    let is_hopeless = |status: &Status| {
        let mut backends = status.backends.values();
        backends.len() > 0 && backends.all(|backend| backend.start_failed)
    };
    let Ok(hopeless) = status.wait_for(is_hopeless).await else {
        // The engine has ended, and says itself how.
        return std::future::pending().await;
    };
    let reasons = hopeless
        .backends
        .iter()
        .map(|(name, backend)| format!("{name}: {}", backend.problems.join("; ")));
    reasons.collect::<Vec<_>>().join("; ")
}
