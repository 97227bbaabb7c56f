//! Reading the kernel: `get` and `doctor`.

use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::running::{Agent, SERVICE, on, printed, reaches, serve, world};

#[test]
fn get_reads_the_kernel_with_and_without_an_agent() {
    let Some(world) = world() else { return };
    let nothing = printed(&on(&world, &["get", "services"]));
    assert!(nothing.starts_with("nothing in the kernel under "), "{nothing}");
    assert_eq!(printed(&on(&world, &["get", "services", "-o", "json"])), "[]\n");

    serve(&world, &["echo-1", "echo-2"]);
    let agent = Agent::start(&world);
    reaches(&world, &["echo-1", "echo-2"]);
    let running = printed(&on(&world, &["get", "services"]));
    assert!(
        running.lines().any(|line| line.contains("web") && line.contains(SERVICE)),
        "{running}"
    );

    assert!(agent.end(Signal::SIGTERM).success());
    assert_eq!(printed(&on(&world, &["get", "services"])), running);
    let endpoints = printed(&on(&world, &["get", "endpoints", "shop/web", "-o", "json"]));
    let endpoints: serde_json::Value = serde_json::from_str(&endpoints).unwrap();
    let expected = ["echo-1", "echo-2"].map(|name| {
        json!({
            "namespace": "shop", "name": "web", "port": "http", "protocol": "TCP",
            "family": "IPv4", "through": ["ClusterIP"], "dataplanes": ["connect"],
            "endpoint": format!("{}:8080", world.pod(name).unwrap().address4()),
        })
    });
    assert_eq!(endpoints, json!(expected));
    assert_eq!(printed(&on(&world, &["get", "endpoints", "other", "-o", "json"])), "[]\n");
}

#[test]
fn a_service_without_endpoints_is_shown_as_refused() {
    let Some(world) = world() else { return };
    serve(&world, &[]);
    let _agent = Agent::start(&world);
    shunt_harness::until("the Service to be refused", crate::running::PATIENCE, || {
        printed(&on(&world, &["get", "services"])).contains("refused").then_some(())
    })
    .unwrap();
}

#[test]
fn doctor_tells_every_facility_and_leaves_no_trace() {
    let Some(world) = world() else { return };
    let report = printed(&on(&world, &["doctor"]));
    for facility in ["cgroup2", "connect4", "recvmsg6", "bpf_set_retval"] {
        assert!(report.contains(facility), "{facility} is not in\n{report}");
    }
    assert!(report.contains("Connect-time balancing works here"), "{report}");
    assert!(report.contains("The packet path works here, for TCP and UDP and SCTP"), "{report}");
    assert!(report.contains("Mode auto runs both"), "{report}");
    assert!(report.contains("Nothing of another proxy is beside it."), "{report}");
    assert!(!world.pin_path().exists());

    let not_cgroup2 = world.folder().to_str().unwrap().to_owned();
    let mut command = Command::new(env!("CARGO_BIN_EXE_shunt"));
    command.args(["doctor", "--cgroup", &not_cgroup2]);
    let output = world.host().command(command).unwrap().output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(report.contains("Mode auto serves everything by the packet path."), "{report}");
}
