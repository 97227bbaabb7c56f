//! Who owns what, and what is said about it. The rules of a single Service are tested beside them,
//! and all of them against the naive plan of the harness.

use std::{net::Ipv4Addr, num::NonZeroU16};

use super::*;
use crate::{
    model::{
        EndpointSlice, Family, HostAddress, PortSpec, Protocol, Service, ServiceType,
        SliceEndpoint, SlicePort, TrafficPolicy,
    },
    plan::FrontendKind,
    source::{Object, ObjectId, SourceName, Update},
};

struct World {
    cluster: Cluster,
    planner: Planner,
}

impl World {
    fn new() -> Self {
        let node_port_addresses = NodePortAddresses::Cidrs(Vec::new());
        let options = PlanOptions { node_port_addresses, node_ip: None, cluster_cidrs: Vec::new() };
        let mut world =
            Self { cluster: Cluster::new("node-1".into()), planner: Planner::new(options) };
        world.take([]);
        world
    }

    /// What changed, "name=frontends", and the warnings.
    fn take(&mut self, updates: impl IntoIterator<Item = Update>) -> (Vec<String>, Vec<String>) {
        let (delta, warnings) = self.delta(updates);
        let shown = |(key, state): (&ServicePortKey, &Option<Arc<ServicePort>>)| {
            let frontends = state.as_ref().map(|state| {
                let shown: Vec<String> = state.frontends.iter().map(Frontend::to_string).collect();
                shown.join(", ")
            });
            format!("{}: {}", key.service.name, frontends.as_deref().unwrap_or("gone"))
        };
        let mut changed: Vec<String> = delta.service_ports.iter().map(shown).collect();
        changed.sort();
        (changed, warnings.iter().map(Warning::to_string).collect())
    }

    fn delta(&mut self, updates: impl IntoIterator<Item = Update>) -> (Delta, Vec<Warning>) {
        let mut dirty = Dirty::default();
        for update in updates {
            self.cluster.apply(&SourceName::new("test"), update, &mut dirty);
        }
        self.planner.plan(&self.cluster, dirty)
    }
}

fn service(name: &str, cluster_ip: u8, change: impl FnOnce(&mut Service)) -> Update {
    let mut service = Service::new(ObjectName::new("default", name));
    service.cluster_ips.push(ip(cluster_ip));
    service.ports.push(port("http", 80, None));
    change(&mut service);
    Update::Upsert(Object::from(service))
}

fn port(name: &str, port: u16, node_port: Option<u16>) -> PortSpec {
    PortSpec {
        name: name.into(),
        protocol: Protocol::Tcp,
        port: NonZeroU16::new(port).expect("a port"),
        node_port: node_port.and_then(NonZeroU16::new),
    }
}

fn ip(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 96, 0, last).into()
}

fn gone(name: &str) -> Update {
    Update::Remove(ObjectId::Service(ObjectName::new("default", name)))
}

#[test]
fn the_older_service_owns_a_shared_external_ip_and_the_other_takes_over() {
    let shares = |created| {
        move |service: &mut Service| {
            service.created = created;
            service.external_ips.push(ip(100));
        }
    };
    let mut world = World::new();
    let (changed, warnings) = world.take([service("young", 1, shares(2))]);
    assert_eq!(changed, ["young: ClusterIP 10.96.0.1:80, externalIP 10.96.0.100:80"]);
    assert!(warnings.is_empty());
    let (changed, warnings) = world.take([service("old", 2, shares(1))]);
    assert_eq!(
        changed,
        ["old: ClusterIP 10.96.0.2:80, externalIP 10.96.0.100:80", "young: ClusterIP 10.96.0.1:80",]
    );
    assert_eq!(
        warnings,
        ["Service port default/young:http TCP IPv4 is not served at externalIP \
          10.96.0.100:80: default/old:http TCP IPv4 already is, and will be until it goes"]
    );
    // A standing clash is said once, also when both are planned anew.
    let again = [service("old", 3, shares(1)), service("young", 4, shares(2))];
    assert!(world.take(again).1.is_empty());
    let (changed, warnings) = world.take([gone("old")]);
    assert_eq!(changed, ["old: gone", "young: ClusterIP 10.96.0.4:80, externalIP 10.96.0.100:80"]);
    assert!(warnings.is_empty());
}

#[test]
fn the_kind_wins_before_the_age_and_the_name_decides_last() {
    let check = |one: fn(&mut Service), other: fn(&mut Service), owner: &str| {
        let mut world = World::new();
        world.take([service("b", 1, one), service("a", 2, other)]);
        let owns = |name: &str| {
            let key = ServicePortKey {
                service: ObjectName::new("default", name),
                port: "http".into(),
                protocol: Protocol::Tcp,
                family: Family::V4,
            };
            let state = world.planner.service_port(&key).expect("planned");
            state.frontends.iter().any(|frontend| {
                frontend.kind.address() == Some(ip(100)) || frontend.kind == FrontendKind::NodePort
            })
        };
        assert_eq!((owns("a"), owns("b")), (owner == "a", owner == "b"));
    };
    let external: fn(&mut Service) = |service| service.external_ips.push(ip(100));
    let virtual_ip: fn(&mut Service) = |service| service.load_balancer_ips.push(ip(100));
    let node_port: fn(&mut Service) =
        |service| service.ports[0].node_port = NonZeroU16::new(30_080);
    let young_external: fn(&mut Service) = |service| {
        service.created = 9;
        service.external_ips.push(ip(100));
    };
    check(external, external, "a");
    check(external, virtual_ip, "b");
    check(young_external, virtual_ip, "b");
    check(young_external, external, "a");
    check(node_port, node_port, "a");
}

#[test]
fn a_frontend_that_moves_within_one_round_is_no_clash() {
    let mut world = World::new();
    let shares = |service: &mut Service| service.external_ips.push(ip(100));
    world.take([service("a", 1, shares), service("b", 2, |_| {})]);
    let (_, warnings) = world.take([service("b", 2, shares), service("a", 1, |_| {})]);
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn of_two_ports_with_one_name_the_first_counts_and_it_is_said_once() {
    let mut world = World::new();
    let twice = |service: &mut Service| service.ports.push(port("http", 81, None));
    let (changed, warnings) = world.take([service("web", 1, twice)]);
    assert_eq!(changed, ["web: ClusterIP 10.96.0.1:80"]);
    assert_eq!(
        warnings,
        ["Service default/web has more than one TCP port named \"http\": only the first is served"]
    );
    assert!(world.take([service("web", 2, twice)]).1.is_empty());
    world.take([service("web", 2, |_| {})]);
    assert_eq!(world.take([service("web", 2, twice)]).1.len(), 1);
}

#[test]
fn a_service_that_is_skipped_is_as_good_as_gone() {
    let check = |skip: fn(&mut Service)| {
        let mut world = World::new();
        world.take([service("web", 1, |_| {})]);
        let (delta, _) = world.delta([service("web", 1, skip)]);
        assert_eq!(delta.cluster_ips.get(&ip(1)), Some(&false));
        assert!(
            delta.service_ports.len() == 1 && delta.service_ports.values().all(Option::is_none)
        );
        let (delta, _) = world.delta([service("web", 1, |_| {})]);
        assert_eq!(delta.cluster_ips.get(&ip(1)), Some(&true));
    };
    check(|service| service.other_proxy = true);
    check(|service| service.service_type = ServiceType::ExternalName);
    check(|service| service.cluster_ips.clear());
}

#[test]
fn an_address_that_changes_hands_stays_active() {
    let mut world = World::new();
    world.take([service("a", 1, |_| {})]);
    let (delta, _) = world.delta([service("b", 1, |_| {}), gone("a")]);
    assert!(delta.cluster_ips.is_empty(), "{:?}", delta.cluster_ips);
    let (delta, _) = world.delta([service("c", 1, |_| {})]);
    assert!(delta.cluster_ips.is_empty(), "{:?}", delta.cluster_ips);
}

#[test]
fn a_cluster_ip_on_an_interface_is_followed() {
    let carried =
        |interface: &str| Object::from(HostAddress { interface: interface.into(), address: ip(1) });
    let mut world = World::new();
    world.take([service("dns", 1, |_| {}), service("web", 2, |_| {})]);
    let (delta, _) = world.delta([Update::Upsert(carried("kube-ipvs0"))]);
    assert!(delta.service_ports.is_empty());
    let (delta, _) = world.delta([Update::Upsert(carried("nodelocaldns"))]);
    let states: Vec<_> = delta.service_ports.values().flatten().collect();
    assert_eq!(states.len(), 1);
    assert_eq!(states[0].frontends[0].on_interface.as_deref(), Some("nodelocaldns"));
    let (delta, _) = world.delta([Update::Remove(carried("nodelocaldns").id())]);
    assert_eq!(delta.service_ports.len(), 1);
}

#[test]
fn a_change_costs_what_it_touches() {
    let mut world = World::new();
    world.take((0..100).map(|number| service(&format!("s{number}"), number, |_| {})));
    let shares = |service: &mut Service| service.external_ips.push(ip(200));
    assert_eq!(world.take([service("s7", 7, shares)]).0.len(), 1);
    assert_eq!(world.take([service("s8", 8, shares)]).0.len(), 0, "s7 keeps it");
    assert_eq!(world.take([gone("s7")]).0.len(), 2, "s8 takes over");
}

#[test]
fn a_node_without_addresses_is_said_once() {
    let options = PlanOptions {
        node_port_addresses: NodePortAddresses::Primary,
        node_ip: None,
        cluster_cidrs: Vec::new(),
    };
    let mut planner = Planner::new(options);
    let cluster = Cluster::new("node-1".into());
    let told = Warning::NoPrimaryAddress { node: "node-1".into() };
    assert_eq!(planner.plan(&cluster, Dirty::default()).1, [told]);
    let dirty = Dirty { node: true, ..Dirty::default() };
    assert!(planner.plan(&cluster, dirty).1.is_empty());
}

#[test]
fn vips_without_a_range_of_their_family_are_open_to_everybody_and_that_is_said() {
    let mut world = World::new();
    let mut check = |vips: &[&str], ranges: &[&str], restricted: [bool; 2], warned: &[&str]| {
        let change = |service: &mut Service| {
            service.cluster_ips.push("fd96::1".parse().expect("an address"));
            service.load_balancer_ips = vips.iter().map(|ip| ip.parse().unwrap()).collect();
            service.source_ranges = ranges.iter().map(|range| range.parse().unwrap()).collect();
        };
        world.take([gone("web")]);
        let (delta, warnings) = world.delta([service("web", 1, change)]);
        for (key, state) in &delta.service_ports {
            let state = state.as_ref().expect("a state");
            let expected = restricted[usize::from(key.family == Family::V6)];
            assert_eq!(!state.source_ranges.is_empty(), expected, "{ranges:?} {key}");
        }
        let families: Vec<_> = warned
            .iter()
            .map(|family| {
                format!(
                    "Load-balancer VIPs of Service default/web are open to everybody in {family}: \
                     none of its source ranges is of that family"
                )
            })
            .collect();
        let warnings: Vec<_> = warnings.iter().map(Warning::to_string).collect();
        assert_eq!(warnings, families, "{vips:?} {ranges:?}");
    };
    let both = ["203.0.113.1", "2001:db8::1"];
    check(&both, &[], [false, false], &[]);
    check(&both, &["10.0.0.0/8"], [true, false], &["IPv6"]);
    check(&both, &["fd77::/64"], [false, true], &["IPv4"]);
    check(&both, &["10.0.0.0/8", "fd77::/64"], [true, true], &[]);
    check(&both[..1], &["10.0.0.0/8"], [true, false], &[]);
    check(&[], &["fd77::/64"], [false, true], &[]);
}

#[test]
fn a_slice_waits_for_its_service() {
    let mut world = World::new();
    let name = ObjectName::new("default", "web-1");
    let mut slice = EndpointSlice::new(name, Some("web".into()), Family::V4);
    slice.endpoints.push(SliceEndpoint::new([10, 1, 0, 1].into()));
    let number = NonZeroU16::new(8080).expect("a port");
    slice.ports.push(SlicePort { name: "http".into(), protocol: Protocol::Tcp, port: number });
    let (delta, warnings) = world.delta([Update::Upsert(Object::from(slice))]);
    assert!(delta.service_ports.is_empty() && warnings.is_empty(), "{delta:?} {warnings:?}");
    let (delta, _) = world.delta([service("web", 1, |_| ())]);
    let found: Vec<_> = delta.service_ports.values().flatten().collect();
    let [port] = found.as_slice() else { panic!("{delta:?}") };
    assert_eq!(port.cluster_list().count(), 1);
}

#[test]
fn service_ports_without_an_endpoint_here_are_counted_as_long_as_they_are() {
    let mut world = World::new();
    let counts = |world: &World, internal, external| {
        let counts = world.planner.no_local_endpoints()[Family::V4];
        assert_eq!((counts.internal, counts.external), (internal, external));
        assert_eq!(world.planner.no_local_endpoints()[Family::V6], Default::default());
    };
    let slice = |service: &str, node: &str| {
        let name = ObjectName::new("default", &format!("{service}-1"));
        let mut slice = EndpointSlice::new(name, Some(service.into()), Family::V4);
        let mut endpoint = SliceEndpoint::new([10, 1, 0, 1].into());
        endpoint.node_name = Some(node.into());
        slice.endpoints.push(endpoint);
        let number = NonZeroU16::new(8080).expect("a port");
        slice.ports.push(SlicePort { name: "http".into(), protocol: Protocol::Tcp, port: number });
        Update::Upsert(Object::from(slice))
    };
    let internal = |service: &mut Service| service.internal_policy = TrafficPolicy::Local;
    let external = |service: &mut Service| {
        service.external_policy = TrafficPolicy::Local;
        service.external_ips.push(ip(200));
    };
    world.take([service("in", 1, internal), service("out", 2, external)]);
    // Without an endpoint anywhere they refuse.
    counts(&world, 0, 0);
    world.take([slice("in", "elsewhere"), slice("out", "elsewhere")]);
    counts(&world, 1, 1);
    world.take([slice("in", "node-1")]);
    counts(&world, 0, 1);
    world.take([slice("in", "elsewhere"), service("in", 1, |_| {})]);
    counts(&world, 0, 1);
    world.take([gone("out")]);
    counts(&world, 0, 0);
}
