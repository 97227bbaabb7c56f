//! While the API server is away, what is served stays as it is.

use serde_json::{Value, json};
use shunt_harness::{
    apiserver::{
        ApiServer,
        objects::{service, slice},
    },
    probe::Socket,
    until,
};

use crate::rig::{
    Agent, NAMESPACE, PATIENCE, create, reaches, serve, server, still_reaches, world,
};

#[test]
fn an_outage_changes_nothing_not_even_over_a_restart_of_the_agent() {
    let Some((programs, world)) = world() else { return };
    let mut server = server(&programs, &world);
    let agent = Agent::start(&world, &server, &[]);
    let to = create(&server, &service(NAMESPACE, "web"));
    serve(&server, &world, "web", &["echo-1"]);
    reaches(&world, to, &["echo-1"]);

    server.kill().unwrap();
    agent.says(&["cannot be seen", "what is served stays"]);
    still_reaches(&world, to, "echo-1");
    drop(agent);
    still_reaches(&world, to, "echo-1");
    // It knows nothing, and takes nothing away for that.
    let agent = Agent::start(&world, &server, &[]);
    agent.says(&["cannot be seen", "what is served stays"]);
    still_reaches(&world, to, "echo-1");

    server
        .behind_the_scenes(|server, client| {
            let endpoint = std::net::SocketAddr::new(world.pod("echo-2")?.address4().into(), 8080);
            client.apply(&slice(NAMESPACE, "web", "abcde", &[endpoint]))?;
            server.compact()
        })
        .unwrap();
    still_reaches(&world, to, "echo-1");
    server.resurrect().unwrap();
    reaches(&world, to, &["echo-2"]);
}

#[test]
fn a_server_that_stands_still_is_given_up() {
    let Some((programs, world)) = world() else { return };
    let server = server(&programs, &world);
    let agent = Agent::start(&world, &server, &["--kube-api-silence=1s"]);
    let to = create(&server, &service(NAMESPACE, "web"));
    serve(&server, &world, "web", &["echo-1"]);
    reaches(&world, to, &["echo-1"]);
    server.pause().unwrap();
    agent.says(&["services", "cannot be seen"]);
    agent.says(&["endpointslices", "cannot be seen"]);
    still_reaches(&world, to, "echo-1");
    server.go_on().unwrap();
    agent.says(&["services", "seen again"]);
    serve(&server, &world, "web", &["echo-2"]);
    reaches(&world, to, &["echo-2"]);
}

#[test]
fn nothing_is_pruned_while_slices_were_never_listed() {
    let Some((programs, world)) = world() else { return };
    let server = server(&programs, &world);
    let agent = Agent::start(&world, &server, &[]);
    let [web, mail] = ["web", "mail"].map(|name| create(&server, &service(NAMESPACE, name)));
    serve(&server, &world, "web", &["echo-1"]);
    serve(&server, &world, "mail", &["echo-2"]);
    reaches(&world, web, &["echo-1"]);
    reaches(&world, mail, &["echo-2"]);
    drop(agent);

    // The next agent may see Services alone, and one of them is gone.
    server.client().delete(&service(NAMESPACE, "mail")).unwrap();
    let rule = |resource: &str, group: &str| json!({ "apiGroups": [group], "resources": [resource], "verbs": ["list", "watch"] });
    let role = |rules: Value| {
        json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                "metadata": { "name": "partial" }, "rules": rules })
    };
    server.client().create(&role(json!([rule("services", "")]))).unwrap();
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": { "name": "partial" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                     "name": "partial" },
        "subjects": [{ "kind": "User", "name": "nobody" }],
    });
    server.client().create(&binding).unwrap();
    let flags = ["-v=4"];
    let agent = Agent::by(&world, server.kubeconfig_of(ApiServer::NOBODY).unwrap(), &flags);
    agent.says(&["endpointslices", "cannot be seen", "list and watch"]);
    agent.says(&["services of the API server are listed"]);
    still_reaches(&world, web, "echo-1");
    still_reaches(&world, mail, "echo-2");

    let rules = json!([rule("services", ""), rule("endpointslices", "discovery.k8s.io")]);
    server.client().apply(&role(rules)).unwrap();
    serve(&server, &world, "web", &["echo-3"]);
    reaches(&world, web, &["echo-3"]);
    let client = world.pod("client").unwrap();
    until("the deleted Service to be gone", PATIENCE, || {
        client.visit(Socket::tcp4(), mail).is_err().then_some(())
    })
    .unwrap();
}
