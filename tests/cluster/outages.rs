//! While the API server is away, what is served stays as it is.

use shunt_harness::apiserver::objects::service;

use crate::rig::{Agent, NAMESPACE, create, reaches, serve, server, still_reaches, world};

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
            client.apply(&shunt_harness::apiserver::objects::slice(
                NAMESPACE,
                "web",
                "abcde",
                &[endpoint],
            ))?;
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
