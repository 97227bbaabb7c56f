//! The plan of one Service as if it were alone.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;
use smallvec::SmallVec;

use super::{
    EndpointLists, Frontend, HealthCheck, ServicePort, ServicePortKey, Warning, affinity, frontend,
    health,
    select::{self, Locality},
};
use crate::model::{Cluster, Family, ObjectName, PortSpec, Service, TrafficPolicy};

/// The plan of one Service as if it were alone.
#[derive(Debug, Default)]
pub(super) struct ServiceDraft {
    pub(super) cluster_ips: ClusterIps,
    pub(super) ports: Vec<PortDraft>,
    pub(super) health: Option<HealthCheck>,
    pub(super) warnings: Vec<Warning>,
}

/// The active ClusterIPs of a Service: at most one in each family.
pub(super) type ClusterIps = [Option<IpAddr>; Family::ALL.len()];

/// The plan of a ServicePort before it is settled which frontends it gets.
#[derive(Debug)]
pub(super) struct PortDraft {
    pub(super) key: ServicePortKey,
    pub(super) created: i64,
    /// The frontends that it wants, sorted.
    pub(super) wanted: SmallVec<[Frontend; 1]>,
    /// Its state, still without frontends.
    pub(super) state: ServicePort,
}

/// Drafts the Service called `name`; one that is not there, or not served, has no ports.
pub(super) fn draft(cluster: &Cluster, name: &ObjectName) -> ServiceDraft {
    let served = cluster.service(name).filter(|service| frontend::is_served(service));
    let Some(service) = served else { return ServiceDraft::default() };
    let cluster_ips = Family::ALL.map(|family| frontend::cluster_ip(service, family));
    let mut draft = ServiceDraft { cluster_ips, ..ServiceDraft::default() };
    let families = draft.cluster_ips.iter().flatten().count();
    draft.ports.reserve_exact(service.ports.len() * families);
    for (place, port) in service.ports.iter().enumerate() {
        let is_same = |other: &PortSpec| other.name == port.name && other.protocol == port.protocol;
        if service.ports.iter().take(place).any(is_same) {
            let warning = Warning::DuplicatePort {
                service: name.clone(),
                port: Arc::clone(&port.name),
                protocol: port.protocol,
            };
            if !draft.warnings.contains(&warning) {
                draft.warnings.push(warning);
            }
            continue;
        }
        let addresses = draft.cluster_ips.into_iter().flatten();
        draft.ports.extend(addresses.map(|address| draft_port(cluster, service, port, address)));
    }
    draft.warnings.extend(unrestricted(service, draft.cluster_ips));
    draft.health = health::check(service, &draft.ports);
    draft
}

/// Families are independent, so where a Service has source ranges but none of a family, its VIPs
/// of that family are open to everybody: hardly what was meant.
fn unrestricted(service: &Service, cluster_ips: ClusterIps) -> Option<Warning> {
    let has = |address: IpAddr, family| Family::of(address) == family;
    let is_unrestricted = |family: &Family| {
        service.load_balancer_ips.iter().any(|address| has(*address, *family))
            && !service.source_ranges.iter().any(|range| has(range.addr(), *family))
    };
    if service.source_ranges.is_empty() {
        return None;
    }
    let family = cluster_ips.into_iter().flatten().map(Family::of).find(is_unrestricted)?;
    Some(Warning::NoRangeOfFamily { service: service.name.clone(), family })
}

/// Section 3 of service-semantics: which lists the policies use, and what is in them.
fn draft_port(
    cluster: &Cluster,
    service: &Service,
    port: &PortSpec,
    cluster_ip: IpAddr,
) -> PortDraft {
    let family = Family::of(cluster_ip);
    let wanted = frontend::wanted(cluster, service, port, cluster_ip);
    let externally_accessible = frontend::is_externally_accessible(service, port, family);
    let external_policy =
        if externally_accessible { service.external_policy } else { TrafficPolicy::Cluster };
    let internal_local = service.internal_policy == TrafficPolicy::Local;
    let lists = EndpointLists {
        cluster: !internal_local || externally_accessible,
        local: internal_local || external_policy == TrafficPolicy::Local,
    };
    let slices = cluster.slices(&service.name);
    let selection = select::select(slices, port, family, Locality::of(cluster), lists);
    let of_family = |range: &&IpNet| Family::of(range.addr()) == family;
    let state = ServicePort {
        frontends: SmallVec::new(),
        internal_policy: service.internal_policy,
        external_policy,
        endpoints: selection.endpoints,
        lists,
        has_any: selection.has_any,
        affinity_seconds: affinity::seconds(service),
        source_ranges: service.source_ranges.iter().filter(of_family).copied().collect(),
    };
    let key = ServicePortKey {
        service: service.name.clone(),
        port: Arc::clone(&port.name),
        protocol: port.protocol,
        family,
    };
    PortDraft { key, created: service.created, wanted, state }
}
