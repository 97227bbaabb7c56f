//! Requirement 2 of the connect-time contract, as tables.

use std::{net::SocketAddr, num::NonZeroU16};

use shunt_core::{
    model::{Family, ObjectName},
    plan::Frontend,
};

use super::*;

fn key(protocol: Protocol) -> ServicePortKey {
    let service = ObjectName::new("default", "web");
    ServicePortKey { service, port: "".into(), protocol, family: Family::V4 }
}

const CLUSTER_IP: FrontendKind = FrontendKind::ClusterIp(ip(1));
const EXTERNAL_IP: FrontendKind = FrontendKind::ExternalIp(ip(2));
const VIP: FrontendKind = FrontendKind::LoadBalancerIp(ip(3));
const NODE_PORT: FrontendKind = FrontendKind::NodePort;

const fn ip(last: u8) -> IpAddr {
    IpAddr::V4(std::net::Ipv4Addr::new(10, 96, 0, last))
}

/// All four kinds of frontend, and one endpoint elsewhere.
fn port() -> ServicePort {
    let mut port = ServicePort::new();
    port.frontends = [CLUSTER_IP, EXTERNAL_IP, VIP, NODE_PORT].map(frontend).into_iter().collect();
    port.endpoints = vec![endpoint("10.0.0.1:80")];
    port.has_any = true;
    port
}

fn frontend(kind: FrontendKind) -> Frontend {
    Frontend::new(kind, NonZeroU16::new(80).unwrap())
}

fn endpoint(address: &str) -> plan::Endpoint {
    plan::Endpoint::new(address.parse::<SocketAddr>().unwrap())
}

/// The kinds that are served, in order, and the reason why not all.
#[track_caller]
fn check(
    protocol: Protocol,
    change: impl Fn(&mut ServicePort),
    kinds: &[FrontendKind],
    left: Option<LeftReason>,
) {
    let mut port = port();
    change(&mut port);
    let frontends = Frontends::of(&key(protocol), &port);
    let served: Vec<_> = frontends.slots.iter().map(|served| served.kind).collect();
    assert_eq!(served, kinds.iter().map(|kind| table_kind(*kind)).collect::<Vec<_>>());
    assert_eq!(frontends.left, left);
}

#[test]
fn which_frontends_are_served() {
    let all = [CLUSTER_IP, EXTERNAL_IP, VIP, NODE_PORT];
    check(Protocol::Tcp, |_| {}, &all, None);
    check(Protocol::Udp, |_| {}, &all, None);
    check(Protocol::Sctp, |_| {}, &[], Some(LeftReason::Protocol(Protocol::Sctp)));

    let restricted = |port: &mut ServicePort| {
        port.source_ranges = vec!["192.0.2.0/24".parse().unwrap()].into();
    };
    let without_vip = [CLUSTER_IP, EXTERNAL_IP, NODE_PORT];
    check(Protocol::Tcp, restricted, &without_vip, Some(LeftReason::SourceRanges));

    let mut on_interface = frontend(CLUSTER_IP);
    on_interface.on_interface = Some("nodelocaldns".into());
    let reason = LeftReason::OnInterface(on_interface.clone());
    let assign = |port: &mut ServicePort| port.frontends[0] = on_interface.clone();
    check(Protocol::Tcp, assign, &[EXTERNAL_IP, VIP, NODE_PORT], Some(reason));
}

/// One affinity, not two.
#[test]
fn an_affinity_is_not_split() {
    let affine = |port: &mut ServicePort| port.affinity_seconds = Some(10800);
    check(Protocol::Tcp, affine, &[CLUSTER_IP, EXTERNAL_IP, VIP, NODE_PORT], None);
    let restricted = |port: &mut ServicePort| {
        port.affinity_seconds = Some(10800);
        port.source_ranges = vec!["192.0.2.0/24".parse().unwrap()].into();
    };
    check(Protocol::Tcp, restricted, &[], Some(LeftReason::SourceRanges));

    // The ClusterIP has no local endpoint, so the packet path drops what goes to it.
    let mut port = port();
    port.internal_policy = TrafficPolicy::Local;
    let left = || Some(Content::Left(LeftReason::NoLocalEndpoint));
    assert_eq!(contents(&port, true), [Some(of(&["10.0.0.1:80"])), left()]);
    port.affinity_seconds = Some(10800);
    assert_eq!(contents(&port, true), [left(), left()]);
}

fn contents(port: &ServicePort, can_refuse: bool) -> [Option<Content>; 2] {
    Content::of(port, &Frontends::of(&key(Protocol::Tcp), port), can_refuse)
}

fn of(endpoints: &[&str]) -> Content {
    Content::Endpoints(endpoints.iter().map(|text| encode_endpoint(&endpoint(text))).collect())
}

#[test]
fn what_lists_say() {
    let mut port = port();
    assert_eq!(contents(&port, true), [Some(of(&["10.0.0.1:80"])), None]);

    // External policy Local gives pod and host the cluster list.
    port.external_policy = TrafficPolicy::Local;
    assert_eq!(contents(&port, true), [Some(of(&["10.0.0.1:80"])), None]);

    // Internal policy Local concerns the ClusterIP alone.
    port.internal_policy = TrafficPolicy::Local;
    let mut local = endpoint("10.0.0.2:80");
    (local.in_cluster, local.in_local) = (false, true);
    port.endpoints.push(local);
    assert_eq!(contents(&port, true), [Some(of(&["10.0.0.1:80"])), Some(of(&["10.0.0.2:80"]))]);
    port.frontends.truncate(1);
    assert_eq!(contents(&port, true), [None, Some(of(&["10.0.0.2:80"]))]);

    // None here, but some elsewhere: the packet path drops.
    port.endpoints.clear();
    let left = Content::Left(LeftReason::NoLocalEndpoint);
    assert_eq!(contents(&port, true), [None, Some(left)]);

    // None anywhere.
    port.has_any = false;
    assert_eq!(contents(&port, true), [None, Some(Content::Refuse)]);
    let left = Content::Left(LeftReason::NoRefusal);
    assert_eq!(contents(&port, false), [None, Some(left)]);
}

#[test]
fn endpoints_are_sorted_as_numbers() {
    let mut port = port();
    port.endpoints =
        ["10.0.0.10:80", "10.0.0.9:8080", "10.0.0.9:80", "10.0.0.10:80"].map(endpoint).to_vec();
    let sorted = of(&["10.0.0.9:80", "10.0.0.9:8080", "10.0.0.10:80"]);
    assert_eq!(contents(&port, true), [Some(sorted), None]);
}

#[test]
fn slots_and_addresses_come_back() {
    let kinds = [CLUSTER_IP, EXTERNAL_IP, VIP, NODE_PORT];
    let six = FrontendKind::ClusterIp("fd00:10:96::1".parse().unwrap());
    let mut key = key(Protocol::Udp);
    for kind in kinds.into_iter().chain([six]) {
        key.family = kind.address().map_or(Family::V4, Family::of);
        let slot = Slot::of(&key, &frontend(kind)).unwrap();
        let target = tables::Target::new(table_kind(kind), 7);
        assert_eq!(slot.frontend(target), Some(frontend(kind)));
    }
    // An address of the other family has no slot.
    assert_eq!(Slot::of(&key, &frontend(CLUSTER_IP)), None);
    for address in ["10.1.2.3", "fd00::1", "::1", "0.0.0.0"] {
        let address: IpAddr = address.parse().unwrap();
        assert_eq!(decode_address(encode_address(address)), address);
    }
}
