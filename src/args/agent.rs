//! The flags of the agent itself.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::{ArgAction, ValueEnum};
use ipnet::IpNet;
use shunt_core::engine::NodePortAddresses;
use shunt_plugins::Mode;

use super::value::{duration, node_port_addresses, table_size};

/// The flags of the agent itself.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Agent")]
pub(crate) struct AgentArgs {
    /// Where Services come from; repeatable.
    #[arg(long, value_name = "NAME")]
    pub(crate) source: Vec<String>,
    /// File or folder of Kubernetes manifests, YAML or JSON, for --source static; repeatable.
    #[arg(long, value_name = "PATH")]
    pub(crate) manifests: Vec<PathBuf>,
    /// Name of the own Node [default: the host's name, in lower case].
    #[arg(long, visible_alias = "hostname-override", value_name = "NAME")]
    pub(crate) node_name: Option<String>,
    /// Which dataplanes work: auto, connect or nftables.
    #[arg(long, default_value = "auto")]
    pub(crate) mode: Mode,
    /// Node addresses that answer NodePorts: `primary`, or CIDRs.
    #[arg(
        long,
        value_name = "CIDRS",
        default_value = "primary",
        value_parser = node_port_addresses
    )]
    pub(crate) nodeport_addresses: NodePortAddresses,
    /// The own Node's address, where it is not the one in its status; nothing is bound to it.
    #[arg(long, value_name = "IP", default_value = "0.0.0.0")]
    pub(crate) bind_address: IpAddr,
    /// Least time between two updates of the kernel; 0s: as soon as the last is done.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    pub(crate) iptables_min_sync_period: Duration,
    /// How often the kernel's state is proved right.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(crate) iptables_sync_period: Duration,
    /// Entries of a table in the kernel, where the default is too small: frontends4, frontends6,
    /// lists, endpoints, services, affinity, node_addresses; repeatable.
    #[arg(long, value_name = "TABLE=N", value_parser = table_size)]
    pub(crate) table_size: Vec<(String, u32)>,
    /// Pod CIDRs of the cluster. No effect at connect().
    #[arg(long, value_name = "CIDRS", value_delimiter = ',')]
    pub(crate) cluster_cidr: Vec<IpNet>,
    /// How local pods are recognised: ClusterCIDR, NodeCIDR, BridgeInterface or
    /// InterfaceNamePrefix. No effect at connect().
    #[arg(long, value_name = "MODE", default_value = "ClusterCIDR", hide_possible_values = true)]
    pub(crate) detect_local_mode: DetectLocal,
    /// Masquerade everything sent to a ClusterIP. No effect at connect().
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
}

impl AgentArgs {
    /// Flags that were given and that connect-time balancing has no use for: there the source
    /// address of a connection is never rewritten.
    pub(crate) fn without_effect(&self) -> Vec<&'static str> {
        let given = [
            ("--cluster-cidr", !self.cluster_cidr.is_empty()),
            ("--detect-local-mode", self.detect_local_mode != DetectLocal::ClusterCidr),
            ("--masquerade-all", self.masquerade_all),
        ];
        given.into_iter().filter(|(_, given)| *given).map(|(flag, _)| flag).collect()
    }
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
