//! One line an endpoint: "address[:port] word…", see [`endpoint`].

use std::num::NonZeroU16;

use super::*;
use crate::model::{ObjectName, Protocol, SlicePort};

const BOTH: EndpointLists = EndpointLists { cluster: true, local: true };
const CLUSTER: EndpointLists = EndpointLists { cluster: true, local: false };
const LOCAL: EndpointLists = EndpointLists { cluster: false, local: true };

/// Words: `here` (on this node), `there`; `unready`, `ending` (serving and terminating), `ended`
/// (terminating only), `unsure` (serving, neither ready nor terminating); `node=`, `zone=` hints.
fn endpoint(line: &str) -> SliceEndpoint {
    let mut words = line.split_whitespace();
    let address = words.next().and_then(|word| word.parse().ok()).expect("an address");
    let mut endpoint = SliceEndpoint::new(address);
    let conditions = &mut endpoint.conditions;
    for word in words {
        match word.split_once('=') {
            Some(("node", name)) => endpoint.hints.get_or_insert_default().nodes.push(name.into()),
            Some(("zone", name)) => endpoint.hints.get_or_insert_default().zones.push(name.into()),
            Some(_) => panic!("{word}"),
            None => match word {
                "here" => endpoint.node_name = Some("node-1".into()),
                "there" => endpoint.node_name = Some("node-2".into()),
                "unready" => (conditions.ready, conditions.serving) = (false, false),
                "unsure" => conditions.ready = false,
                "ending" => (conditions.ready, conditions.terminating) = (false, true),
                "ended" => {
                    (conditions.ready, conditions.serving, conditions.terminating) =
                        (false, false, true);
                }
                _ => panic!("{word}"),
            },
        }
    }
    endpoint
}

fn slice(number: usize, lines: &[&str]) -> Arc<EndpointSlice> {
    let name = ObjectName::new("default", &format!("web-{number}"));
    let mut slice = EndpointSlice::new(name, Some("web".into()), Family::V4);
    slice.endpoints = lines.iter().map(|line| endpoint(line)).collect();
    if let Some(found) = slice.endpoints.first() {
        slice.family = Family::of(found.address);
    }
    slice.ports = vec![slice_port("http", Protocol::Tcp, 8080)].into();
    Arc::new(slice)
}

fn number(port: u16) -> NonZeroU16 {
    NonZeroU16::new(port).expect("a port")
}

fn slice_port(name: &str, protocol: Protocol, port: u16) -> SlicePort {
    SlicePort { name: name.into(), protocol, port: number(port) }
}

fn selected(slices: &[Arc<EndpointSlice>], lists: EndpointLists) -> Selection {
    let port = PortSpec {
        name: "http".into(),
        protocol: Protocol::Tcp,
        port: number(80),
        node_port: None,
    };
    let family = slices.first().map_or(Family::V4, |slice| slice.family);
    let here = Locality { node_name: "node-1", zone: Some("zone-1") };
    select(slices, &port, family, here, lists)
}

fn hosts(selection: &Selection, list: fn(&Endpoint) -> bool) -> String {
    let listed = selection.endpoints.iter().filter(|endpoint| list(endpoint));
    let hosts: Vec<String> = listed.map(|endpoint| endpoint.address.ip().to_string()).collect();
    hosts.join(" ")
}

#[track_caller]
fn check(lines: &[&str], lists: EndpointLists, cluster: &str, local: &str, has_any: bool) {
    let selection = selected(&[slice(1, lines)], lists);
    assert_eq!(hosts(&selection, |endpoint| endpoint.in_cluster), cluster, "cluster list");
    assert_eq!(hosts(&selection, |endpoint| endpoint.in_local), local, "local list");
    assert_eq!(selection.has_any, has_any, "has any");
}

#[test]
fn ready_endpoints_serve_and_ending_ones_where_none_is_ready() {
    check(&[], BOTH, "", "", false);
    check(&["1.1.1.1 here", "1.1.1.2 there"], BOTH, "1.1.1.1 1.1.1.2", "1.1.1.1", true);
    check(&["1.1.1.1 ending", "1.1.1.2"], CLUSTER, "1.1.1.2", "", true);
    check(&["1.1.1.1 ending", "1.1.1.2 unready"], CLUSTER, "1.1.1.1", "", true);
    check(&["1.1.1.1 unsure", "1.1.1.2 ended"], BOTH, "", "", false);
    // The fall-back is each list's own.
    check(&["1.1.1.1 ending here", "1.1.1.2 there"], BOTH, "1.1.1.2", "1.1.1.1", true);
    check(
        &["1.1.1.1 ending there", "1.1.1.2 ending here"],
        BOTH,
        "1.1.1.1 1.1.1.2",
        "1.1.1.2",
        true,
    );
}

#[test]
fn a_list_that_no_policy_uses_is_empty_but_has_any_looks_everywhere() {
    check(&["1.1.1.1 here"], CLUSTER, "1.1.1.1", "", true);
    check(&["1.1.1.1 here"], LOCAL, "", "1.1.1.1", true);
    check(&["1.1.1.1 there"], LOCAL, "", "", true);
    check(&["1.1.1.1 there ending"], LOCAL, "", "", true);
    check(&["1.1.1.1 there unsure"], LOCAL, "", "", false);
}

#[test]
fn hints_count_only_if_every_ready_endpoint_has_one_and_one_is_for_here() {
    check(&["1.1.1.1 zone=zone-1", "1.1.1.2 zone=zone-2"], CLUSTER, "1.1.1.1", "", true);
    check(&["1.1.1.1 zone=zone-1", "1.1.1.2"], CLUSTER, "1.1.1.1 1.1.1.2", "", true);
    check(&["1.1.1.1 zone=zone-3", "1.1.1.2 zone=zone-2"], CLUSTER, "1.1.1.1 1.1.1.2", "", true);
    // Those that are not ready are not asked.
    check(&["1.1.1.1 zone=zone-1", "1.1.1.2 unsure"], CLUSTER, "1.1.1.1", "", true);
    // A node's hint is before a zone's.
    let both = ["1.1.1.1 node=node-1 zone=zone-2", "1.1.1.2 node=node-2 zone=zone-1"];
    check(&both, CLUSTER, "1.1.1.1", "", true);
    let other_node = ["1.1.1.1 node=node-3 zone=zone-2", "1.1.1.2 node=node-2 zone=zone-1"];
    check(&other_node, CLUSTER, "1.1.1.2", "", true);
    // Topology never applies to the local list, nor where no endpoint is ready.
    let local = ["1.1.1.1 here zone=zone-2", "1.1.1.2 there zone=zone-1"];
    check(&local, BOTH, "1.1.1.2", "1.1.1.1", true);
    let ending = ["1.1.1.1 ending zone=zone-1", "1.1.1.2 ending zone=zone-2"];
    check(&ending, CLUSTER, "1.1.1.1 1.1.1.2", "", true);
}

#[test]
fn endpoints_that_neither_are_ready_nor_serve_are_left_out() {
    let lines = ["1.1.1.1", "1.1.1.2 unready", "1.1.1.3 unsure", "1.1.1.4 ending", "1.1.1.5 ended"];
    let selection = selected(&[slice(1, &lines)], BOTH);
    assert_eq!(hosts(&selection, |_| true), "1.1.1.1 1.1.1.3 1.1.1.4");
}

#[test]
fn the_order_is_that_of_the_text() {
    let lines = ["2.1.1.1", "10.1.1.1", "1.1.1.1", "1.1.1.10"];
    assert_eq!(
        hosts(&selected(&[slice(1, &lines)], BOTH), |_| true),
        "1.1.1.10 1.1.1.1 10.1.1.1 2.1.1.1"
    );
    let lines = ["fd00::2", "fd00::10", "::1"];
    assert_eq!(hosts(&selected(&[slice(1, &lines)], BOTH), |_| true), "::1 fd00::10 fd00::2");
}

#[test]
fn an_address_in_several_slices_counts_once() {
    let check = |one: &str, other: &str, local: bool, ready: bool| {
        let selection = selected(&[slice(1, &[one]), slice(2, &[other])], BOTH);
        assert_eq!(selection.endpoints.len(), 1);
        assert_eq!(selection.endpoints[0].local, local);
        assert_eq!(selection.endpoints[0].conditions.ready, ready);
    };
    check("1.1.1.1 there", "1.1.1.1 here", true, true);
    check("1.1.1.1 here", "1.1.1.1 there", true, true);
    check("1.1.1.1 here unsure", "1.1.1.1 there", true, false);
    check("1.1.1.1 there ended", "1.1.1.1 there", false, true);
}

#[test]
fn ports_join_by_name_and_protocol() {
    let check = |ports: &[(&str, Protocol, u16)], wanted: &[u16]| {
        let mut slice = (*slice(1, &["1.1.1.1"])).clone();
        slice.ports =
            ports.iter().map(|(name, protocol, port)| slice_port(name, *protocol, *port)).collect();
        let selection = selected(&[Arc::new(slice)], BOTH);
        let ports: Vec<u16> =
            selection.endpoints.iter().map(|endpoint| endpoint.address.port()).collect();
        assert_eq!(ports, wanted);
    };
    check(&[("http", Protocol::Tcp, 8080)], &[8080]);
    check(&[("http", Protocol::Udp, 8080), ("https", Protocol::Tcp, 8443)], &[]);
    check(&[("", Protocol::Tcp, 8080)], &[]);
    check(&[("http", Protocol::Tcp, 8080), ("http", Protocol::Tcp, 100)], &[100, 8080]);
}

/// Sources leave these out; a source of someone else may not.
#[test]
fn an_address_of_another_family_than_its_slice_is_no_endpoint() {
    let slices = [slice(1, &["10.0.0.1", "fd00::1", "10.0.0.2"])];
    let found = selected(&slices, CLUSTER).endpoints;
    let found: Vec<_> = found.iter().map(|endpoint| endpoint.address.to_string()).collect();
    assert_eq!(found, ["10.0.0.1:8080", "10.0.0.2:8080"]);
}
