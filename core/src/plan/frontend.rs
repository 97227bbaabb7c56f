//! At which addresses and ports a ServicePort wants to be reached.

use std::{net::IpAddr, sync::Arc};

use smallvec::{SmallVec, smallvec};

use super::{Frontend, FrontendKind};
use crate::model::{Cluster, Family, PortSpec, Service, ServiceType};

/// The dummy interface on which kube-proxy in IPVS mode puts every ClusterIP: nothing listens
/// there.
pub(super) const IPVS_INTERFACE: &str = "kube-ipvs0";

/// Whether the Service is Shunt's to serve; one that is not is as good as absent.
pub(super) fn is_served(service: &Service) -> bool {
    service.service_type != ServiceType::ExternalName && !service.other_proxy
}

/// The clusterIP of the Service in a family, without which it does not exist in it.
pub(super) fn cluster_ip(service: &Service, family: Family) -> Option<IpAddr> {
    of_family(&service.cluster_ips, family).next()
}

/// The frontends that a port of a Service wants in the family of its clusterIP, sorted. An address
/// that the Service names twice is there once, as the kind that wins.
pub(super) fn wanted(
    cluster: &Cluster,
    service: &Service,
    port: &PortSpec,
    cluster_ip: IpAddr,
) -> SmallVec<[Frontend; 1]> {
    let family = Family::of(cluster_ip);
    let mut frontends = smallvec![Frontend {
        kind: FrontendKind::ClusterIp(cluster_ip),
        port: port.port,
        on_interface: interface(cluster, cluster_ip),
    }];
    let external = of_family(&service.external_ips, family).map(FrontendKind::ExternalIp);
    let virtual_ips =
        of_family(&service.load_balancer_ips, family).map(FrontendKind::LoadBalancerIp);
    for kind in external.chain(virtual_ips) {
        let is_known = |known: &Frontend| known.kind.address() == kind.address();
        if !frontends.iter().any(is_known) {
            frontends.push(Frontend::new(kind, port.port));
        }
    }
    if let Some(node_port) = port.node_port {
        frontends.push(Frontend::new(FrontendKind::NodePort, node_port));
    }
    frontends.sort_unstable();
    frontends
}

/// Whether connections from outside the cluster can reach the port. This is asked of what the
/// Service names, not of what it gets, so that a clash does not change its policies.
pub(super) fn is_externally_accessible(service: &Service, port: &PortSpec, family: Family) -> bool {
    port.node_port.is_some()
        || of_family(&service.load_balancer_ips, family).next().is_some()
        || of_family(&service.external_ips, family).next().is_some()
}

fn of_family(addresses: &[IpAddr], family: Family) -> impl Iterator<Item = IpAddr> {
    addresses.iter().copied().filter(move |address| Family::of(*address) == family)
}

fn interface(cluster: &Cluster, address: IpAddr) -> Option<Arc<str>> {
    cluster.interfaces(address).find(|interface| ***interface != *IPVS_INTERFACE).cloned()
}
