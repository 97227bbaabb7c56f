//! The plan once more, straight from the text of service-semantics: slow, obvious, from scratch.
//!
//! It shares no code with `shunt_core::plan` but the types of its output, so that what both say is
//! what the text says. Numbers in brackets name the section.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    sync::Arc,
};

use shunt_core::{
    model::{
        EndpointSlice, Family, Node, NodeAddressKind, ObjectName, PortSpec, Protocol, Service,
        ServiceType, SliceEndpoint, TrafficPolicy,
    },
    plan::{
        Endpoint, Frontend, FrontendKind, NodePortAddresses, NodeState, ServicePort, ServicePortKey,
    },
    source::Object,
};

/// What the naive plan says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NaivePlan {
    /// The node's part.
    pub node: NodeState,
    /// The active ClusterIPs.
    pub cluster_ips: BTreeSet<IpAddr>,
    /// Every ServicePort.
    pub service_ports: BTreeMap<ServicePortKey, ServicePort>,
}

/// Where a health check is asked for, and the addresses that count in each family.
pub type NaiveHealthCheck = (NonZeroU16, BTreeMap<Family, BTreeSet<IpAddr>>);

/// What there is, all at once.
#[derive(Clone, Debug)]
pub struct NaiveCluster {
    /// Every object, each identity once.
    pub objects: Vec<Object>,
    /// The name of this node.
    pub node_name: Arc<str>,
    /// `--nodeport-addresses`.
    pub node_port_addresses: NodePortAddresses,
    /// `--bind-address`.
    pub node_ip: Option<IpAddr>,
}

impl NaiveCluster {
    /// Plans everything.
    #[must_use]
    pub fn plan(&self) -> NaivePlan {
        let claims = self.claims();
        let mut service_ports = BTreeMap::new();
        for (service, port, cluster_ip) in self.service_ports() {
            let key = key(service, port, cluster_ip);
            service_ports.insert(key, self.service_port(service, port, cluster_ip, &claims));
        }
        NaivePlan { node: self.node_state(), cluster_ips: self.cluster_ips(), service_ports }
    }

    /// (5) The health checks that are asked for: the port, and in each family of the Service the
    /// distinct local ready endpoint addresses over all ports.
    #[must_use]
    pub fn health_checks(&self) -> BTreeMap<ObjectName, NaiveHealthCheck> {
        let mut checks: BTreeMap<ObjectName, NaiveHealthCheck> = BTreeMap::new();
        for (service, port, cluster_ip) in self.service_ports() {
            let Some(check_port) = service.health_check_node_port else { continue };
            if service.service_type != ServiceType::LoadBalancer
                || service.external_policy != TrafficPolicy::Local
            {
                continue;
            }
            let family = Family::of(cluster_ip);
            let check = checks.entry(service.name.clone()).or_insert((check_port, BTreeMap::new()));
            let counted = check.1.entry(family).or_default();
            for found in self.instances(&service.name, port, family).into_values() {
                if self.is_local(&found) && is_ready(&found) {
                    counted.insert(found.address);
                }
            }
        }
        checks
    }

    /// (1) Services that are not another proxy's, not headless and not an ExternalName.
    fn served(&self) -> impl Iterator<Item = &Service> {
        self.objects.iter().filter_map(|object| match object {
            Object::Service(service)
                if !service.other_proxy && service.service_type != ServiceType::ExternalName =>
            {
                Some(&**service)
            }
            _ => None,
        })
    }

    /// (1) A ServicePort is (namespace, name, port name, protocol), in each family in which its
    /// Service has a clusterIP.
    fn service_ports(&self) -> Vec<(&Service, &PortSpec, IpAddr)> {
        let mut all = Vec::new();
        for service in self.served() {
            let mut seen = BTreeSet::new();
            for port in &service.ports {
                if seen.insert((&port.name, port.protocol)) {
                    all.extend(cluster_ips(service).into_iter().map(|ip| (service, port, ip)));
                }
            }
        }
        all
    }

    fn cluster_ips(&self) -> BTreeSet<IpAddr> {
        self.served().flat_map(cluster_ips).collect()
    }

    /// (1) "One (address, protocol, port) has one owner": everything that anyone wants.
    fn claims(&self) -> Vec<Claim> {
        let mut claims = Vec::new();
        for (service, port, cluster_ip) in self.service_ports() {
            let key = key(service, port, cluster_ip);
            for frontend in self.wanted(service, port, cluster_ip) {
                claims.push(Claim { created: service.created, key: key.clone(), frontend });
            }
        }
        claims
    }

    fn wanted(&self, service: &Service, port: &PortSpec, cluster_ip: IpAddr) -> Vec<Frontend> {
        let family = Family::of(cluster_ip);
        let of_family = |address: &&IpAddr| Family::of(**address) == family;
        let mut wanted = vec![Frontend::new(FrontendKind::ClusterIp(cluster_ip), port.port)];
        wanted[0].on_interface = self.interface(cluster_ip);
        for address in service.external_ips.iter().filter(of_family) {
            wanted.push(Frontend::new(FrontendKind::ExternalIp(*address), port.port));
        }
        for address in service.load_balancer_ips.iter().filter(of_family) {
            wanted.push(Frontend::new(FrontendKind::LoadBalancerIp(*address), port.port));
        }
        if let Some(node_port) = port.node_port {
            wanted.push(Frontend::new(FrontendKind::NodePort, node_port));
        }
        wanted.sort();
        wanted.dedup();
        wanted
    }

    fn interface(&self, address: IpAddr) -> Option<Arc<str>> {
        let carriers = self.objects.iter().filter_map(|object| match object {
            Object::HostAddress(host) if host.address == address => Some(&host.interface),
            _ => None,
        });
        carriers.filter(|interface| ***interface != *"kube-ipvs0").min().cloned()
    }

    /// (3)
    fn service_port(
        &self,
        service: &Service,
        port: &PortSpec,
        cluster_ip: IpAddr,
        claims: &[Claim],
    ) -> ServicePort {
        let family = Family::of(cluster_ip);
        let key = key(service, port, cluster_ip);
        let wanted = self.wanted(service, port, cluster_ip);
        let externally_accessible =
            wanted.iter().any(|frontend| !matches!(frontend.kind, FrontendKind::ClusterIp(_)));
        let internal_local = service.internal_policy == TrafficPolicy::Local;
        let external_local =
            service.external_policy == TrafficPolicy::Local && externally_accessible;
        let uses_cluster = !internal_local || externally_accessible;
        let uses_local = internal_local || external_local;

        let instances = self.instances(&service.name, port, family);
        let cluster_list = self.cluster_list(&instances);
        let local_list = self.local_list(&instances);
        let mut state = ServicePort::new();
        state.frontends =
            wanted.into_iter().filter(|frontend| owns(claims, &key, frontend)).collect();
        state.internal_policy = service.internal_policy;
        state.external_policy =
            if external_local { TrafficPolicy::Local } else { TrafficPolicy::Cluster };
        state.lists.cluster = uses_cluster;
        state.lists.local = uses_local;
        state.has_any = (uses_cluster && !cluster_list.is_empty())
            || (uses_local
                && instances.values().any(|found| is_ready(found) || is_terminating(found)));
        for (address, found) in
            instances.iter().filter(|(_, found)| is_ready(found) || is_serving(found))
        {
            let mut endpoint = Endpoint::new(address.parse().unwrap_or(NOWHERE));
            endpoint.conditions = found.conditions;
            endpoint.local = self.is_local(found);
            endpoint.in_cluster = uses_cluster && cluster_list.contains(address);
            endpoint.in_local = uses_local && local_list.contains(address);
            endpoint.node_name.clone_from(&found.node_name);
            endpoint.zone.clone_from(&found.zone);
            state.endpoints.push(endpoint);
        }
        state.affinity_seconds = service.affinity_seconds.map(|seconds| seconds.clamp(1, 86_400));
        // [1] Filtered by family; with none left there is no restriction.
        let of_family = |range: &&ipnet::IpNet| Family::of(range.addr()) == family;
        state.source_ranges = service.source_ranges.iter().filter(of_family).copied().collect();
        state
    }

    /// (2) What the slices offer, by the text "ip:port". The same ip:port counts once; a local
    /// instance wins (then one that serves, then the one in the first slice by name).
    fn instances(
        &self,
        service: &ObjectName,
        port: &PortSpec,
        family: Family,
    ) -> BTreeMap<String, SliceEndpoint> {
        let mut by_text: BTreeMap<String, Vec<SliceEndpoint>> = BTreeMap::new();
        for slice in self.slices(service, family) {
            for offered in &slice.ports {
                if offered.name != port.name || offered.protocol != port.protocol {
                    continue;
                }
                for found in &slice.endpoints {
                    let text = SocketAddr::new(found.address, offered.port.get()).to_string();
                    by_text.entry(text).or_default().push(found.clone());
                }
            }
        }
        let best = |found: Vec<SliceEndpoint>| {
            found
                .into_iter()
                .rev()
                .max_by_key(|found| (self.is_local(found), is_ready(found), is_serving(found)))
        };
        by_text.into_iter().filter_map(|(text, found)| Some((text, best(found)?))).collect()
    }

    fn slices(&self, service: &ObjectName, family: Family) -> Vec<&EndpointSlice> {
        let is_its = |slice: &EndpointSlice| {
            slice.service.as_ref() == Some(service) && slice.family == family
        };
        let mut slices: Vec<_> = self
            .objects
            .iter()
            .filter_map(|object| match object {
                Object::EndpointSlice(slice) if is_its(slice) => Some(&**slice),
                _ => None,
            })
            .collect();
        slices.sort_by_key(|slice| slice.name.clone());
        slices
    }

    fn cluster_list(&self, instances: &BTreeMap<String, SliceEndpoint>) -> BTreeSet<String> {
        let ready: Vec<_> = instances.iter().filter(|(_, found)| is_ready(found)).collect();
        if ready.is_empty() {
            return texts(instances.iter().filter(|(_, found)| is_terminating(found)));
        }
        let for_this_node = |found: &SliceEndpoint| found.hint_nodes().contains(&self.node_name);
        let zone = self.node().and_then(|node| node.zone.clone());
        let for_this_zone = |found: &SliceEndpoint| {
            zone.as_ref().is_some_and(|zone| found.hint_zones().contains(zone))
        };
        let all_have_nodes = ready.iter().all(|(_, found)| !found.hint_nodes().is_empty());
        if all_have_nodes && ready.iter().any(|(_, found)| for_this_node(found)) {
            return texts(ready.into_iter().filter(|(_, found)| for_this_node(found)));
        }
        let all_have_zones = ready.iter().all(|(_, found)| !found.hint_zones().is_empty());
        if all_have_zones && ready.iter().any(|(_, found)| for_this_zone(found)) {
            return texts(ready.into_iter().filter(|(_, found)| for_this_zone(found)));
        }
        texts(ready.into_iter())
    }

    fn local_list(&self, instances: &BTreeMap<String, SliceEndpoint>) -> BTreeSet<String> {
        let local = instances.iter().filter(|(_, found)| self.is_local(found));
        let ready = texts(local.clone().filter(|(_, found)| is_ready(found)));
        if ready.is_empty() {
            return texts(local.filter(|(_, found)| is_terminating(found)));
        }
        ready
    }

    fn is_local(&self, found: &SliceEndpoint) -> bool {
        found.node_name.as_ref() == Some(&self.node_name)
    }

    fn node(&self) -> Option<&Node> {
        self.objects.iter().find_map(|object| match object {
            Object::Node(node) if node.name == self.node_name => Some(&**node),
            _ => None,
        })
    }

    /// [4.4] and the other facts about the node.
    fn node_state(&self) -> NodeState {
        let mut state = NodeState::default();
        let node = self.node();
        state.primary_addresses =
            Family::ALL.into_iter().filter_map(|family| self.primary(family)).collect();
        if let Some(node) = node {
            state.pod_cidrs.extend(&node.pod_cidrs);
        }
        for object in &self.objects {
            match object {
                Object::ServiceCidr(cidr) => {
                    state.service_cidrs.insert(Arc::clone(&cidr.name), cidr.cidrs.clone());
                }
                // What an IPVS proxy left is no address of the node.
                Object::HostAddress(host)
                    if self.is_selected(host.address) && *host.interface != *"kube-ipvs0" =>
                {
                    state.node_port_addresses.insert(host.address);
                }
                _ => {}
            }
        }
        if self.node_port_addresses == NodePortAddresses::Primary {
            state.node_port_addresses = state.primary_addresses.clone();
        }
        state
    }

    fn primary(&self, family: Family) -> Option<IpAddr> {
        let of_family = |address: &IpAddr| Family::of(*address) == family;
        if let Some(address) = self.node_ip.filter(of_family) {
            return Some(address);
        }
        let addresses = &self.node()?.addresses;
        let first = |kind| {
            addresses
                .iter()
                .filter(|found| found.kind == kind)
                .map(|found| found.address)
                .find(of_family)
        };
        first(NodeAddressKind::Internal).or_else(|| first(NodeAddressKind::External))
    }

    fn is_selected(&self, address: IpAddr) -> bool {
        let NodePortAddresses::Cidrs(cidrs) = &self.node_port_addresses else { return false };
        let family = Family::of(address);
        let mut cidrs = cidrs.clone();
        cidrs.retain(|cidr| Family::of(cidr.addr()) == family);
        !address.is_loopback()
            && (cidrs.is_empty() || cidrs.iter().any(|cidr| cidr.contains(&address)))
    }
}

/// Somebody wants a frontend.
#[derive(Clone, Debug)]
struct Claim {
    created: i64,
    key: ServicePortKey,
    frontend: Frontend,
}

type Slot = (Option<IpAddr>, Option<Family>, Protocol, NonZeroU16);

impl Claim {
    fn slot(&self) -> Slot {
        slot(&self.key, &self.frontend)
    }

    /// (1) Kind, then the older creationTimestamp, then the name.
    fn rank(&self) -> (u8, i64, &ObjectName, &str) {
        let kind = match self.frontend.kind {
            FrontendKind::ClusterIp(_) => 0,
            FrontendKind::ExternalIp(_) => 1,
            FrontendKind::LoadBalancerIp(_) => 2,
            FrontendKind::NodePort => 3,
        };
        (kind, self.created, &self.key.service, &self.key.port)
    }
}

fn slot(key: &ServicePortKey, frontend: &Frontend) -> Slot {
    let address = frontend.kind.address();
    let node_port_of = address.is_none().then_some(key.family);
    (address, node_port_of, key.protocol, frontend.port)
}

fn owns(claims: &[Claim], key: &ServicePortKey, frontend: &Frontend) -> bool {
    let wanted = slot(key, frontend);
    let rivals = claims.iter().filter(|claim| claim.slot() == wanted);
    let owner = rivals.min_by_key(|claim| claim.rank());
    owner.is_some_and(|owner| owner.key == *key && owner.frontend.kind == frontend.kind)
}

/// (1) At most one clusterIP a family counts.
fn cluster_ips(service: &Service) -> Vec<IpAddr> {
    let first =
        |family| service.cluster_ips.iter().copied().find(|address| Family::of(*address) == family);
    Family::ALL.into_iter().filter_map(first).collect()
}

fn key(service: &Service, port: &PortSpec, cluster_ip: IpAddr) -> ServicePortKey {
    ServicePortKey {
        service: service.name.clone(),
        port: Arc::clone(&port.name),
        protocol: port.protocol,
        family: Family::of(cluster_ip),
    }
}

fn is_ready(found: &SliceEndpoint) -> bool {
    found.conditions.ready
}

fn is_serving(found: &SliceEndpoint) -> bool {
    found.conditions.serving
}

fn is_terminating(found: &SliceEndpoint) -> bool {
    found.conditions.serving && found.conditions.terminating
}

fn texts<'a>(instances: impl Iterator<Item = (&'a String, &'a SliceEndpoint)>) -> BTreeSet<String> {
    instances.map(|(text, _)| text.clone()).collect()
}

/// For a text that is no address, which none is: it was written from one.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);
