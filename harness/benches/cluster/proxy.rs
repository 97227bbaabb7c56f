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
    apiserver::{ApiServer, Credential, Programs, Relay, kube_proxy},
    probe::{Burst, ProbeProgram, Socket, Transport},
    world::{World, WorldBuilder, cluster_cidr},
};

use crate::cluster::{PODS, PORT};

/// The variable that names the agent's binary; `cargo xtask bench` builds and names it.
const AGENT: &str = "SHUNT_AGENT";

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The agent with both dataplanes, its default.
    Shunt,
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
            Self::ShuntPackets => "Shunt, packet path alone",
            Self::KubeNftables => "kube-proxy, nftables",
            Self::KubeIptables => "kube-proxy, iptables",
        }
    }
}

/// A world in which one proxy serves.
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
            pod.serve(Transport::Tcp, &[SocketAddr::new(pod.address4().into(), PORT)])?;
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
        let mut command = match kind {
            Kind::Shunt => self.agent("auto", &kubeconfig)?,
            Kind::ShuntPackets => self.agent("nftables", &kubeconfig)?,
            Kind::KubeNftables => kube_proxy(programs, &self.world, "nftables", &kubeconfig)?,
            Kind::KubeIptables => kube_proxy(programs, &self.world, "iptables", &kubeconfig)?,
        };
        let log = self.world.folder().join("proxy.log");
        let output = File::create(&log).context("cannot write a proxy's log")?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        let process = self.world.host().command(command)?.spawn();
        let process = process.with_context(|| format!("cannot start {}", kind.name()))?;
        Ok(Proxy { process, log })
    }

    /// From which of the sets of pods an answer comes at this address; `None` if from none.
    pub(crate) fn set(&self, to: SocketAddr) -> Result<Option<usize>> {
        let Ok(visit) = self.world.pod("client")?.visit(Socket::tcp4(), to) else {
            return Ok(None);
        };
        Ok(PODS.iter().position(|set| set.contains(&visit.said.server.as_str())))
    }

    /// Whether all of these Services answer.
    pub(crate) fn serves(&self, services: &[SocketAddr]) -> Result<bool> {
        let Some(&first) = services.first() else { bail!("no Services to look at") };
        let count = u32::try_from(services.len()).context("too many Services")?;
        let mut burst = Burst::new(Socket::tcp4(), first, count);
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

    /// Processor time that it and the programs that it called have used.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(self.file("stat")).context("a proxy is gone")?;
        // The name of the program is in brackets, and may have spaces.
        let (_, fields) = stat.rsplit_once(')').context("stat is not as it should be")?;
        // utime, stime, and the same of children that were waited for, in hundredths of a second.
        let ticks = fields.split_whitespace().skip(11).take(4);
        let ticks: u64 = ticks.map(|field| field.parse::<u64>().unwrap_or_default()).sum();
        Ok(Duration::from_millis(ticks * 10))
    }

    /// VmRSS and VmHWM, in bytes.
    pub(crate) fn memory(&self) -> Result<[u64; 2]> {
        let status = fs::read_to_string(self.file("status")).context("a proxy is gone")?;
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

    fn file(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.process.id().to_string()).join(name)
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
