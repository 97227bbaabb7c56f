//! Kubernetes' own kube-proxy, on the node of a world.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use serde_json::json;
use shunt_core::model::Family;

use super::Programs;
use crate::world::{World, cluster_cidr};

/// How kube-proxy is set.
#[derive(Clone, Copy, Debug)]
pub struct KubeProxyOptions<'a> {
    /// `nftables` or `iptables`.
    pub mode: &'a str,
    /// Whether it is told the nets of pods, without which it takes nobody for one.
    pub knows_pods: bool,
    /// At which addresses NodePorts are answered; empty for the default of the mode.
    pub node_port_addresses: &'a [&'a str],
}

impl<'a> KubeProxyOptions<'a> {
    /// As a cluster sets it that says nothing else.
    #[must_use]
    pub const fn of_mode(mode: &'a str) -> Self {
        Self { mode, knows_pods: true, node_port_addresses: &[] }
    }
}

/// How to start kube-proxy without a pause between two updates. It has to run on the node of the
/// world, [`World::host`]: it writes into whatever network namespace it is in.
///
/// # Errors
///
/// Fails where its configuration cannot be written.
pub fn kube_proxy(
    programs: &Programs,
    world: &World,
    options: KubeProxyOptions<'_>,
    kubeconfig: &Path,
) -> Result<Command> {
    // Zero would mean the default, a second.
    let periods = json!({ "minSyncPeriod": "1ns" });
    let nets = Family::ALL.map(|family| cluster_cidr(family).to_string());
    let nets = if options.knows_pods { nets.join(",") } else { String::new() };
    let config = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": options.mode,
        "hostnameOverride": World::OWN_NODE,
        "clusterCIDR": nets,
        "nodePortAddresses": options.node_port_addresses,
        "clientConnection": { "kubeconfig": kubeconfig },
        "iptables": periods,
        "nftables": periods,
        "healthzBindAddress": "127.0.0.1:10256",
        // What of connection tracking is the machine's is not to be set from a namespace.
        "conntrack": { "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s",
                       "tcpCloseWaitTimeout": "0s" },
    });
    let path = world.folder().join("kube-proxy.json");
    fs::write(&path, config.to_string()).context("cannot write a configuration")?;
    let mut command = Command::new(programs.kube_proxy());
    command.arg("--config").arg(path).env("PATH", search_path(world)?);
    Ok(command)
}

/// PATH with the older iptables in front, which is the faster one for kube-proxy.
fn search_path(world: &World) -> Result<OsString> {
    let bin = world.folder().join("bin");
    fs::create_dir_all(&bin).context("cannot make a folder")?;
    for command in ["", "-save", "-restore"] {
        for family in ["ip", "ip6"] {
            let legacy = PathBuf::from(format!("/usr/sbin/{family}tables-legacy{command}"));
            let link = bin.join(format!("{family}tables{command}"));
            if legacy.exists() && !link.exists() {
                std::os::unix::fs::symlink(&legacy, link).context("cannot make a link")?;
            }
        }
    }
    let rest = env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(bin).chain(env::split_paths(&rest)).chain(["/usr/sbin".into()]);
    env::join_paths(folders).context("cannot put a folder into PATH")
}
