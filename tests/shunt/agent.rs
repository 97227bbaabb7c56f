//! The agent, from start to end.

use std::process::Command;

use nix::sys::signal::Signal;

use crate::running::{Agent, manifests, on, place, printed, put, reaches, refused, serve, world};

#[test]
fn follows_its_manifests_and_leaves_the_dataplane_behind() {
    let Some(world) = world() else { return };
    serve(&world, &["echo-1"]);
    let agent = Agent::start(&world);
    reaches(&world, &["echo-1"]);

    serve(&world, &["echo-2", "echo-3"]);
    reaches(&world, &["echo-2", "echo-3"]);

    // Half a file changes nothing.
    put(&world, "web.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: [");
    agent.says("web.yaml");
    reaches(&world, &["echo-2", "echo-3"]);

    assert!(agent.end(Signal::SIGTERM).success());
    reaches(&world, &["echo-2", "echo-3"]);
}

#[test]
fn a_new_agent_takes_over_from_a_killed_one() {
    let Some(world) = world() else { return };
    serve(&world, &["echo-1"]);
    let first = Agent::start(&world);
    reaches(&world, &["echo-1"]);
    assert!(!first.end(Signal::SIGKILL).success());
    reaches(&world, &["echo-1"]);

    serve(&world, &["echo-2"]);
    let second = Agent::start(&world);
    reaches(&world, &["echo-2"]);
    assert!(second.end(Signal::SIGINT).success());
}

#[test]
fn a_second_agent_is_refused_and_told_of_the_first() {
    let Some(world) = world() else { return };
    serve(&world, &["echo-1"]);
    let first = Agent::start(&world);
    reaches(&world, &["echo-1"]);
    let folder = manifests(&world);
    let folder = folder.to_str().unwrap();
    let second = on(&world, &["--source", "static", "--manifests", folder, "--mode", "connect"]);
    let said = refused(&second);
    assert!(said.contains(&first.pid().to_string()), "{said}");
    reaches(&world, &["echo-1"]);
}

#[test]
fn a_cgroup_that_is_not_cgroup2_is_named() {
    let Some(world) = world() else { return };
    let pins = world.pin_path();
    let mut command = Command::new(env!("CARGO_BIN_EXE_shunt"));
    command
        .args(["--source", "static", "--mode", "connect", "--manifests"])
        .arg(manifests(&world))
        .arg("--cgroup")
        .arg(world.folder())
        .arg("--pin-path")
        .arg(&pins);
    let said = refused(&world.host().command(command).unwrap().output().unwrap());
    assert!(said.contains(world.folder().to_str().unwrap()), "{said}");
    assert!(said.contains("cgroup2"), "{said}");
    assert!(!pins.exists(), "a refused agent left {}", pins.display());
}

#[test]
fn without_privileges_the_missing_capability_is_named() {
    let Some(world) = world() else { return };
    let mut command = Command::new("setpriv");
    command
        .args(["--bounding-set=-all", "--inh-caps=-all", env!("CARGO_BIN_EXE_shunt")])
        .args(["--source", "static", "--manifests"])
        .arg(manifests(&world))
        .args(place(&world));
    let output = world.host().command(command).unwrap().output().unwrap();
    let said = refused(&output);
    assert!(said.contains("CAP_"), "{said}");
}

#[test]
fn cleanup_removes_everything_once() {
    let Some(world) = world() else { return };
    serve(&world, &["echo-1"]);
    let agent = Agent::start(&world);
    reaches(&world, &["echo-1"]);

    let said = refused(&on(&world, &["cleanup"]));
    assert!(said.contains(&agent.pid().to_string()), "a running agent is not named: {said}");
    assert!(agent.end(Signal::SIGTERM).success());

    let first = printed(&on(&world, &["cleanup"]));
    assert!(first.lines().count() > 0 && first.lines().all(|line| line.starts_with("removed ")));
    assert!(!world.pin_path().exists(), "{first}");
    assert_eq!(printed(&on(&world, &["cleanup"])), "nothing to remove\n");
}
