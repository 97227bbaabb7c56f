//! Running the binary.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use nix::{sys::signal::Signal, unistd::Pid};
use shunt_harness::{
    probe::{ProbeProgram, Socket, Transport},
    tier, until,
    world::{Pod, World},
};

/// Where Services of these tests are dialled.
pub(crate) const SERVICE: &str = "10.96.0.10:80";

/// How long anything may take; it takes some milliseconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Runs the binary to its end.
pub(crate) fn shunt(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_shunt")).args(args).stdin(Stdio::null()).output().unwrap()
}

/// Standard output, of a run that must have succeeded.
pub(crate) fn printed(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Standard error, of a run that must have failed with status 1.
pub(crate) fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A world whose echo pods answer, or `None` where there can be none.
pub(crate) fn world() -> Option<World> {
    if !tier::may_run_privileged() {
        return None;
    }
    let program = ProbeProgram::new(env!("CARGO_BIN_EXE_shunt"), ["probe-process"]);
    let world = World::standard(&program).unwrap();
    for name in ["echo-1", "echo-2", "echo-3"] {
        let pod = world.pod(name).unwrap();
        pod.serve(Transport::Tcp, &[SocketAddr::new(pod.address4().into(), 8080)]).unwrap();
    }
    fs::create_dir(manifests(&world)).unwrap();
    Some(world)
}

/// The folder that agents of a world read.
pub(crate) fn manifests(world: &World) -> PathBuf {
    world.folder().join("manifests")
}

/// Writes Service `shop/web`, served by some pods, in one file that appears at once.
pub(crate) fn serve(world: &World, pods: &[&str]) {
    let endpoints: Vec<String> = pods
        .iter()
        .map(|name| format!("- addresses: [{}]\n", world.pod(name).unwrap().address4()))
        .collect();
    let endpoints = if pods.is_empty() { "  []\n".to_owned() } else { endpoints.concat() };
    put(
        world,
        "web.yaml",
        &format!(
            "\
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: shop}}
spec:
  clusterIP: 10.96.0.10
  clusterIPs: [10.96.0.10]
  ports: [{{name: http, port: 80}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: web-1
  namespace: shop
  labels: {{kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{{name: http, port: 8080}}]
endpoints:
{endpoints}"
        ),
    );
}

/// Lets a file of manifests appear, or change, at once.
pub(crate) fn put(world: &World, name: &str, text: &str) {
    let draft = world.folder().join("draft");
    fs::write(&draft, text).unwrap();
    fs::rename(draft, manifests(world).join(name)).unwrap();
}

/// Waits until the client reaches the Service, and each of these pods by it, and no other.
pub(crate) fn reaches(world: &World, pods: &[&str]) {
    reaches_from(world.pod("client").unwrap(), SERVICE.parse().unwrap(), pods);
}

/// The same for another client and another address of the Service.
pub(crate) fn reaches_from(client: &Pod, to: SocketAddr, pods: &[&str]) {
    let mut expected: Vec<String> = pods.iter().map(ToString::to_string).collect();
    expected.sort();
    let name = client.name();
    until(&format!("{to} to be served to {name} by {pods:?}"), PATIENCE, || {
        // 60 visits miss one of three endpoints once in 10 billion times.
        let visits = (0..60).map(|_| client.visit(Socket::tcp4(), to));
        let mut reached: Vec<String> =
            visits.map(|visit| visit.map_or_else(|e| e.to_string(), |v| v.said.server)).collect();
        reached.sort();
        reached.dedup();
        (reached == expected).then_some(())
    })
    .unwrap();
}

/// Asks over HTTP on a world's node; returns the status and the body, or why there is no answer.
pub(crate) fn ask(world: &World, at: &str, path: &str) -> std::io::Result<(u16, String)> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n");
    let asking = || {
        let mut stream = TcpStream::connect(at)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    };
    let answer = world.host().run(asking).unwrap()?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok((code, body.to_owned()))
}

/// Asks until the answer is as wished, and returns it.
pub(crate) fn ask_until(
    world: &World,
    at: &str,
    path: &str,
    wished: impl Fn(u16, &str) -> bool,
) -> String {
    let mut last = String::new();
    let found = until(&format!("{at}{path} to answer as wished"), PATIENCE, || {
        match ask(world, at, path) {
            Ok((code, body)) if wished(code, &body) => return Some(body),
            Ok((code, body)) => last = format!("{code} {body}"),
            Err(error) => last = error.to_string(),
        }
        None
    });
    found.unwrap_or_else(|error| panic!("{error}: {last}{}", logs(world)))
}

/// What the agents of a world have said.
pub(crate) fn logs(world: &World) -> String {
    let read = |name| fs::read_to_string(world.folder().join(name));
    LOGS.into_iter().filter_map(|name| Some(format!("\n{name}:\n{}", read(name).ok()?))).collect()
}

/// Where agents of a world write what they say: the first, and a second beside it.
const LOGS: [&str; 2] = ["agent.log", "second.log"];

/// The flags that name a world's place.
pub(crate) fn place(world: &World) -> [String; 4] {
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    ["--cgroup".into(), path(world.cgroup()), "--pin-path".into(), path(&world.pin_path())]
}

/// Runs a command of the binary on a world's state, on its node: in the root network namespace it
/// would look at the tables of this machine.
pub(crate) fn on(world: &World, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shunt"));
    command.args(args).args(place(world)).stdin(Stdio::null());
    world.host().command(command).unwrap().output().unwrap()
}

/// An agent in a world. Killed when dropped.
pub(crate) struct Agent {
    process: Child,
    log: PathBuf,
}

impl Agent {
    /// Starts an agent on the world's node and cgroup, that balances at connect() alone.
    pub(crate) fn start(world: &World) -> Self {
        Self::with(world, Command::new(env!("CARGO_BIN_EXE_shunt")), &["--mode", "connect"])
    }

    /// Starts one in another mode.
    pub(crate) fn start_mode(world: &World, mode: &str) -> Self {
        Self::with(world, Command::new(env!("CARGO_BIN_EXE_shunt")), &["--mode", mode])
    }

    /// Starts one by this command, with these flags beside those of the world.
    pub(crate) fn with(world: &World, mut command: Command, flags: &[&str]) -> Self {
        command.args(["--source", "static", "--manifests"]).arg(manifests(world));
        Self::launch(world, command, flags)
    }

    /// Starts one that says itself where its objects come from.
    pub(crate) fn launch(world: &World, mut command: Command, flags: &[&str]) -> Self {
        let logs = LOGS.map(|name| world.folder().join(name));
        let log = logs.iter().find(|log| !log.exists()).unwrap_or(&logs[0]).clone();
        command
            .args(["--node-name", World::OWN_NODE])
            .args(flags)
            .args(place(world))
            .stdin(Stdio::null())
            .stderr(File::create(&log).unwrap());
        let process = world.host().command(command).unwrap().spawn().unwrap();
        Self { process, log }
    }

    /// Its pid.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until it has said something.
    pub(crate) fn says(&self, text: &str) {
        until(&format!("the agent to say {text:?}"), PATIENCE, || {
            fs::read_to_string(&self.log).ok().filter(|log| log.contains(text))
        })
        .unwrap_or_else(|error| panic!("{error}: {}", fs::read_to_string(&self.log).unwrap()));
    }

    /// Sends a signal and waits for the end; returns the exit status.
    pub(crate) fn end(mut self, signal: Signal) -> std::process::ExitStatus {
        nix::sys::signal::kill(Pid::from_raw(self.pid().cast_signed()), signal).unwrap();
        until("the agent to end", PATIENCE, || self.process.try_wait().unwrap()).unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
