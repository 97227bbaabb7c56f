//! What an operator reads when something is not allowed or not there.

use serde_json::json;
use shunt_harness::{
    apiserver::{ApiServer, Authority, Credential, objects::service},
    world::World,
};

use crate::rig::{Agent, NAMESPACE, create, reaches, serve, server, world};

#[test]
fn what_rbac_refuses_is_named_and_mended_without_a_restart() {
    let Some((programs, world)) = world() else { return };
    let server = server(&programs, &world);
    let to = create(&server, &service(NAMESPACE, "web"));
    serve(&server, &world, "web", &["echo-1"]);
    let agent = Agent::by(&world, server.kubeconfig_of(ApiServer::NOBODY).unwrap(), &[]);
    for resource in ["services", "endpointslices", "nodes", "servicecidrs"] {
        agent.says(&[resource, "cannot be seen", "list and watch", "nobody"]);
    }
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": { "name": "late" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                     "name": "system:node-proxier" },
        "subjects": [{ "kind": "User", "name": "nobody" }],
    });
    server.client().create(&binding).unwrap();
    reaches(&world, to, &["echo-1"]);
    agent.says(&["services", "seen again"]);
}

#[test]
fn a_server_that_cannot_be_trusted_and_a_node_that_is_not_there_are_named() {
    let Some((programs, world)) = world() else { return };
    let server = server(&programs, &world);
    let to = create(&server, &service(NAMESPACE, "web"));
    serve(&server, &world, "web", &["echo-1"]);
    let mut kubeconfig = server.kubeconfig(Credential::Token(ApiServer::PROXY.to_owned()));
    kubeconfig.authority = Authority::new().unwrap().certificate();
    let path = kubeconfig.write(server.folder(), "foreign").unwrap();
    let agent = Agent::by(&world, path, &[]);
    agent.says(&["services", "cannot be seen", "certificate"]);
    drop(agent);

    let node = shunt_harness::apiserver::objects::node(World::OWN_NODE, &[]);
    server.client().delete(&node).unwrap();
    let agent = Agent::start(&world, &server, &[]);
    agent.says(&["no Node", World::OWN_NODE, "--hostname-override"]);
    // What needs no Node is served.
    reaches(&world, to, &["echo-1"]);
}
