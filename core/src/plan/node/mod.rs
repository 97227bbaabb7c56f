//! The node's part of the plan: which of its addresses answer what.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use ipnet::IpNet;

use super::{NodeState, PlanOptions, Warning, frontend::IPVS_INTERFACE};
use crate::model::{Cluster, Family, Node, NodeAddressKind};

/// `--nodeport-addresses`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// The Node's primary addresses.
    Primary,
    /// Local addresses within these; a family that none of these is of: every local address but
    /// loopback.
    Cidrs(Vec<IpNet>),
}

/// The node's part of the desired state.
pub(super) fn state(cluster: &Cluster, options: &PlanOptions) -> NodeState {
    let node = cluster.node();
    let primary_addresses: BTreeSet<IpAddr> = Family::ALL
        .into_iter()
        .filter_map(|family| primary_address(node, options.node_ip, family))
        .collect();
    let node_port_addresses = match &options.node_port_addresses {
        NodePortAddresses::Primary => primary_addresses.clone(),
        NodePortAddresses::Cidrs(cidrs) => {
            // A ClusterIP that an IPVS proxy left on its interface is no address of the node.
            let is_the_nodes = |address: &IpAddr| {
                cluster.interfaces(*address).any(|interface| **interface != *IPVS_INTERFACE)
            };
            let addresses = cluster.host_addresses().filter(is_the_nodes);
            addresses.filter(|address| answers_node_ports(*address, cidrs)).collect()
        }
    };
    NodeState {
        node_port_addresses,
        primary_addresses,
        pod_cidrs: node.into_iter().flat_map(|node| &node.pod_cidrs).copied().collect(),
        service_cidrs: cluster
            .service_cidrs()
            .map(|object| (Arc::clone(&object.name), object.cidrs.clone()))
            .collect(),
    }
}

/// Where the pod CIDRs of the cluster overlap with what cannot be pods.
pub(super) fn overlaps(state: &NodeState, cluster_cidrs: &[IpNet]) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for pods in cluster_cidrs.iter().copied() {
        for (name, cidrs) in &state.service_cidrs {
            let overlapping =
                cidrs.iter().filter(|cidr| cidr.contains(&pods) || pods.contains(*cidr));
            warnings.extend(overlapping.map(|cidr| Warning::PodsOverlapServices {
                pods,
                service_cidr: Arc::clone(name),
                cidr: *cidr,
            }));
        }
        let nodes = state.primary_addresses.iter().filter(|address| pods.contains(*address));
        warnings.extend(nodes.map(|address| Warning::PodsOverlapNode { pods, address: *address }));
    }
    warnings
}

/// The first InternalIP of the family, else the first ExternalIP; `node_ip` overrides both.
fn primary_address(node: Option<&Node>, node_ip: Option<IpAddr>, family: Family) -> Option<IpAddr> {
    let of_kind = |kind| {
        let mut addresses = node.into_iter().flat_map(|node| &node.addresses);
        addresses
            .find(|address| address.kind == kind && Family::of(address.address) == family)
            .map(|address| address.address)
    };
    node_ip
        .filter(|address| Family::of(*address) == family && !is_any(*address))
        .or_else(|| of_kind(NodeAddressKind::Internal))
        .or_else(|| of_kind(NodeAddressKind::External))
}

/// `--bind-address=0.0.0.0` is the default of kube-proxy's manifests and names no address.
fn is_any(address: IpAddr) -> bool {
    address == Ipv4Addr::UNSPECIFIED || address == Ipv6Addr::UNSPECIFIED
}

/// Loopback is never selected by a list: what answers there is the host network's own affair, and
/// kube-proxy's nftables mode ignores it too.
fn answers_node_ports(address: IpAddr, cidrs: &[IpNet]) -> bool {
    let family = Family::of(address);
    let mut of_family = cidrs.iter().filter(|cidr| Family::of(cidr.addr()) == family).peekable();
    let selected = of_family.peek().is_none() || of_family.any(|cidr| cidr.contains(&address));
    selected && !address.is_loopback()
}
