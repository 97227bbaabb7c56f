//! The proxies that are compared, each in a world of its own.

use std::{
    env,
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use shunt_core::model::Family;
use shunt_harness::{
    apiserver::{ApiServer, Credential, KubeProxyOptions, Programs, Relay, kube_proxy},
    probe::{Burst, ProbeProgram, Socket, Transport},
    world::{World, WorldBuilder, cluster_cidr},
};

/// The port at which the pods of a world answer, by TCP and UDP.
pub(crate) const PORT: u16 = 8080;

/// The port at which they take streams.
pub(crate) const DRAIN: u16 = 8081;

/// The pods that serve: every Service has both of one set or both of the other.
pub(crate) const PODS: [[&str; 2]; 2] = [["a-1", "a-2"], ["b-1", "b-2"]];

/// The variable that names the agent's binary; `cargo xtask bench` builds and names it.
const AGENT: &str = "SHUNT_AGENT";

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The agent with both dataplanes, its default.
    Shunt,
    /// The agent with connect-time balancing alone.
    ShuntConnect,
    /// The agent with the packet path alone.
    ShuntPackets,
    /// kube-proxy in nftables mode.
    KubeNftables,
    /// kube-proxy in iptables mode.
    KubeIptables,
}

impl Kind {
    /// What it is called in tables and plots.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Shunt => "Shunt",
            Self::ShuntConnect => "Shunt, connect-time alone",
            Self::ShuntPackets => "Shunt, packet path alone",
            Self::KubeNftables => "kube-proxy, nftables",
            Self::KubeIptables => "kube-proxy, iptables",
        }
    }
}

/// A world in which one proxy serves, or none.
pub(crate) struct Site {
    relay: Relay,
    pub(crate) world: World,
}

impl Site {
    /// A world without a proxy.
    pub(crate) fn new(program: &ProbeProgram, server: &ApiServer<'_>) -> Result<Self> {
        let mut builder = WorldBuilder::new(program).pod("client", World::OWN_NODE);
        for pod in PODS.iter().flatten() {
            builder = builder.pod(pod, World::OWN_NODE);
        }
        let world = builder.build()?;
        for name in PODS.iter().flatten() {
            let pod = world.pod(name)?;
            for transport in [Transport::Tcp, Transport::Udp] {
                pod.serve(transport, &[pod.at(Family::V4, PORT)])?;
            }
            pod.drain(pod.at(Family::V4, DRAIN))?;
        }
        let relay = Relay::start(server.address(), &world)?;
        Ok(Self { relay, world })
    }

    /// Starts a proxy. It ends with the returned one.
    pub(crate) fn start(
        &self,
        kind: Kind,
        programs: &Programs,
        server: &ApiServer<'_>,
    ) -> Result<Proxy> {
        let mut kubeconfig = server.kubeconfig(Credential::Token(ApiServer::PROXY.to_owned()));
        kubeconfig.server = format!("https://{}", self.relay.address());
        let kubeconfig = kubeconfig.write(self.world.folder(), "proxy")?;
        let kube =
            |mode| kube_proxy(programs, &self.world, KubeProxyOptions::of_mode(mode), &kubeconfig);
        let mut command = match kind {
            Kind::Shunt => self.agent("auto", &kubeconfig)?,
            Kind::ShuntConnect => self.agent("connect", &kubeconfig)?,
            Kind::ShuntPackets => self.agent("nftables", &kubeconfig)?,
            Kind::KubeNftables => kube("nftables")?,
            Kind::KubeIptables => kube("iptables")?,
        };
        let log = self.world.folder().join("proxy.log");
        let output = File::create(&log).context("cannot write a proxy's log")?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        let process = self.world.host().command(command)?.spawn();
        let process = process.with_context(|| format!("cannot start {}", kind.name()))?;
        Ok(Proxy { process, log, cgroup: self.world.host().cgroup().to_owned() })
    }

    /// From which of the sets of pods an answer comes at this address; `None` if from none.
    pub(crate) fn set(&self, to: SocketAddr) -> Result<Option<usize>> {
        let Ok(visit) = self.world.pod("client")?.visit(Socket::tcp4(), to) else {
            return Ok(None);
        };
        Ok(PODS.iter().position(|set| set.contains(&visit.said.server.as_str())))
    }

    /// The addresses of all that serve, at a port.
    pub(crate) fn servers(&self, port: u16) -> Result<Vec<SocketAddr>> {
        let pods = PODS.iter().flatten();
        pods.map(|name| Ok(self.world.pod(name)?.at(Family::V4, port))).collect()
    }

    /// Whether all of these Services answer.
    pub(crate) fn serves(&self, socket: Socket, services: &[SocketAddr]) -> Result<bool> {
        let Some(&first) = services.first() else { bail!("no Services to look at") };
        let count = u32::try_from(services.len()).context("too many Services")?;
        let mut burst = Burst::new(socket, first, count);
        burst.to = services.to_vec();
        Ok(self.world.pod("client")?.burst(burst)?.failures.is_empty())
    }

    fn agent(&self, mode: &str, kubeconfig: &Path) -> Result<Command> {
        let agent = env::var_os(AGENT).with_context(|| format!("{AGENT} names no agent"))?;
        let mut command = Command::new(agent);
        command
            .args(["--mode", mode, "--node-name", World::OWN_NODE])
            .args(["--cluster-cidr", &cluster_cidr(Family::V4).to_string()])
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .arg("--cgroup")
            .arg(self.world.cgroup())
            .arg("--pin-path")
            .arg(self.world.pin_path());
        Ok(command)
    }
}

/// A proxy's process. It ends with this.
pub(crate) struct Proxy {
    process: Child,
    log: PathBuf,
    cgroup: PathBuf,
}

impl Proxy {
    /// Stops it in the middle of what it does, so that others have the machine.
    pub(crate) fn sleep(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets it go on.
    pub(crate) fn wake(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Processor time that it and the programs that it calls have used, also those that have not
    /// ended: what its cgroup says, where beside it there is only the host's probe, which sleeps.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(self.cgroup.join("cpu.stat")).context("no cgroup")?;
        let usage = stat.lines().find_map(|line| line.strip_prefix("usage_usec "));
        let usage = usage.context("cpu.stat is not as it should be")?;
        Ok(Duration::from_micros(usage.parse().context("cpu.stat is not as it should be")?))
    }

    /// VmRSS and VmHWM, in bytes.
    pub(crate) fn memory(&self) -> Result<[u64; 2]> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))
            .context("a proxy is gone")?;
        Ok(["VmRSS:", "VmHWM:"].map(|name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            number.unwrap_or_default() * 1024
        }))
    }

    /// Why it may have failed.
    pub(crate) fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let mut lines: Vec<&str> = log.lines().rev().take(15).collect();
        lines.reverse();
        lines.join("\n")
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.process.id().cast_signed()), signal).context("a proxy is gone")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
