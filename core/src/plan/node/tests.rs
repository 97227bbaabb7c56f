use super::*;
use crate::{
    model::{Dirty, HostAddress, NodeAddress},
    source::{Object, SourceName, Update},
};

/// `node` is "kind=address …", `host` the addresses of interfaces.
fn check(node: &str, host: &str, node_ip: Option<&str>, cidrs: Option<&[&str]>, wanted: &str) {
    let mut cluster = Cluster::new("node-1".into());
    let mut own = Node::new("node-1".into());
    for (kind, address) in node.split_whitespace().filter_map(|word| word.split_once('=')) {
        let kind = match kind {
            "internal" => NodeAddressKind::Internal,
            _ => NodeAddressKind::External,
        };
        own.addresses.push(NodeAddress { kind, address: address.parse().expect("an address") });
    }
    let host = host.split_whitespace().map(|address| {
        let address = address.parse().expect("an address");
        Object::from(HostAddress { interface: "eth0".into(), address })
    });
    for object in host.chain([Object::from(own)]) {
        let source = SourceName::new("test");
        cluster.apply(&source, Update::Upsert(object), &mut Dirty::default());
    }
    let cidrs = cidrs.map(|cidrs| cidrs.iter().map(|cidr| cidr.parse().expect("a CIDR")).collect());
    let options = PlanOptions {
        node_port_addresses: cidrs.map_or(NodePortAddresses::Primary, NodePortAddresses::Cidrs),
        node_ip: node_ip.map(|address| address.parse().expect("an address")),
        cluster_cidrs: Vec::new(),
    };
    let state = state(&cluster, &options);
    let addresses: Vec<String> = state.node_port_addresses.iter().map(IpAddr::to_string).collect();
    assert_eq!(addresses.join(" "), wanted);
}

#[test]
fn primary_addresses_are_the_first_internal_else_the_first_external() {
    let host = "10.0.0.9";
    check("", host, None, None, "");
    check(
        "internal=10.0.0.1 internal=10.0.0.2 internal=fd00::1",
        host,
        None,
        None,
        "10.0.0.1 fd00::1",
    );
    check(
        "external=1.2.3.4 internal=10.0.0.1 external=fd00::9",
        host,
        None,
        None,
        "10.0.0.1 fd00::9",
    );
    check("internal=10.0.0.1 internal=fd00::1", host, Some("10.0.0.7"), None, "10.0.0.7 fd00::1");
    check("internal=10.0.0.1", host, Some("fd00::7"), None, "10.0.0.1 fd00::7");
    check("internal=10.0.0.1", host, Some("0.0.0.0"), None, "10.0.0.1");
}

#[test]
fn cidrs_select_addresses_of_the_host_and_never_loopback() {
    let (node, host) = ("internal=10.0.0.1", "10.0.0.1 192.168.0.1 127.0.0.1 ::1 fd00::1");
    check(node, host, None, Some(&["10.0.0.0/8"]), "10.0.0.1 fd00::1");
    check(node, host, None, Some(&["10.0.0.0/8", "fd01::/16"]), "10.0.0.1");
    check(node, host, None, Some(&[]), "10.0.0.1 192.168.0.1 fd00::1");
    check(node, host, None, Some(&["0.0.0.0/0", "::/0"]), "10.0.0.1 192.168.0.1 fd00::1");
    check(node, host, None, Some(&["127.0.0.0/8", "::1/128"]), "");
}

#[test]
fn a_pod_cidr_that_overlaps_is_told_with_what() {
    let mut state = NodeState::default();
    state.primary_addresses.insert("10.0.0.9".parse().expect("an address"));
    let services = vec!["10.96.0.0/12".parse().expect("a CIDR")];
    state.service_cidrs.insert("kubernetes".into(), services);
    let check = |cidr: &str, wanted: &[&str]| {
        let told = overlaps(&state, &[cidr.parse().expect("a CIDR")]);
        let told: Vec<String> = told.iter().map(Warning::to_string).collect();
        assert_eq!(told.len(), wanted.len(), "{told:?}");
        for (told, wanted) in told.iter().zip(wanted) {
            assert!(told.contains(wanted) && told.contains(cidr), "{wanted:?} is not in {told}");
        }
    };
    check("10.244.0.0/16", &[]);
    check("10.100.0.0/16", &["10.96.0.0/12 of ServiceCIDR kubernetes"]);
    check("10.0.0.0/24", &["this node's address 10.0.0.9"]);
    check("10.0.0.0/8", &["ServiceCIDR kubernetes", "this node's address 10.0.0.9"]);
    check("fd00::/8", &[]);
}
