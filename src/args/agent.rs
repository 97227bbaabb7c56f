//! The flags of the agent itself.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use shunt_core::engine::NodePortAddresses;
use shunt_plugins::Mode;

use super::{
    api::ApiArgs,
    http::HttpArgs,
    packets::PacketArgs,
    value::{duration, node_port_addresses, table_size},
};

/// The flags of the agent itself.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Agent")]
pub(crate) struct AgentArgs {
    /// Where Services come from; repeatable.
    #[arg(long, value_name = "NAME", default_value = "kube")]
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
    /// lists, endpoints, services, affinity, node_addresses, seats, packet_affinity; repeatable.
    #[arg(long, value_name = "TABLE=N", value_parser = table_size)]
    pub(crate) table_size: Vec<(String, u32)>,
    #[command(flatten)]
    pub(crate) packets: PacketArgs,
    #[command(flatten)]
    pub(crate) http: HttpArgs,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
}
