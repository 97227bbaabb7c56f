//! Objects as text, and what becomes of them.

use std::num::NonZeroU16;

use serde_json::{Value, json, value::RawValue};
use shunt_core::{
    model::{
        Conditions, EndpointSlice, Family, Node, NodeAddressKind, Protocol, Service, ServiceCidr,
        ServiceType, TrafficPolicy,
    },
    source::{Object, ObjectId},
};

use super::{ObjectError, Parsed, TypeMeta, parse};

/// Parses both from a value and from text, which must agree.
fn parsed(value: &Value) -> Result<Parsed, ObjectError> {
    let from_value = parse(value, None);
    let text = serde_json::to_string_pretty(value).unwrap();
    let raw: Box<RawValue> = serde_json::from_str(&text).unwrap();
    let from_text = parse(&*raw, None);
    assert_eq!(format!("{from_value:?}"), format!("{from_text:?}"));
    from_value
}

fn object(value: &Value) -> Object {
    match parsed(value).unwrap() {
        Parsed::Object { object, warnings } => {
            assert_eq!(warnings, []);
            object
        }
        other => panic!("{other:?}"),
    }
}

fn service(spec: &Value) -> Service {
    let value = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "web", "namespace": "shop" },
        "spec": spec,
    });
    match object(&value) {
        Object::Service(service) => *service,
        other => panic!("{other:?}"),
    }
}

fn slice_value(changes: &Value) -> Value {
    let mut value = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": "web-x7", "namespace": "shop",
            "labels": { "kubernetes.io/service-name": "web" },
        },
        "addressType": "IPv4", "endpoints": null, "ports": null,
    });
    merge(&mut value, changes);
    value
}

fn slice(changes: &Value) -> EndpointSlice {
    match object(&slice_value(changes)) {
        Object::EndpointSlice(slice) => std::sync::Arc::unwrap_or_clone(slice),
        other => panic!("{other:?}"),
    }
}

fn merge(into: &mut Value, changes: &Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (key, change) in changes {
                merge(into.entry(key).or_insert(Value::Null), change);
            }
        }
        (into, change) => *into = change.clone(),
    }
}

/// Sets one field of a valid object, given as a JSON pointer, and gives the error.
fn error_of(kind: &str, pointer: &str, wrong: Value) -> String {
    let mut value = match kind {
        "Service" => json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": "web", "namespace": "default", "creationTimestamp": null },
            "spec": {
                "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "type": "LoadBalancer",
                "externalIPs": ["1.2.3.4"], "loadBalancerSourceRanges": ["10.0.0.0/8"],
                "sessionAffinity": "ClientIP", "healthCheckNodePort": 0,
                "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 1 } },
                "internalTrafficPolicy": "Local", "externalTrafficPolicy": "Local",
                "ports": [
                    { "name": "a", "port": 80, "protocol": "TCP", "nodePort": 0 },
                    { "name": "b", "port": 81 },
                ],
            },
            "status": { "loadBalancer": { "ingress": [{ "ip": "1.1.1.1", "ipMode": "VIP" }] } },
        }),
        "EndpointSlice" => slice_value(&json!({
            "endpoints": [{ "addresses": ["10.1.0.1"], "nodeName": "n" }],
            "ports": [{ "name": "a", "port": 1, "protocol": "TCP" }],
        })),
        "Node" => json!({
            "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n1" },
            "spec": { "podCIDRs": ["10.1.0.0/24"] },
            "status": { "addresses": [{ "type": "InternalIP", "address": "192.168.0.1" }] },
        }),
        _ => json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
            "metadata": { "name": "kubernetes" }, "spec": { "cidrs": ["10.96.0.0/12"] },
        }),
    };
    assert!(matches!(parsed(&value), Ok(Parsed::Object { .. })), "the base is valid");
    *value.pointer_mut(pointer).unwrap() = wrong;
    parsed(&value).unwrap_err().to_string()
}

#[test]
fn a_wrong_field_is_named() {
    #[rustfmt::skip]
    let cases = [
        ("Service", "/spec/ports/0/port", json!(0),
         "Service default/web: spec.ports[0].port: 0 is not a port (1 to 65535)"),
        ("Service", "/spec/ports/1/port", json!(65_536),
         "Service default/web: spec.ports[1].port: 65536 is not a port (1 to 65535)"),
        ("Service", "/spec/ports/0/port", json!(-1),
         "Service default/web: spec.ports[0].port: -1 is not a port (1 to 65535)"),
        ("Service", "/spec/ports/0/port", json!(18_446_744_073_709_551_615_u64),
         "Service default/web: spec.ports[0].port: 9223372036854775807 is not a port (1 to 65535)"),
        ("Service", "/spec/ports/0/port", json!("80"),
         "Service default/web: spec.ports[0].port: invalid type: string \"80\", expected a port"),
        ("Service", "/spec/ports/0/port", json!(80.5),
         "Service default/web: spec.ports[0].port: invalid type: floating point `80.5`, expected a port"),
        ("Service", "/spec/ports/0/nodePort", json!(70_000),
         "Service default/web: spec.ports[0].nodePort: 70000 is not a port (1 to 65535, or 0 for none)"),
        ("Service", "/spec/ports/0", json!({}),
         "Service default/web: spec.ports[0]: missing field `port`"),
        ("Service", "/spec/ports/0/protocol", json!("ICMP"),
         "Service default/web: spec.ports[0].protocol: unknown variant `ICMP`, expected one of `TCP`, `UDP`, `SCTP`"),
        ("Service", "/spec/ports/0/name", json!("Web Port"),
         "Service default/web: spec.ports[0].name: \"Web Port\" is not a DNS label (at most 63 of a-z, 0-9 and '-', the first and last not '-')"),
        ("Service", "/spec/ports/1/name", json!("a"),
         "Service default/web: spec.ports[1].name: TCP port \"a\" is there twice"),
        ("Service", "/spec/ports", json!([]),
         "Service default/web: spec.ports: missing or empty"),
        ("Service", "/spec", Value::Null,
         "Service default/web: spec: invalid type: null, expected an object"),
        ("Service", "/spec/type", json!("Magic"),
         "Service default/web: spec.type: unknown variant `Magic`, expected one of `ClusterIP`, `NodePort`, `LoadBalancer`, `ExternalName`"),
        ("Service", "/spec/clusterIPs/0", json!("10.0.0.256"),
         "Service default/web: spec.clusterIPs[0]: \"10.0.0.256\" is not an IP address"),
        ("Service", "/spec/externalIPs/0", json!("fe80::1%eth0"),
         "Service default/web: spec.externalIPs[0]: \"fe80::1%eth0\" is not an IP address"),
        ("Service", "/spec/loadBalancerSourceRanges/0", json!("10.0.0.0/33"),
         "Service default/web: spec.loadBalancerSourceRanges[0]: \"10.0.0.0/33\" is not a range of IP addresses such as 10.0.0.0/8"),
        ("Service", "/spec/loadBalancerSourceRanges/0", json!("10.0.0.0"),
         "Service default/web: spec.loadBalancerSourceRanges[0]: \"10.0.0.0\" is not a range of IP addresses such as 10.0.0.0/8"),
        ("Service", "/spec/sessionAffinity", json!("Cookie"),
         "Service default/web: spec.sessionAffinity: unknown variant `Cookie`, expected `None` or `ClientIP`"),
        ("Service", "/spec/sessionAffinityConfig/clientIP/timeoutSeconds", json!(86_401),
         "Service default/web: spec.sessionAffinityConfig.clientIP.timeoutSeconds: 86401 is not a time-out in seconds (1 to 86400)"),
        ("Service", "/spec/externalTrafficPolicy", json!("Nearby"),
         "Service default/web: spec.externalTrafficPolicy: unknown variant `Nearby`, expected `Cluster` or `Local`"),
        ("Service", "/status/loadBalancer/ingress/0/ip", json!("lb"),
         "Service default/web: status.loadBalancer.ingress[0].ip: \"lb\" is not an IP address"),
        ("Service", "/metadata/name", json!("we_b"),
         "Service default/we_b: metadata.name: \"we_b\" is not a DNS subdomain (at most 253 of a-z, 0-9, '-' and '.', each part begins and ends with a letter or digit)"),
        ("Service", "/metadata/name", json!("we.b"),
         "Service default/we.b: metadata.name: \"we.b\" is not a DNS label (at most 63 of a-z, 0-9 and '-', the first and last not '-')"),
        ("Service", "/metadata/name", Value::Null,
         "Service without a name: metadata.name: invalid type: null, expected a DNS subdomain"),
        ("Service", "/metadata/namespace", json!("../etc"),
         "Service ../etc/web: metadata.namespace: \"../etc\" is not a DNS label (at most 63 of a-z, 0-9 and '-', the first and last not '-')"),
        ("Service", "/metadata/creationTimestamp", json!("yesterday"),
         "Service default/web: metadata.creationTimestamp: \"yesterday\" is not a time such as 2026-01-31T12:00:00Z"),
        ("Service", "/metadata", Value::Null,
         "Service without a name: metadata: invalid type: null, expected an object"),
        ("Service", "/apiVersion", json!(""), "Service default/web: apiVersion: missing or empty"),
        ("Service", "/kind", Value::Null, "object default/web: kind: missing or empty"),
        ("Service", "/kind", json!(7),
         "object default/web: kind: invalid type: integer `7`, expected a string"),
        ("EndpointSlice", "/endpoints/0/addresses/0", json!("10.1.0.x"),
         "EndpointSlice shop/web-x7: endpoints[0].addresses[0]: \"10.1.0.x\" is not an IP address"),
        ("EndpointSlice", "/endpoints/0/nodeName", json!("n/a"),
         "EndpointSlice shop/web-x7: endpoints[0].nodeName: \"n/a\" is not a DNS subdomain (at most 253 of a-z, 0-9, '-' and '.', each part begins and ends with a letter or digit)"),
        ("EndpointSlice", "/addressType", json!("IPX"),
         "EndpointSlice shop/web-x7: addressType: unknown variant `IPX`, expected one of `IPv4`, `IPv6`, `FQDN`"),
        ("EndpointSlice", "/ports/0/port", json!(99_999),
         "EndpointSlice shop/web-x7: ports[0].port: 99999 is not a port (1 to 65535, or 0 for none)"),
        ("Node", "/status/addresses/0/address", json!("here"),
         "Node n1: status.addresses[0].address: \"here\" is not an IP address"),
        ("Node", "/spec/podCIDRs/0", json!("10.1.0.0/24/8"),
         "Node n1: spec.podCIDRs[0]: \"10.1.0.0/24/8\" is not a range of IP addresses such as 10.0.0.0/8"),
        ("ServiceCIDR", "/spec/cidrs/0", json!("::/+64"),
         "ServiceCIDR kubernetes: spec.cidrs[0]: \"::/+64\" is not a range of IP addresses such as 10.0.0.0/8"),
    ];
    for (kind, pointer, wrong, expected) in cases {
        assert_eq!(error_of(kind, pointer, wrong), expected);
    }
}

#[test]
fn addresses_are_read_as_the_api_server_reads_them() {
    #[rustfmt::skip]
    let cases = [
        ("10.0.0.1", Some("10.0.0.1")),
        ("010.0.0.1", Some("10.0.0.1")),
        ("10.000.00.001", Some("10.0.0.1")),
        ("255.255.0000255.255", Some("255.255.255.255")),
        ("256.0.0.1", None), ("10.0.0", None), ("10.0.0.1.1", None), ("10..0.1", None),
        ("0x0a.0.0.1", None), (" 10.0.0.1", None), ("10.0.0.1 ", None), ("1", None),
        ("fd00::1", Some("fd00::1")), ("FD00::00001", Some("fd00::1")),
        ("::", Some("::")), ("::1::", None), ("12345::", None), ("fe80::1%lo", None),
        ("::ffff:10.0.0.1", Some("10.0.0.1")), ("::ffff:010.0.0.1", Some("10.0.0.1")),
    ];
    for (text, expected) in cases {
        let actual = super::address::parse_address(text).ok().map(|address| address.to_string());
        assert_eq!(actual.as_deref(), expected, "{text}");
    }
    #[rustfmt::skip]
    let cases = [
        ("10.0.0.0/8", Some("10.0.0.0/8")),
        (" 010.1.2.3/08\t", Some("10.0.0.0/8")),
        ("fd00::1/64", Some("fd00::/64")),
        ("0.0.0.0/0", Some("0.0.0.0/0")),
        ("10.0.0.0 /8", None), ("10.0.0.0/-1", None), ("10.0.0.0/", None), ("/8", None), ("", None),
    ];
    for (text, expected) in cases {
        let actual = super::address::parse_range(text).ok().map(|range| range.to_string());
        assert_eq!(actual.as_deref(), expected, "{text}");
    }
}

#[test]
fn a_service_has_the_defaults_of_the_api_server() {
    let service = service(&json!({ "clusterIP": "10.0.0.1", "ports": [{ "port": 80 }] }));
    assert_eq!(service.name.to_string(), "shop/web");
    assert_eq!(service.service_type, ServiceType::ClusterIp);
    assert_eq!(service.internal_policy, TrafficPolicy::Cluster);
    assert_eq!(service.external_policy, TrafficPolicy::Cluster);
    assert_eq!((service.created, service.affinity_seconds), (0, None));
    assert!(!service.other_proxy);
    let port = &service.ports[0];
    assert_eq!((&*port.name, port.protocol, port.node_port), ("", Protocol::Tcp, None));
}

#[test]
fn a_service_is_read_in_full() {
    let value = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "web", "namespace": "shop", "creationTimestamp": "2026-01-31T12:00:00Z",
            "labels": { "service.kubernetes.io/service-proxy-name": "", "a": "b" },
            "managedFields": [{ "fieldsV1": {} }],
        },
        "spec": {
            "type": "LoadBalancer", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"],
            "externalIPs": ["01.2.3.4"], "loadBalancerSourceRanges": [" 10.1.2.3/8 "],
            "loadBalancerIP": "9.9.9.9", "ports": [
                { "name": "dns", "protocol": "UDP", "port": 53, "nodePort": 30053, "targetPort": "x" },
                { "name": "dns", "protocol": "TCP", "port": 53, "nodePort": 0, "targetPort": 5353 },
                { "name": "sig", "protocol": "SCTP", "port": 3868 },
            ],
            "sessionAffinity": "ClientIP", "internalTrafficPolicy": "Local",
            "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000,
        },
        "status": { "loadBalancer": { "ingress": [
            { "ip": "5.5.5.5" }, { "ip": "5.5.5.6", "ipMode": "VIP" },
            { "ip": "5.5.5.7", "ipMode": "Proxy" }, { "hostname": "lb.example" },
        ] } },
    });
    let Object::Service(service) = object(&value) else { panic!() };
    assert_eq!(service.created, 1_769_860_800);
    assert!(service.other_proxy, "an empty value is a value");
    let text = |addresses: &[std::net::IpAddr]| {
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(text(&service.cluster_ips), "10.0.0.1 fd00::1");
    assert_eq!(text(&service.external_ips), "1.2.3.4");
    assert_eq!(text(&service.load_balancer_ips), "5.5.5.5 5.5.5.6");
    assert_eq!(service.source_ranges, ["10.0.0.0/8".parse().unwrap()]);
    assert_eq!(service.ports.len(), 3);
    assert_eq!(service.ports[0].node_port, NonZeroU16::new(30_053));
    assert_eq!((service.ports[1].protocol, service.ports[1].node_port), (Protocol::Tcp, None));
    assert_eq!(service.affinity_seconds, Some(10_800));
    assert_eq!(service.health_check_node_port, NonZeroU16::new(31_000));
}

#[test]
fn headless_services_have_no_cluster_ip() {
    for spec in [
        json!({ "clusterIP": "None", "clusterIPs": ["None"] }),
        json!({ "clusterIP": "" }),
        json!({ "type": "ExternalName", "externalName": "example.com" }),
        json!({ "clusterIP": "10.0.0.1", "clusterIPs": ["None"] }),
    ] {
        assert!(service(&spec).cluster_ips.is_empty(), "{spec}");
    }
}

#[test]
fn a_slice_is_read_in_full() {
    let slice = slice(&json!({
        "addressType": "IPv6",
        "endpoints": [
            { "addresses": ["fd00::1", "fd00::2"], "conditions": {}, "nodeName": "n1", "zone": "z",
              "hints": { "forZones": [{ "name": "z" }], "forNodes": [{ "name": "n1" }] } },
            { "addresses": ["fd00::3"], "conditions": { "ready": false, "terminating": true } },
            { "addresses": ["fd00::4"], "conditions": { "ready": null, "serving": false } },
        ],
        "ports": [
            { "name": "", "port": 80 }, { "port": 81 }, { "name": "x" }, { "name": "y", "port": 0 },
            { "name": null, "port": 82 }, { "name": "dns", "port": 53, "protocol": "UDP" },
        ],
    }));
    assert_eq!(
        (slice.service.as_ref(), slice.family),
        (Some(&shunt_core::model::ObjectName::new("shop", "web")), Family::V6)
    );
    let endpoint = &slice.endpoints[0];
    assert_eq!(endpoint.address.to_string(), "fd00::1");
    assert_eq!(endpoint.node_name.as_deref(), Some("n1"));
    assert_eq!(endpoint.zone.as_deref(), Some("z"));
    assert_eq!((endpoint.hint_zones()[0].as_ref(), endpoint.hint_nodes()[0].as_ref()), ("z", "n1"));
    let conditions: Vec<_> = slice.endpoints.iter().map(|endpoint| endpoint.conditions).collect();
    let not_ready = Conditions { ready: false, serving: true, terminating: true };
    let not_serving = Conditions { ready: true, serving: false, terminating: false };
    assert_eq!(conditions, [Conditions::READY, not_ready, not_serving]);
    let ports: Vec<_> = slice.ports.iter().map(|port| (&*port.name, port.port.get())).collect();
    assert_eq!(ports, [("", 80), ("dns", 53)]);
}

#[test]
fn the_time_of_a_change_is_read_where_it_can_be() {
    let check = |annotations: Value, expected: Option<u64>| {
        let slice = slice(&json!({ "metadata": { "annotations": annotations } }));
        let since_epoch = slice.triggered.time().map(|time| {
            let since_epoch = time.duration_since(std::time::UNIX_EPOCH).unwrap();
            u64::try_from(since_epoch.as_millis()).unwrap()
        });
        assert_eq!(since_epoch, expected, "{slice:?}");
    };
    let key = "endpoints.kubernetes.io/last-change-trigger-time";
    check(json!(null), None);
    check(json!({ "other": "2026-11-25T02:44:06Z" }), None);
    check(json!({ key: "2026-11-25T02:44:06Z" }), Some(1_795_574_646_000));
    check(json!({ key: "2026-11-25T02:44:06.1234567Z" }), Some(1_795_574_646_123));
    check(json!({ key: "yesterday" }), None);
}

#[test]
fn an_endpoint_of_the_wrong_family_is_left_out_and_named() {
    let value = slice_value(&json!({ "endpoints": [
        { "addresses": ["fd00::1"] }, { "addresses": ["10.0.0.1"] }, { "addresses": [] },
    ] }));
    let Parsed::Object { object: Object::EndpointSlice(slice), warnings } = parsed(&value).unwrap()
    else {
        panic!()
    };
    assert_eq!(slice.endpoints.len(), 1);
    let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "EndpointSlice shop/web-x7: endpoints[0].addresses[0]: fd00::1 is not an IPv4 address, \
             which the slice is of: the endpoint is ignored",
            "EndpointSlice shop/web-x7: endpoints[2].addresses: \
             an endpoint without an address is ignored",
        ]
    );
}

#[test]
fn slices_that_no_socket_can_use_are_ignored() {
    for changes in [
        json!({ "addressType": "FQDN", "endpoints": [{ "addresses": ["example.com"] }] }),
        json!({ "metadata": { "labels": { "service.kubernetes.io/headless": "" } } }),
    ] {
        match parsed(&slice_value(&changes)).unwrap() {
            Parsed::Ignored { id: ObjectId::EndpointSlice(name), .. } => {
                assert_eq!(name.to_string(), "shop/web-x7");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_node_and_service_cidrs_are_read() {
    let Object::Node(node) = object(&json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": "n1.example", "deletionTimestamp": "2026-01-31T12:00:00Z",
            "labels": { "topology.kubernetes.io/zone": "z1" },
        },
        "spec": { "podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24", "fd01::/64"],
                  "taints": [{ "key": "a", "effect": "NoSchedule" }] },
        "status": { "addresses": [
            { "type": "Hostname", "address": "n1" },
            { "type": "ExternalIP", "address": "203.0.113.1" },
            { "type": "InternalIP", "address": "192.168.0.1" },
        ] },
    })) else {
        panic!()
    };
    assert_eq!((node.name.as_ref(), node.zone.as_deref()), ("n1.example", Some("z1")));
    assert!(node.deleting);
    assert_eq!(node.addresses.len(), 2);
    assert_eq!(node.addresses[1].kind, NodeAddressKind::Internal);
    assert_eq!((node.pod_cidrs.len(), node.taints[0].as_ref()), (2, "a"));
    let minimal = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n" }, "status": null,
    });
    assert_eq!(object(&minimal), Object::from(Node::new("n".into())));

    let value = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": { "name": "kubernetes" }, "spec": { "cidrs": ["10.96.0.0/12", "fd02::/108"] },
    });
    let cidrs = vec!["10.96.0.0/12".parse().unwrap(), "fd02::/108".parse().unwrap()];
    let expected = ServiceCidr { name: "kubernetes".into(), cidrs };
    assert_eq!(object(&value), Object::from(expected));
}

#[test]
fn other_kinds_are_not_looked_into() {
    for (api_version, kind) in [
        ("apps/v1", "Deployment"),
        ("serving.knative.dev/v1", "Service"),
        ("discovery.k8s.io/v1beta1", "EndpointSlice"),
    ] {
        let metadata = json!({ "name": "Odd Name" });
        let value = json!({
            "apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": 7,
        });
        let Parsed::Unknown(type_meta) = parsed(&value).unwrap() else { panic!() };
        assert_eq!(type_meta.to_string(), format!("{api_version} {kind}"));
    }
}

#[test]
fn the_objects_of_a_typed_list_need_not_say_their_kind() {
    let list = TypeMeta { api_version: "v1".into(), kind: "NodeList".into() };
    let value = json!({ "metadata": { "name": "n" }, "status": {} });
    let parsed = parse(&value, list.element().as_ref()).unwrap();
    assert!(matches!(parsed, Parsed::Object { object: Object::Node(_), .. }));
    assert_eq!(TypeMeta { kind: "List".into(), ..list }.element(), None);
}

#[test]
fn a_field_that_is_there_twice_is_an_error() {
    let text = r#"{ "apiVersion": "v1", "kind": "Node", "status": {},
                    "metadata": { "name": "a", "name": "b" } }"#;
    let raw: Box<RawValue> = serde_json::from_str(text).unwrap();
    let error = parse(&*raw, None).unwrap_err().to_string();
    assert_eq!(error, "Node b: the object: a field is there twice");
}

#[test]
fn ten_thousand_endpoints_are_one_slice() {
    let endpoints: Vec<_> = (0..10_000)
        .map(|n| json!({ "addresses": [format!("10.1.{}.{}", n / 250, n % 250 + 1)] }))
        .collect();
    assert_eq!(slice(&json!({ "endpoints": endpoints })).endpoints.len(), 10_000);
}
