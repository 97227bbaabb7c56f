//! The demo, as a newcomer runs it.

use shunt_harness::{tier, world::World};

use crate::running::{printed, shunt};

#[test]
fn shows_everything_and_cleans_up() {
    if !tier::may_run_privileged() {
        return;
    }
    let story = printed(&shunt(&["demo"]));
    for words in [
        "spread over its endpoints",
        "getpeername() says 10.96.0.10:80",
        "getpeername() says [fd96::a]:80",
        "connections that failed: 0",
        "while it was away: 0",
        "ECONNREFUSED",
        "through Shunt",
        "300 times to 10.96.0.10:80 from outside",
        "300 times to [fd96::a]:80 from outside",
    ] {
        assert!(story.contains(words), "{words:?} is not in\n{story}");
    }
}

#[test]
fn keeps_its_world_on_request() {
    if !tier::may_run_privileged() {
        return;
    }
    let before = World::kept().unwrap();
    let story = printed(&shunt(&["demo", "--keep"]));
    let kept: Vec<String> =
        World::kept().unwrap().into_iter().filter(|name| !before.contains(name)).collect();
    let [name] = kept.as_slice() else { panic!("kept worlds: {kept:?}\n{story}") };
    let pins = format!("/run/{name}/bpf/shunt");
    let services = printed(&shunt(&["get", "services", "--pin-path", &pins]));
    World::remove(name).unwrap();
    assert!(story.contains(&pins), "{story}");
    assert!(services.contains("10.96.0.10:80"), "{services}");
}
