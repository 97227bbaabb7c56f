//! Services and slices that come, change and go.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Result;
use serde_json::{Value, json};
use shunt_harness::apiserver::objects::{service, slice};

use crate::following;

/// Services of every type, each with what a user can write into it.
fn every_type() -> Vec<Value> {
    let of_type = |name: &str, spec: Value| {
        let mut object = service("default", name);
        if let (Some(spec), Some(own)) = (spec.as_object(), object["spec"].as_object_mut()) {
            own.extend(spec.clone());
        }
        object
    };
    vec![
        of_type("cluster-ip", json!({})),
        of_type("node-port", json!({ "type": "NodePort", "externalTrafficPolicy": "Local" })),
        of_type(
            "load-balancer",
            json!({
                "type": "LoadBalancer",
                "loadBalancerSourceRanges": ["198.51.100.0/24"],
                "sessionAffinity": "ClientIP",
            }),
        ),
        of_type("external-ip", json!({ "externalIPs": ["203.0.113.5", "2001:db8::5"] })),
        of_type("headless", json!({ "clusterIP": "None" })),
        of_type("dual", json!({ "ipFamilyPolicy": "RequireDualStack" })),
        of_type("v6", json!({ "ipFamilies": ["IPv6"] })),
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "namespace": "default", "name": "external-name" },
            "spec": { "type": "ExternalName", "externalName": "example.org" },
        }),
    ]
}

#[test]
fn services_of_every_type_come_change_and_go() -> Result<()> {
    let Some((server, mut follower)) = following()? else { return Ok(()) };
    let client = server.client();
    let services = every_type();
    client.create_all(&services)?;
    follower.until_as_server_says(client)?;

    client.apply_status(&json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "namespace": "default", "name": "load-balancer" },
        "status": { "loadBalancer": { "ingress": [
            { "ip": "203.0.113.7" }, { "ip": "203.0.113.8", "ipMode": "Proxy" },
            { "hostname": "lb.example.org" },
        ] } },
    }))?;
    for service in &services[..7] {
        let port = json!({ "name": "more", "protocol": "UDP", "port": 53 });
        let ports = json!([service["spec"]["ports"][0], port]);
        client.patch(service, &json!({ "spec": { "ports": ports } }))?;
    }
    follower.until_as_server_says(client)?;

    client.delete_all(&services)?;
    follower.until_as_server_says(client)?;
    // What is left is the server's own.
    assert_eq!(follower.cluster.services().count(), 1);
    Ok(())
}

#[test]
fn services_come_change_and_go_by_the_thousand() -> Result<()> {
    let Some((server, mut follower)) = following()? else { return Ok(()) };
    let client = server.client();
    let names: Vec<String> = (0..1000).map(|number| format!("service-{number}")).collect();
    let services: Vec<_> = names.iter().map(|name| service("default", name)).collect();
    let slices = |net: u8| -> Vec<Value> {
        let one = |(number, name): (u16, &String)| {
            let [high, low] = number.to_be_bytes();
            let endpoint = IpAddr::V4(Ipv4Addr::new(10, net, high, low));
            slice("default", name, "abcde", &[SocketAddr::new(endpoint, 8080)])
        };
        (0..).zip(&names).map(one).collect()
    };
    client.create_all(&services)?;
    client.create_all(&slices(1))?;
    follower.until_as_server_says(client)?;
    client.apply_all(&slices(2))?;
    follower.until_as_server_says(client)?;
    client.delete_all(&services[..500])?;
    client.delete_all(&slices(2)[500..])?;
    follower.until_as_server_says(client)?;
    assert_eq!(follower.removed, 1000);
    Ok(())
}

#[test]
fn labels_decide_whose_a_service_and_a_slice_is() -> Result<()> {
    let Some((server, mut follower)) = following()? else { return Ok(()) };
    let client = server.client();
    let (web, mail) = (service("default", "web"), service("default", "mail"));
    let endpoints = slice("default", "web", "abcde", &["10.1.0.1:8080".parse()?]);
    client.create_all(&[web.clone(), mail, endpoints.clone()])?;
    follower.until_as_server_says(client)?;

    let label = |object: &Value, label: &str, value: Value| {
        client.patch(object, &json!({ "metadata": { "labels": { label: value } } }))
    };
    for (object, name, value) in [
        (&endpoints, "kubernetes.io/service-name", json!("mail")),
        (&endpoints, "kubernetes.io/service-name", json!("nobody")),
        (&endpoints, "kubernetes.io/service-name", json!("web")),
        (&endpoints, "service.kubernetes.io/headless", json!("")),
        (&endpoints, "service.kubernetes.io/headless", Value::Null),
        (&web, "service.kubernetes.io/service-proxy-name", json!("another")),
        (&web, "service.kubernetes.io/service-proxy-name", Value::Null),
    ] {
        label(object, name, value)?;
        follower.until_as_server_says(client)?;
    }
    Ok(())
}

#[test]
fn types_and_families_of_a_service_change() -> Result<()> {
    let Some((server, mut follower)) = following()? else { return Ok(()) };
    let client = server.client();
    let web = service("default", "web");
    client.create(&web)?;
    client.create(&slice("default", "web", "abcde", &["10.1.0.1:8080".parse()?]))?;
    client.create(&slice("default", "web", "v6", &["[fd77::1]:8080".parse()?]))?;
    follower.until_as_server_says(client)?;
    for spec in [
        json!({ "type": "NodePort" }),
        json!({ "type": "LoadBalancer" }),
        json!({ "type": "ClusterIP" }),
        json!({ "type": "ExternalName", "externalName": "example.org",
                "clusterIP": null, "clusterIPs": null }),
        json!({ "type": "ClusterIP", "externalName": null }),
        json!({ "ipFamilyPolicy": "PreferDualStack" }),
        json!({ "ipFamilyPolicy": "SingleStack",
                "ipFamilies": null, "clusterIPs": null }),
    ] {
        client.patch(&web, &json!({ "spec": spec }))?;
        follower.until_as_server_says(client)?;
    }
    Ok(())
}
