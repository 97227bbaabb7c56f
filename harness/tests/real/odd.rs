//! Objects that the API server accepts and nobody expects.

use std::net::SocketAddr;

use anyhow::Result;
use serde_json::{Value, json};
use shunt_core::model::ObjectName;
use shunt_harness::apiserver::objects::{service, slice};

use crate::{follower::Follower, following, server};
use shunt_harness::apiserver::ApiServer;

#[test]
fn a_service_may_have_a_thousand_ports() -> Result<()> {
    let Some((server, mut follower)) = following()? else { return Ok(()) };
    let client = server.client();
    let mut many = service("default", "many");
    let ports = |first: u32| -> Vec<Value> {
        let port = |n: u32| json!({ "name": format!("p{n}"), "protocol": "TCP", "port": n });
        (first..first + 1000).map(port).collect()
    };
    many["spec"]["ports"] = ports(1000).into();
    client.create(&many)?;
    follower.until_as_server_says(client)?;
    let found = follower.cluster.service(&ObjectName::new("default", "many"));
    assert_eq!(found.map(|service| service.ports.len()), Some(1000));
    client.patch(&many, &json!({ "spec": { "ports": ports(1500) } }))?;
    follower.until_as_server_says(client)
}

#[test]
fn a_slice_may_have_a_thousand_endpoints_and_none_ready() -> Result<()> {
    let Some((server, mut follower)) = following()? else { return Ok(()) };
    let client = server.client();
    client.create(&service("default", "web"))?;
    let endpoints: Vec<SocketAddr> = (0..1000_u32)
        .map(|number| SocketAddr::new(std::net::Ipv4Addr::from(0x0a01_0000 + number).into(), 8080))
        .collect();
    let mut slice = slice("default", "web", "abcde", &endpoints);
    let set_ready = |slice: &mut Value, ready: bool| {
        for endpoint in slice["endpoints"].as_array_mut().into_iter().flatten() {
            endpoint["conditions"] = json!({ "ready": ready, "serving": ready });
        }
    };
    set_ready(&mut slice, false);
    client.apply(&slice)?;
    follower.until_as_server_says(client)?;
    set_ready(&mut slice, true);
    client.apply(&slice)?;
    follower.until_as_server_says(client)
}

#[test]
fn a_node_that_does_not_exist_holds_nothing_up() -> Result<()> {
    let Some(server) = server()? else { return Ok(()) };
    let client = server.client();
    let node = shunt_harness::apiserver::objects::node("node-a", &["192.0.2.9".parse()?]);
    client.delete(&node)?;
    client.create(&service("default", "web"))?;
    let mut follower = Follower::start(server.kubeconfig_of(ApiServer::PROXY)?)?;
    follower.until_synced()?;
    follower.until_as_server_says(client)?;
    assert!(follower.cluster.node().is_none());
    client.create(&node)?;
    follower.until("the node", |cluster| {
        cluster.node().is_some_and(|node| node.addresses[0].address.to_string() == "192.0.2.9")
    })?;
    client.patch(&node, &json!({ "spec": { "podCIDRs": ["10.77.16.0/24"] } }))?;
    follower.until("its pod CIDR", |cluster| {
        cluster.node().is_some_and(|node| node.pod_cidrs.len() == 1)
    })?;
    client.delete(&node)?;
    follower.until("the node to be gone", |cluster| cluster.node().is_none())
}
