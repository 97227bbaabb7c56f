//! Services as users make them, change them and delete them.

use std::net::SocketAddr;

use serde_json::{Value, json};
use shunt_harness::{
    apiserver::objects::{service, slice},
    probe::Socket,
    world::World,
};

use crate::rig::{Agent, NAMESPACE, create, reaches, serve, server, set, world};

#[test]
fn every_address_of_a_service_is_served_and_followed() {
    let Some((programs, world)) = world() else { return };
    let server = server(&programs, &world);
    let _agent = Agent::start(&world, &server, &[]);
    let mut web = service(NAMESPACE, "web");
    web["spec"]["type"] = "LoadBalancer".into();
    web["spec"]["externalIPs"] = json!(["203.0.113.5"]);
    let cluster_ip = create(&server, &web);
    serve(&server, &world, "web", &["echo-1", "echo-2"]);
    let mut status = json!({ "apiVersion": "v1", "kind": "Service", "metadata": web["metadata"] });
    status["status"] = json!({ "loadBalancer": { "ingress": [{ "ip": "203.0.113.7" }] } });
    let web = server.client().apply_status(&status).unwrap();
    let node_port = u16::try_from(web["spec"]["ports"][0]["nodePort"].as_u64().unwrap()).unwrap();
    let all = [
        cluster_ip,
        SocketAddr::new(world.host().address4().into(), node_port),
        "203.0.113.5:80".parse().unwrap(),
        "203.0.113.7:80".parse().unwrap(),
    ];
    for to in all {
        reaches(&world, to, &["echo-1", "echo-2"]);
    }
    serve(&server, &world, "web", &["echo-3"]);
    for to in all {
        reaches(&world, to, &["echo-3"]);
    }
    server.client().delete(&slice(NAMESPACE, "web", "abcde", &[])).unwrap();
    for to in all {
        reaches(&world, to, &[]);
    }
    serve(&server, &world, "web", &["echo-1"]);
    reaches(&world, cluster_ip, &["echo-1"]);

    // Only addresses that go make what they said untrue: the Service is one of its clusterIP now.
    set(&server, &web, &json!({ "type": "ClusterIP", "externalIPs": null }));
    reaches(&world, cluster_ip, &["echo-1"]);
    reaches_nobody(&world, all[1]);
    server.client().delete(&web).unwrap();
    reaches_nobody(&world, cluster_ip);
}

/// Waits until no pod answers there.
fn reaches_nobody(world: &World, to: SocketAddr) {
    let client = world.pod("client").unwrap();
    shunt_harness::until(&format!("nobody to answer at {to}"), crate::rig::PATIENCE, || {
        client.visit(Socket::tcp4(), to).is_err().then_some(())
    })
    .unwrap();
}

#[test]
fn the_api_server_is_reached_by_its_own_service() {
    let Some((programs, world)) = world() else { return };
    let server = server(&programs, &world);
    let _agent = Agent::start(&world, &server, &[]);
    let to: SocketAddr = "10.96.0.1:443".parse().unwrap();
    shunt_harness::until("the Service kubernetes to be served", crate::rig::PATIENCE, || {
        let socket = world.pod("client").unwrap().open(Socket::tcp4()).unwrap();
        socket.connect(shunt_harness::probe::How::Connect, to).ok()
    })
    .unwrap();
}

#[test]
fn a_thousand_services_come_and_go() {
    let Some((programs, world)) = world() else { return };
    let server = server(&programs, &world);
    let agent = Agent::start(&world, &server, &[]);
    let names: Vec<String> = (0..1000).map(|number| format!("service-{number}")).collect();
    let services: Vec<Value> = names.iter().map(|name| service(NAMESPACE, name)).collect();
    let slices = |pod: &str| -> Vec<Value> {
        let endpoint = SocketAddr::new(world.pod(pod).unwrap().address4().into(), 8080);
        names.iter().map(|name| slice(NAMESPACE, name, "abcde", &[endpoint])).collect()
    };
    let client = server.client();
    let made = client.create_all(&services).unwrap();
    client.create_all(&slices("echo-1")).unwrap();
    let address = |service: &Value| {
        SocketAddr::new(service["spec"]["clusterIP"].as_str().unwrap().parse().unwrap(), 80)
    };
    let some = [0, 1, 499, 998, 999].map(|number| address(&made[number]));
    some.iter().for_each(|&to| reaches(&world, to, &["echo-1"]));
    client.apply_all(&slices("echo-2")).unwrap();
    some.iter().for_each(|&to| reaches(&world, to, &["echo-2"]));
    client.delete_all(&services).unwrap();
    some.iter().for_each(|&to| reaches_nobody(&world, to));
    // It was not started anew in between.
    drop(agent);
}

#[test]
fn a_service_changes_its_type_and_its_families() {
    let Some((programs, world)) = world() else { return };
    let server = server(&programs, &world);
    let _agent = Agent::start(&world, &server, &[]);
    let web = service(NAMESPACE, "web");
    let first = create(&server, &web);
    serve(&server, &world, "web", &["echo-1"]);
    let v6 = SocketAddr::new(world.pod("echo-2").unwrap().address6().into(), 8080);
    server.client().create(&slice(NAMESPACE, "web", "v6", &[v6])).unwrap();
    reaches(&world, first, &["echo-1"]);

    let none = json!({ "type": "ExternalName", "externalName": "example.org", "clusterIP": null,
                       "clusterIPs": null });
    set(&server, &web, &none);
    reaches_nobody(&world, first);

    let back = set(
        &server,
        &web,
        &json!({ "type": "ClusterIP", "externalName": null,
                                           "ipFamilyPolicy": "RequireDualStack" }),
    );
    let addresses: Vec<SocketAddr> = back["spec"]["clusterIPs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|address| SocketAddr::new(address.as_str().unwrap().parse().unwrap(), 80))
        .collect();
    assert_eq!(addresses.len(), 2);
    for &to in &addresses {
        reaches(&world, to, if to.is_ipv4() { &["echo-1"] } else { &["echo-2"] });
    }
    set(
        &server,
        &web,
        &json!({ "ipFamilyPolicy": "SingleStack", "ipFamilies": null,
                                "clusterIPs": null }),
    );
    let client = world.pod("client").unwrap();
    let second = *addresses.iter().find(|to| to.is_ipv6()).unwrap();
    shunt_harness::until("the second address to be gone", crate::rig::PATIENCE, || {
        client.visit(Socket::tcp6(), second).is_err().then_some(())
    })
    .unwrap();
    reaches(&world, *addresses.iter().find(|to| to.is_ipv4()).unwrap(), &["echo-1"]);
}

#[test]
fn endpoints_that_are_not_ready_refuse_by_the_thousand() {
    let Some((programs, world)) = world() else { return };
    let server = server(&programs, &world);
    let _agent = Agent::start(&world, &server, &[]);
    let to = create(&server, &service(NAMESPACE, "web"));
    let endpoints: Vec<SocketAddr> = (0..999_u32)
        .map(|number| SocketAddr::new(std::net::Ipv4Addr::from(0x0a64_0000 + number).into(), 8080))
        .chain([SocketAddr::new(world.pod("echo-1").unwrap().address4().into(), 8080)])
        .collect();
    let mut slice = slice(NAMESPACE, "web", "abcde", &endpoints);
    let not_ready = json!({ "ready": false, "serving": false, "terminating": false });
    for endpoint in slice["endpoints"].as_array_mut().unwrap() {
        endpoint["conditions"] = not_ready.clone();
    }
    server.client().create(&slice).unwrap();
    reaches(&world, to, &[]);
    slice["endpoints"][999]["conditions"] = json!({ "ready": true });
    server.client().apply(&slice).unwrap();
    reaches(&world, to, &["echo-1"]);
    slice["endpoints"][999]["conditions"] = not_ready;
    server.client().apply(&slice).unwrap();
    reaches(&world, to, &[]);
}

#[test]
fn a_slice_changes_its_owner() {
    let Some((programs, world)) = world() else { return };
    let server = server(&programs, &world);
    let _agent = Agent::start(&world, &server, &[]);
    let [web, mail] = ["web", "mail"].map(|name| create(&server, &service(NAMESPACE, name)));
    serve(&server, &world, "web", &["echo-1"]);
    reaches(&world, web, &["echo-1"]);
    reaches(&world, mail, &[]);
    let label = json!({ "metadata": { "labels": { "kubernetes.io/service-name": "mail" } } });
    server.client().patch(&slice(NAMESPACE, "web", "abcde", &[]), &label).unwrap();
    reaches(&world, mail, &["echo-1"]);
    reaches(&world, web, &[]);
}
