//! Objects as users and controllers write them: what the server is to add is left out.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

/// A Service of one TCP port, 80, named `http`. Addresses are the server's to give.
#[must_use]
pub fn service(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "namespace": namespace, "name": name, "labels": { "app": name } },
        "spec": {
            "selector": { "app": name },
            "ports": [{ "name": "http", "protocol": "TCP", "port": 80, "targetPort": "http" }],
        },
    })
}

/// A slice of ready endpoints of a Service, as the controller of slices writes it. All endpoints
/// are of one family and have one port.
#[must_use]
pub fn slice(namespace: &str, service: &str, end: &str, endpoints: &[SocketAddr]) -> Value {
    let port = endpoints.first().map_or(8080, SocketAddr::port);
    let family = match endpoints.first().map(SocketAddr::ip) {
        Some(IpAddr::V6(_)) => "IPv6",
        _ => "IPv4",
    };
    let endpoints: Vec<_> = endpoints
        .iter()
        .enumerate()
        .map(|(number, endpoint)| {
            json!({
                "addresses": [endpoint.ip()],
                "conditions": { "ready": true, "serving": true, "terminating": false },
                "targetRef": {
                    "kind": "Pod", "namespace": namespace, "name": format!("{service}-{number}"),
                },
            })
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "namespace": namespace,
            "name": format!("{service}-{end}"),
            "labels": {
                "app": service,
                "kubernetes.io/service-name": service,
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            },
        },
        "addressType": family,
        "endpoints": endpoints,
        "ports": [{ "name": "http", "protocol": "TCP", "port": port }],
    })
}

/// A Node, as a kubelet registers it.
#[must_use]
pub fn node(name: &str, addresses: &[IpAddr]) -> Value {
    let addresses: Vec<_> = addresses
        .iter()
        .map(|address| json!({ "type": "InternalIP", "address": address }))
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": name,
            "labels": { "kubernetes.io/hostname": name, "topology.kubernetes.io/zone": "zone-a" },
        },
        "status": { "addresses": addresses },
    })
}
