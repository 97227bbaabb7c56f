//! Objects out of pools so small that they clash.

use std::{collections::BTreeMap, net::IpAddr, num::NonZeroU16, sync::Arc};

use ipnet::IpNet;
use proptest::{collection::vec, option, prelude::*, sample::select};
use shunt_core::{
    model::{
        Conditions, EndpointSlice, Family, HostAddress, Node, NodeAddress, NodeAddressKind,
        ObjectName, PortSpec, Protocol, Service, ServiceCidr, ServiceType, SliceEndpoint,
        SlicePort, TrafficPolicy,
    },
    plan::NodePortAddresses,
    source::{Object, ObjectId},
};

/// What happens between two plans.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    /// Whether the steps are a complete list.
    pub(crate) after_reset: bool,
    pub(crate) steps: Vec<Step>,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Upsert(Object),
    Remove(ObjectId),
}

pub(crate) fn batches() -> impl Strategy<Value = Vec<Batch>> {
    let step = prop_oneof![
        8 => object().prop_map(Step::Upsert),
        3 => object().prop_map(|object| Step::Remove(object.id())),
    ];
    let batch = prop_oneof![
        8 => vec(step, 0..12).prop_map(|steps| Batch { after_reset: false, steps }),
        1 => vec(object().prop_map(Step::Upsert), 0..12)
            .prop_map(|steps| Batch { after_reset: true, steps }),
    ];
    vec(batch, 1..6)
}

/// Objects of which each is there once.
pub(crate) fn objects() -> impl Strategy<Value = Vec<Object>> {
    vec(object(), 0..30).prop_map(|objects| {
        let by_id: BTreeMap<_, _> =
            objects.into_iter().map(|object| (object.id(), object)).collect();
        by_id.into_values().collect()
    })
}

pub(crate) fn node_port_addresses() -> impl Strategy<Value = NodePortAddresses> {
    let cidr = select(vec!["192.168.0.0/24", "192.168.0.1/32", "127.0.0.0/8", "fd00:1::/64"]);
    prop_oneof![
        Just(NodePortAddresses::Primary),
        vec(cidr.prop_map(range), 0..3).prop_map(NodePortAddresses::Cidrs),
    ]
}

fn object() -> impl Strategy<Value = Object> {
    prop_oneof![
        8 => service().prop_map(Object::from),
        12 => slice().prop_map(Object::from),
        2 => node().prop_map(Object::from),
        1 => service_cidr().prop_map(Object::from),
        2 => host_address().prop_map(Object::from),
    ]
}

fn name() -> impl Strategy<Value = ObjectName> {
    (select(vec!["default", "odd"]), select(vec!["a", "b", "c"]))
        .prop_map(|(namespace, name)| ObjectName::new(namespace, name))
}

/// What the frontends of different Services and kinds share.
fn frontend_address() -> impl Strategy<Value = IpAddr> {
    let pool = ["10.96.0.1", "10.96.0.2", "10.96.0.3", "10.96.0.10", "fd00:96::1", "fd00:96::2"];
    select(pool.to_vec()).prop_map(address)
}

fn policy() -> impl Strategy<Value = TrafficPolicy> {
    select(vec![TrafficPolicy::Cluster, TrafficPolicy::Local])
}

fn protocol() -> impl Strategy<Value = Protocol> {
    select(vec![Protocol::Tcp, Protocol::Tcp, Protocol::Udp, Protocol::Sctp])
}

fn port_name() -> impl Strategy<Value = Arc<str>> {
    select(vec!["", "", "x"]).prop_map(Arc::from)
}

fn port_number(numbers: &'static [u16]) -> impl Strategy<Value = NonZeroU16> {
    select(numbers).prop_filter_map("0 is no port", NonZeroU16::new)
}

fn service_port() -> impl Strategy<Value = PortSpec> {
    let node_port = option::weighted(0.4, port_number(&[30_080, 30_081]));
    (port_name(), protocol(), port_number(&[80, 443]), node_port)
        .prop_map(|(name, protocol, port, node_port)| PortSpec { name, protocol, port, node_port })
}

fn service() -> impl Strategy<Value = Service> {
    let service_type = select(vec![
        ServiceType::ClusterIp,
        ServiceType::ClusterIp,
        ServiceType::NodePort,
        ServiceType::LoadBalancer,
        ServiceType::LoadBalancer,
        ServiceType::ExternalName,
    ]);
    let source_range = select(vec!["10.0.0.0/8", "192.168.0.0/16", "fd00::/8"]).prop_map(range);
    let identity = (name(), 0..3_i64, service_type, prop::bool::weighted(0.1));
    let addresses = (
        vec(frontend_address(), 0..4),
        vec(frontend_address(), 0..3),
        vec(frontend_address(), 0..3),
        vec(source_range, 0..3),
    );
    let rest = (
        vec(service_port(), 0..5),
        option::of(select(vec![0, 1, 10_800, 90_000])),
        policy(),
        policy(),
        option::of(port_number(&[32_000])),
    );
    (identity, addresses, rest).prop_map(|(identity, addresses, rest)| {
        let mut service = Service::new(identity.0);
        (service.created, service.service_type, service.other_proxy) =
            (identity.1, identity.2, identity.3);
        (service.cluster_ips, service.external_ips) = (addresses.0.into(), addresses.1);
        (service.load_balancer_ips, service.source_ranges) = (addresses.2, addresses.3);
        (service.ports, service.affinity_seconds) = (rest.0.into(), rest.1);
        (service.internal_policy, service.external_policy) = (rest.2, rest.3);
        service.health_check_node_port = rest.4;
        service
    })
}

/// Whether the endpoints of a slice have hints: topology counts only where all ready ones do.
#[derive(Clone, Copy, Debug)]
enum Hinted {
    Nobody,
    Everyone,
    Some,
}

fn slice() -> impl Strategy<Value = EndpointSlice> {
    let names = (name(), 0..3_u8, option::weighted(0.9, select(vec!["a", "b", "c"])));
    let family = select(vec![Family::V4, Family::V4, Family::V6]);
    let port = (port_name(), protocol(), port_number(&[8080, 9090]))
        .prop_map(|(name, protocol, port)| SlicePort { name, protocol, port });
    let hinted = || select(vec![Hinted::Nobody, Hinted::Everyone, Hinted::Everyone, Hinted::Some]);
    (names, family, vec(port, 0..4), hinted(), hinted()).prop_flat_map(
        |((name, number, service), family, ports, nodes, zones)| {
            let name = ObjectName::new(&name.namespace, &format!("slice-{number}"));
            vec(endpoint(family, nodes, zones), 0..6).prop_map(move |endpoints| {
                let service = service.map(Arc::from);
                let mut slice = EndpointSlice::new(name.clone(), service, family);
                slice.ports = ports.iter().cloned().collect();
                slice.endpoints = endpoints;
                slice
            })
        },
    )
}

fn endpoint(family: Family, nodes: Hinted, zones: Hinted) -> impl Strategy<Value = SliceEndpoint> {
    let pool = match family {
        Family::V4 => vec!["10.1.0.1", "10.1.0.2", "10.1.0.10", "10.10.0.2"],
        Family::V6 => vec!["fd00:1::1", "fd00:1::2", "fd00:10::", "fd00::1:0:0:1"],
    };
    let conditions = (prop::bool::weighted(0.6), any::<bool>(), any::<bool>())
        .prop_map(|(ready, serving, terminating)| Conditions { ready, serving, terminating });
    let node_name = option::of(select(vec!["node-1", "node-2"]).prop_map(Arc::from));
    let zone = option::of(select(vec!["zone-1", "zone-2"]).prop_map(Arc::from));
    let hint_nodes = hints(nodes, vec!["node-1", "node-2", "node-3"]);
    let hint_zones = hints(zones, vec!["zone-1", "zone-2"]);
    (select(pool).prop_map(address), conditions, node_name, zone, hint_nodes, hint_zones).prop_map(
        |(address, conditions, node_name, zone, hint_nodes, hint_zones)| {
            let mut endpoint = SliceEndpoint::new(address);
            (endpoint.conditions, endpoint.node_name, endpoint.zone) =
                (conditions, node_name, zone);
            endpoint.hint(hint_nodes, hint_zones);
            endpoint
        },
    )
}

fn hints(hinted: Hinted, pool: Vec<&'static str>) -> impl Strategy<Value = Vec<Arc<str>>> {
    let count = match hinted {
        Hinted::Nobody => 0..=0,
        Hinted::Everyone => 1..=2,
        Hinted::Some => 0..=2,
    };
    vec(select(pool).prop_map(Arc::from), count)
}

fn node() -> impl Strategy<Value = Node> {
    let kind = select(vec![NodeAddressKind::Internal, NodeAddressKind::External]);
    let pool = vec!["192.168.0.1", "192.168.0.2", "fd00:1::1", "fd00:1::2"];
    let node_address = (kind, select(pool).prop_map(address))
        .prop_map(|(kind, address)| NodeAddress { kind, address });
    let name = select(vec!["node-1", "node-1", "node-2"]).prop_map(Arc::<str>::from);
    let zone = option::of(select(vec!["zone-1", "zone-2"]).prop_map(Arc::from));
    let pod_cidrs = vec(select(vec!["10.1.0.0/24", "fd00:1::/64"]).prop_map(range), 0..2);
    (name, vec(node_address, 0..4), zone, pod_cidrs).prop_map(
        |(name, addresses, zone, pod_cidrs)| {
            let mut node = Node::new(name);
            (node.addresses, node.zone, node.pod_cidrs) = (addresses, zone, pod_cidrs);
            node
        },
    )
}

fn service_cidr() -> impl Strategy<Value = ServiceCidr> {
    let cidrs = vec(select(vec!["10.96.0.0/16", "fd00:96::/112"]).prop_map(range), 0..3);
    (select(vec!["kubernetes", "more"]).prop_map(Arc::from), cidrs)
        .prop_map(|(name, cidrs)| ServiceCidr { name, cidrs })
}

/// Addresses of the node, and ClusterIPs that something on it has taken.
fn host_address() -> impl Strategy<Value = HostAddress> {
    let interface = select(vec!["eth0", "nodelocaldns", "kube-ipvs0"]).prop_map(Arc::from);
    let own = select(vec!["192.168.0.1", "192.168.0.2", "127.0.0.1", "::1", "fd00:1::1"]);
    let address = prop_oneof![own.prop_map(address), frontend_address()];
    (interface, address).prop_map(|(interface, address)| HostAddress { interface, address })
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn range(text: &str) -> IpNet {
    text.parse().expect("a range")
}
