//! What the real agent needs.

use std::{
    env, fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use shunt_harness::{crowd, until, world::World};
use shunt_plugins::{Registry, Settings};

use crate::table::Table;

const SERVICES: u16 = 10_000;

/// The variable that names the agent's binary; `cargo xtask bench` builds and names it.
const AGENT: &str = "SHUNT_AGENT";

/// The agent's memory and the kernel's, with 10,000 Services read from manifests.
pub(crate) fn measure(world: &World, table: &mut Table) -> Result<()> {
    let what = "the agent's memory, 10,000 Services × 2 endpoints from manifests";
    let Some(agent) = env::var_os(AGENT) else {
        table.row(what, "not measured", "set SHUNT_AGENT to the binary", "< 30 MB");
        return Ok(());
    };
    let manifests = world.folder().join("crowd.json");
    fs::write(&manifests, manifest()).context("cannot write the manifests")?;
    let mut command = Command::new(agent);
    command
        .args(["--source", "static", "--mode", "connect", "--node-name", World::OWN_NODE])
        .arg("--manifests")
        .arg(&manifests)
        .arg("--cgroup")
        .arg(world.cgroup())
        .arg("--pin-path")
        .arg(world.pin_path())
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let agent = Agent(world.host().command(command)?.spawn().context("cannot start the agent")?);
    wait_for_all(world)?;

    let process = Path::new("/proc").join(agent.0.id().to_string());
    let status = fs::read_to_string(process.join("status")).context("the agent is gone")?;
    let [rss, peak] = ["VmRSS:", "VmHWM:"].map(|field| megabytes(number(&status, field) * 1024));
    table.row(
        what,
        &format!("VmRSS {rss}, VmHWM {peak}"),
        &format!("kernel: {} in maps", megabytes(map_memory(&process)?)),
        "< 30 MB",
    );
    Ok(())
}

/// The agent's process; it ends with the measurement.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The crowd as `kubectl get services,endpointslices -A -o json` would print it.
fn manifest() -> String {
    let mut items = Vec::with_capacity(usize::from(SERVICES) * 2);
    for number in 0..SERVICES {
        let name = crowd::name(number);
        let addresses = crowd::slice(number).endpoints;
        let endpoints: Vec<_> = addresses
            .iter()
            .map(|endpoint| serde_json::json!({ "addresses": [endpoint.address] }))
            .collect();
        items.push(serde_json::json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": &*name.name, "namespace": &*name.namespace },
            "spec": {
                "clusterIP": crowd::cluster_ip(number),
                "ports": [{ "name": "http", "port": crowd::PORT }],
            },
        }));
        items.push(serde_json::json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": &*name.name, "namespace": &*name.namespace,
                "labels": { "kubernetes.io/service-name": &*name.name },
            },
            "addressType": "IPv4",
            "ports": [{ "name": "http", "port": crowd::ENDPOINT_PORT }],
            "endpoints": endpoints,
        }));
    }
    serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string()
}

/// Waits until the kernel serves the whole crowd.
fn wait_for_all(world: &World) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut settings = Settings::new(World::OWN_NODE);
    settings.cgroup = Some(world.cgroup().to_owned());
    settings.pin_path = world.pin_path();
    let backend = Registry::builtin().backend("connect")?.build(&settings)?;
    until("the agent to serve everything", Duration::from_secs(30), || {
        let inspection = runtime.block_on(backend.inspect()).ok()?;
        (inspection.services.len() == usize::from(SERVICES)).then_some(())
    })
}

/// What the maps that the agent holds cost the kernel, in bytes.
fn map_memory(process: &Path) -> Result<u64> {
    let entries = fs::read_dir(process.join("fdinfo")).context("cannot list the agent's files")?;
    let texts = entries.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    // Several descriptors may be of one map.
    let mut maps: Vec<(u64, u64)> = texts
        .filter(|text| text.contains("map_id:"))
        .map(|text| (number(&text, "map_id:"), number(&text, "memlock:")))
        .collect();
    maps.sort_unstable();
    maps.dedup();
    if maps.is_empty() {
        bail!("the agent holds no map");
    }
    Ok(maps.iter().map(|(_, bytes)| bytes).sum())
}

/// The number after a field's name in a file of /proc, 0 where there is none.
fn number(text: &str, field: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
