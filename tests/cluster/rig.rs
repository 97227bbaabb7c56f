//! A world with an API server on its other node, and the agent that follows it.

use std::{
    fs::{self, File},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use shunt_harness::{
    apiserver::{ApiServer, Place, Programs, objects},
    probe::{ProbeProgram, Socket, Transport},
    tier, until,
    world::World,
};

/// No condition takes this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The namespace of every object of these tests.
pub(crate) const NAMESPACE: &str = "default";

/// A world whose echo pods answer at port 8080, or `None` where there can be none.
pub(crate) fn world() -> Option<(Programs, World)> {
    let programs = Programs::or_skip()?;
    if !tier::may_run_privileged() {
        return None;
    }
    let program = ProbeProgram::new(env!("CARGO_BIN_EXE_shunt"), ["probe-process"]);
    let world = World::standard(&program).unwrap();
    for name in ["echo-1", "echo-2", "echo-3"] {
        let pod = world.pod(name).unwrap();
        let addresses: [IpAddr; 2] = [pod.address4().into(), pod.address6().into()];
        pod.serve(Transport::Tcp, &addresses.map(|address| SocketAddr::new(address, 8080)))
            .unwrap();
    }
    Some((programs, world))
}

/// An API server that knows the world's nodes.
pub(crate) fn server<'a>(programs: &Programs, world: &'a World) -> ApiServer<'a> {
    let other = world.pod(World::OTHER_NODE).unwrap();
    let server = ApiServer::start(programs, Place::Pod(other)).unwrap();
    let addresses = [world.host().address4().into(), world.host().address6().into()];
    server.client().create(&objects::node(World::OWN_NODE, &addresses)).unwrap();
    server
}

/// Makes a Service and returns its first clusterIP.
pub(crate) fn create(server: &ApiServer<'_>, service: &Value) -> SocketAddr {
    let service = server.client().create(service).unwrap();
    SocketAddr::new(service["spec"]["clusterIP"].as_str().unwrap().parse().unwrap(), 80)
}

/// Has a Service served by these pods alone.
pub(crate) fn serve(server: &ApiServer<'_>, world: &World, service: &str, pods: &[&str]) {
    let endpoints: Vec<SocketAddr> = pods
        .iter()
        .map(|pod| SocketAddr::new(world.pod(pod).unwrap().address4().into(), 8080))
        .collect();
    server.client().apply(&objects::slice(NAMESPACE, service, "abcde", &endpoints)).unwrap();
}

/// Changes a Service's `spec`.
pub(crate) fn set(server: &ApiServer<'_>, service: &Value, spec: &Value) -> Value {
    server.client().patch(service, &json!({ "spec": spec })).unwrap()
}

/// Waits until the client reaches each of these pods at `to`, and no other; none means that it is
/// refused.
pub(crate) fn reaches(world: &World, to: SocketAddr, pods: &[&str]) {
    let client = world.pod("client").unwrap();
    let mut expected: Vec<String> = pods.iter().map(ToString::to_string).collect();
    expected.sort();
    if pods.is_empty() {
        expected.push("ECONNREFUSED".to_owned());
    }
    let mut last = Vec::new();
    until(&format!("{to} to be served by {pods:?}"), PATIENCE, || {
        // 40 visits miss one of three endpoints once in some million times.
        let visits = (0..40).map(|_| client.visit(Socket::of(Transport::Tcp, to), to));
        last = visits
            .map(|visit| match visit {
                Ok(visit) => visit.said.server,
                Err(failure) if failure.to_string().contains("ECONNREFUSED") => {
                    "ECONNREFUSED".to_owned()
                }
                Err(failure) => failure.to_string(),
            })
            .collect();
        last.sort();
        last.dedup();
        (last == expected).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}; the last visits: {last:?}"));
}

/// Whether the client now reaches this pod and no other, without waiting.
pub(crate) fn still_reaches(world: &World, to: SocketAddr, pod: &str) {
    for _ in 0..20 {
        let visit = world.pod("client").unwrap().visit(Socket::of(Transport::Tcp, to), to);
        assert_eq!(visit.unwrap().said.server, pod);
    }
}

/// The agent of the world's own node. Killed when dropped; what the kernel was told stays.
pub(crate) struct Agent {
    process: Child,
    log: PathBuf,
}

impl Agent {
    /// Starts one that serves by both dataplanes, with these flags beside those of the world.
    pub(crate) fn start(world: &World, server: &ApiServer<'_>, flags: &[&str]) -> Self {
        Self::by(world, server.kubeconfig_of(ApiServer::PROXY).unwrap(), flags)
    }

    /// The same by another kubeconfig.
    pub(crate) fn by(world: &World, kubeconfig: PathBuf, flags: &[&str]) -> Self {
        let log = world.folder().join("agent.log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_shunt"));
        command
            .args(["--node-name", World::OWN_NODE, "--kube-api-qps=1000", "--kube-api-burst=1000"])
            .args(flags)
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .arg("--cgroup")
            .arg(world.cgroup())
            .arg("--pin-path")
            .arg(world.pin_path())
            .stdin(Stdio::null())
            .stderr(File::create(&log).unwrap());
        let process = world.host().command(command).unwrap().spawn().unwrap();
        Self { process, log }
    }

    /// Waits until it has said all of these words in one line.
    pub(crate) fn says(&self, words: &[&str]) {
        let said = until(&format!("the agent to say {words:?}"), PATIENCE, || {
            let log = fs::read_to_string(&self.log).ok()?;
            log.lines().any(|line| words.iter().all(|word| line.contains(word))).then_some(())
        });
        said.unwrap_or_else(|error| panic!("{error}: {}", fs::read_to_string(&self.log).unwrap()));
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
