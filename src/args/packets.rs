//! The flags of the packet path, all of them kube-proxy's but the masquerade bit.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{ArgAction, ValueEnum};
use ipnet::IpNet;
use shunt_backends::nftables::conntrack::sysctl::Sysctls;
use shunt_plugins::{LocalPods, PacketSettings};

use super::value::{Cidrs, cidrs, duration};

/// The flags of the packet path. None has an effect at connect(), where no source is rewritten.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Packet path")]
pub(crate) struct PacketArgs {
    /// Pod CIDRs of the cluster, for --detect-local-mode=ClusterCIDR.
    #[arg(long, value_name = "CIDRS", default_value = "", hide_default_value = true, value_parser = cidrs)]
    pub(crate) cluster_cidr: Cidrs,
    /// How local pods are recognised: ClusterCIDR, NodeCIDR, BridgeInterface or
    /// InterfaceNamePrefix.
    #[arg(long, value_name = "MODE", default_value = "ClusterCIDR", hide_possible_values = true)]
    pub(crate) detect_local_mode: DetectLocal,
    /// The bridge of the pods, for --detect-local-mode=BridgeInterface.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true,
        hide_short_help = true
    )]
    pub(crate) pod_bridge_interface: String,
    /// How the names of pods' interfaces begin, for --detect-local-mode=InterfaceNamePrefix.
    #[arg(
        long,
        value_name = "PREFIX",
        default_value = "",
        hide_default_value = true,
        hide_short_help = true
    )]
    pub(crate) pod_interface_name_prefix: String,
    /// Masquerade everything sent to a ClusterIP.
    #[arg(
        long,
        value_name = "BOOL",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub(crate) masquerade_all: bool,
    /// Bit of the packet mark that asks for masquerading, 0 to 31.
    #[arg(
        long,
        value_name = "BIT",
        default_value_t = PacketSettings::MASQUERADE_BIT,
        value_parser = clap::value_parser!(u8).range(0..=31),
        hide_short_help = true
    )]
    pub(crate) masquerade_bit: u8,
    /// Connections that the kernel can track, for each CPU; 0 leaves the number alone.
    #[arg(long, value_name = "N", default_value_t = 32_768, hide_short_help = true)]
    pub(crate) conntrack_max_per_core: u32,
    /// The least number of connections that the kernel can track.
    #[arg(long, value_name = "N", default_value_t = 131_072, hide_short_help = true)]
    pub(crate) conntrack_min: u32,
    /// How long a tracked TCP connection may be silent; 0s leaves it alone.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration, hide_short_help = true)]
    pub(crate) conntrack_tcp_timeout_established: Duration,
    /// How long a tracked TCP connection may be half closed; 0s leaves it alone.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration, hide_short_help = true)]
    pub(crate) conntrack_tcp_timeout_close_wait: Duration,
    /// Take TCP packets outside the window as part of their connection.
    #[arg(
        long,
        value_name = "BOOL",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        hide_possible_values = true,
        hide_short_help = true
    )]
    pub(crate) conntrack_tcp_be_liberal: bool,
    /// How long a UDP flow without an answer may be silent; 0s leaves it alone.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration, hide_short_help = true)]
    pub(crate) conntrack_udp_timeout: Duration,
    /// How long a UDP flow with answers may be silent; 0s leaves it alone.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration, hide_short_help = true)]
    pub(crate) conntrack_udp_timeout_stream: Duration,
}

/// `--detect-local-mode`, spelled as kube-proxy does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "verbatim")]
pub(crate) enum DetectLocal {
    /// By the cluster's pod CIDRs.
    #[value(name = "ClusterCIDR")]
    ClusterCidr,
    /// By the Node's pod CIDRs.
    #[value(name = "NodeCIDR")]
    NodeCidr,
    /// By the bridge that a packet comes from.
    BridgeInterface,
    /// By the name of the interface that a packet comes from.
    InterfaceNamePrefix,
}

/// The longest name of an interface that the kernel knows.
const LONGEST_INTERFACE: usize = 15;

impl PacketArgs {
    /// The settings, and what an operator should know about them.
    ///
    /// As kube-proxy, a mode without what it needs is no error: pods then are not recognised.
    pub(crate) fn settings(&self) -> Result<(PacketSettings, Vec<String>)> {
        for (flag, name) in [
            ("--pod-bridge-interface", &self.pod_bridge_interface),
            ("--pod-interface-name-prefix", &self.pod_interface_name_prefix),
        ] {
            ensure!(
                name.len() <= LONGEST_INTERFACE && !name.contains(['/', ' ']),
                "{flag}: {name:?} can be no interface: a name has at most {LONGEST_INTERFACE} \
                 bytes, and neither slash nor space"
            );
        }
        if let Some((wide, narrow)) = self.cluster_cidr.overlap() {
            anyhow::bail!("--cluster-cidr: {wide} contains {narrow}: leave out one of them");
        }
        let (local_pods, warnings) = self.local_pods();
        let mut settings = PacketSettings::default();
        settings.masquerade_all = self.masquerade_all;
        settings.masquerade_bit = self.masquerade_bit;
        settings.local_pods = local_pods;
        Ok((settings, warnings))
    }

    /// The pod CIDRs by which pods are recognised, if they are.
    pub(crate) fn pod_cidrs(&self) -> Vec<IpNet> {
        match self.detect_local_mode {
            DetectLocal::ClusterCidr => self.cluster_cidr.0.clone(),
            _ => Vec::new(),
        }
    }

    /// What is asked of the kernel's connection tracking.
    pub(crate) fn sysctls(&self) -> Sysctls {
        Sysctls {
            max_per_core: self.conntrack_max_per_core,
            min: self.conntrack_min,
            tcp_established: self.conntrack_tcp_timeout_established,
            tcp_close_wait: self.conntrack_tcp_timeout_close_wait,
            tcp_be_liberal: self.conntrack_tcp_be_liberal,
            udp: self.conntrack_udp_timeout,
            udp_stream: self.conntrack_udp_timeout_stream,
        }
    }

    /// Flags that were given and that a node without the packet path has no use for.
    pub(crate) fn given(&self) -> Vec<&'static str> {
        let given = [
            ("--cluster-cidr", !self.cluster_cidr.0.is_empty()),
            ("--detect-local-mode", self.detect_local_mode != DetectLocal::ClusterCidr),
            ("--pod-bridge-interface", !self.pod_bridge_interface.is_empty()),
            ("--pod-interface-name-prefix", !self.pod_interface_name_prefix.is_empty()),
            ("--masquerade-all", self.masquerade_all),
            ("--masquerade-bit", self.masquerade_bit != PacketSettings::MASQUERADE_BIT),
        ];
        given.into_iter().filter(|(_, given)| *given).map(|(flag, _)| flag).collect()
    }

    fn local_pods(&self) -> (LocalPods, Vec<String>) {
        let without = |mode: &str, flag: &str| {
            let warning = format!(
                "--detect-local-mode={mode} needs {flag}, which is not given: local pods are not \
                 recognised, and nothing is masqueraded on its way to a ClusterIP"
            );
            (LocalPods::Unknown, vec![warning])
        };
        match self.detect_local_mode {
            DetectLocal::ClusterCidr if self.cluster_cidr.0.is_empty() => {
                without("ClusterCIDR", "--cluster-cidr")
            }
            DetectLocal::ClusterCidr => {
                let missing = self.cluster_cidr.missing_family().map(|family| {
                    format!("--cluster-cidr has no {family} CIDR: {family} pods are not recognised")
                });
                let cidrs = self.cluster_cidr.0.clone();
                (LocalPods::ClusterCidrs(cidrs), missing.into_iter().collect())
            }
            DetectLocal::NodeCidr => (LocalPods::NodeCidrs, Vec::new()),
            DetectLocal::BridgeInterface if self.pod_bridge_interface.is_empty() => {
                without("BridgeInterface", "--pod-bridge-interface")
            }
            DetectLocal::BridgeInterface => {
                (LocalPods::Bridge(self.pod_bridge_interface.clone()), Vec::new())
            }
            DetectLocal::InterfaceNamePrefix if self.pod_interface_name_prefix.is_empty() => {
                without("InterfaceNamePrefix", "--pod-interface-name-prefix")
            }
            DetectLocal::InterfaceNamePrefix => {
                let prefix = self.pod_interface_name_prefix.clone();
                (LocalPods::InterfacePrefix(prefix), Vec::new())
            }
        }
    }
}
