//! One of two worlds that are the same but for the proxy.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::{IpAddr, SocketAddr},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use shunt_core::model::{Family, Protocol};
use shunt_harness::{
    apiserver::{ApiServer, Credential, KubeProxyOptions, Programs, Relay, kube_proxy},
    probe::{ProbeProgram, Socket, Transport},
    until,
    world::{Addresses, Pod, World, cluster_cidr},
};

use crate::{
    generate::{PODS, PORT},
    knock::{self, Door},
    look::{Cell, Outcome},
    sctp,
    settings::{Modes, Settings},
};

/// How long a proxy may take to serve what it was told. kube-proxy tries a failed sync again after
/// half a minute, and on a machine that has no time for it several fail.
const LIMIT: Duration = Duration::from_secs(600);

/// How long silence is waited for, at the first look.
pub(crate) const QUIET: Duration = Duration::from_millis(400);

/// Knocks for each cell at the first look: of three endpoints one is missed once in 40 times, and
/// what then differs is looked at again.
const KNOCKS: u32 = 12;

/// How many times more knocks are worth it, however long one looks.
const ENOUGH: u32 = 4;

/// Knocks for each cell.
pub(crate) fn knocks(patience: u32) -> usize {
    (KNOCKS * patience.min(ENOUGH)) as usize
}

/// The local ports of knocks: above those of servers.
const PORTS: std::ops::Range<u16> = 10_000..60_000;

/// Who serves.
#[derive(Clone, Copy)]
pub(crate) enum Proxy<'a> {
    KubeProxy(&'a Programs),
    Shunt,
}

/// A world with a proxy.
pub(crate) struct Twin {
    process: Child,
    /// How many ports were used.
    ports: AtomicU32,
    names: BTreeMap<IpAddr, String>,
    _relay: Relay,
    // Removed after the proxy has ended.
    pub(crate) world: World,
}

impl Twin {
    pub(crate) fn start(
        program: &ProbeProgram,
        server: &ApiServer<'_>,
        proxy: Proxy<'_>,
        modes: Modes,
        settings: &Settings,
    ) -> Result<Self> {
        let world = World::standard(program)?;
        for (name, _, _) in PODS {
            let pod = world.pod(name)?;
            let addresses = Family::ALL.map(|family| pod.at(family, PORT));
            for transport in [Transport::Tcp, Transport::Udp] {
                pod.serve(transport, &addresses)?;
            }
        }
        let mut kubeconfig = server.kubeconfig(Credential::Token(ApiServer::PROXY.to_owned()));
        let relay = Relay::start(server.address(), &world)?;
        kubeconfig.server = format!("https://{}", relay.address());
        let kubeconfig = kubeconfig.write(world.folder(), "proxy")?;
        let &Settings { knows_pods, node_port_addresses, .. } = settings;
        let mut command = match proxy {
            Proxy::KubeProxy(programs) => {
                let mode = modes.theirs;
                let options = KubeProxyOptions { mode, knows_pods, node_port_addresses };
                kube_proxy(programs, &world, options, &kubeconfig)?
            }
            Proxy::Shunt => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_shunt"));
                command
                    .args(["--mode", modes.ours, "--node-name", World::OWN_NODE])
                    .args(["--nodeport-addresses", &node_port_addresses.join(",")])
                    .arg("--kubeconfig")
                    .arg(kubeconfig)
                    .arg("--cgroup")
                    .arg(world.cgroup())
                    .arg("--pin-path")
                    .arg(world.pin_path());
                if knows_pods {
                    let nets = Family::ALL.map(|family| cluster_cidr(family).to_string());
                    command.args(["--cluster-cidr", &nets.join(",")]);
                }
                command
            }
        };
        let log = File::create(world.folder().join("proxy.log")).context("cannot make a log")?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = world.host().command(command)?.spawn().context("cannot start a proxy")?;
        Ok(Self { process, ports: AtomicU32::new(0), names: names(&world), _relay: relay, world })
    }

    /// The addresses of the node.
    pub(crate) const fn node(&self) -> Addresses {
        self.world.host().addresses()
    }

    /// Who has an address, for people.
    pub(crate) fn name(&self, address: IpAddr) -> String {
        self.names.get(&address).cloned().unwrap_or_else(|| address.to_string())
    }

    /// A local port that none had for long.
    pub(crate) fn fresh_port(&self) -> u16 {
        let number = self.ports.fetch_add(1, Ordering::Relaxed) % PORTS.len() as u32;
        PORTS.start + u16::try_from(number).unwrap_or_default()
    }

    /// Waits until a Service answers.
    pub(crate) fn until_served(&mut self, to: SocketAddr) -> Result<()> {
        let client = self.world.pod("client")?;
        let process = &mut self.process;
        let served = until("a Service to be served", LIMIT, || match process.try_wait() {
            Ok(None) => client.visit(Socket::of(Transport::Tcp, to), to).ok().map(|_| Ok(())),
            ended => Some(Err(anyhow::anyhow!("the proxy ended: {ended:?}"))),
        });
        served.and_then(|served| served).with_context(|| self.end_of_log())
    }

    /// What the proxy said last.
    fn end_of_log(&self) -> String {
        let log = fs::read_to_string(self.world.folder().join("proxy.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// What comes of each cell; `patience` is how many times longer than usual to look.
    pub(crate) fn look(&self, cells: &[Cell], patience: u32) -> Result<Vec<Outcome>> {
        let mut outcomes = vec![None; cells.len()];
        let mut by_client: BTreeMap<&str, (Vec<usize>, Vec<Door>)> = BTreeMap::new();
        for (number, cell) in cells.iter().enumerate() {
            let transport = match cell.protocol {
                Protocol::Tcp => Transport::Tcp,
                Protocol::Udp => Transport::Udp,
                Protocol::Sctp => {
                    let pod = self.pod(cell.client)?;
                    outcomes[number] = Some(sctp::knock(self, pod, cell.to, patience)?);
                    continue;
                }
            };
            let (numbers, doors) = by_client.entry(cell.client).or_default();
            numbers.push(number);
            doors.push((transport, cell.to));
        }
        thread::scope(|scope| {
            let mut looking = Vec::new();
            for (client, (numbers, doors)) in by_client {
                let pod = self.pod(client)?;
                let look = move || knock::knock(self, pod, &doors, patience);
                looking.push((numbers, scope.spawn(look)));
            }
            for (numbers, looking) in looking {
                let found = looking.join().unwrap_or_else(|_| bail!("a look panicked"))?;
                for (number, outcome) in numbers.into_iter().zip(found) {
                    outcomes[number] = Some(outcome);
                }
            }
            anyhow::Ok(())
        })?;
        let all: Option<Vec<Outcome>> = outcomes.into_iter().collect();
        all.context("a cell was not looked at")
    }

    fn pod(&self, client: &str) -> Result<&Pod> {
        if client == World::OWN_NODE { Ok(self.world.host()) } else { self.world.pod(client) }
    }
}

impl Drop for Twin {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn names(world: &World) -> BTreeMap<IpAddr, String> {
    let mut names = BTreeMap::new();
    let mut add = |name: &str, addresses: Addresses| {
        for family in Family::ALL {
            names.insert(addresses.of(family), name.to_owned());
        }
    };
    for pod in world.pods() {
        add(pod.name(), pod.addresses());
    }
    add(World::OWN_NODE, world.host().addresses());
    add("node-a's second address", world.second_host_addresses());
    names
}
