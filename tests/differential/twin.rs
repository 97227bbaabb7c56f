//! One of two worlds that are the same but for the proxy.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs::{self, File},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use shunt_core::model::Family;
use shunt_harness::{
    apiserver::{ApiServer, Credential, Programs, Relay, kube_proxy},
    probe::{Failure, Fate, ProbeProgram, Socket, Transport},
    until,
    world::{Addresses, KernelSocket, Pod, World, cluster_cidr},
};

use crate::{
    generate::{PODS, PORT},
    look::{Cell, Outcome},
};

/// No condition takes this long.
const LIMIT: Duration = Duration::from_secs(60);

/// How long silence is waited for, at the first look.
const SILENCE: Duration = Duration::from_millis(400);

/// Knocks for each cell at the first look: of three endpoints one is missed once in 40 times, and
/// what then differs is looked at again.
const KNOCKS: u32 = 12;

/// Sockets of one pod that are open at once.
const AT_ONCE: usize = 500;

/// The first port of UDP sockets: above that of servers.
const FIRST_PORT: u16 = 10_000;

/// Who serves.
pub(crate) enum Proxy {
    KubeProxy(Programs),
    /// The agent in a mode.
    Shunt(&'static str),
}

/// A world with a proxy.
pub(crate) struct Twin {
    process: Child,
    /// The last local port of a UDP socket.
    ports: RefCell<u16>,
    _relay: Relay,
    // Removed after the proxy has ended.
    pub(crate) world: World,
}

impl Twin {
    pub(crate) fn start(
        program: &ProbeProgram,
        server: &ApiServer<'_>,
        proxy: &Proxy,
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
        let mut command = match proxy {
            Proxy::KubeProxy(programs) => kube_proxy(programs, &world, "nftables", &kubeconfig)?,
            Proxy::Shunt(mode) => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_shunt"));
                let cidrs = Family::ALL.map(|family| cluster_cidr(family).to_string());
                command
                    .args(["--mode", mode, "--node-name", World::OWN_NODE])
                    .args(["--cluster-cidr", &cidrs.join(",")])
                    .arg("--kubeconfig")
                    .arg(kubeconfig)
                    .arg("--cgroup")
                    .arg(world.cgroup())
                    .arg("--pin-path")
                    .arg(world.pin_path());
                command
            }
        };
        let log = File::create(world.folder().join("proxy.log")).context("cannot make a log")?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = world.host().command(command)?.spawn().context("cannot start a proxy")?;
        Ok(Self { process, ports: RefCell::new(FIRST_PORT), _relay: relay, world })
    }

    /// The addresses of the node.
    pub(crate) const fn node(&self) -> Addresses {
        self.world.host().addresses()
    }

    /// Waits until a Service answers.
    pub(crate) fn until_served(&self, to: SocketAddr) -> Result<()> {
        let client = self.world.pod("client")?;
        let served = until("a Service to be served", LIMIT, || {
            client.visit(Socket::of(Transport::Tcp, to), to).ok().map(drop)
        });
        served.with_context(|| {
            fs::read_to_string(self.world.folder().join("proxy.log")).unwrap_or_default()
        })
    }

    /// What comes of each cell; `patience` is how many times longer than usual to look.
    pub(crate) fn look(&self, cells: &[Cell], patience: u32) -> Result<Vec<Outcome>> {
        let mut outcomes = vec![None; cells.len()];
        let mut by_client: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (number, cell) in cells.iter().enumerate() {
            by_client.entry(cell.client).or_default().push(number);
        }
        for (client, numbers) in by_client {
            let pod = if client == World::OWN_NODE {
                self.world.host()
            } else {
                self.world.pod(client)?
            };
            let chunk = (AT_ONCE / (KNOCKS * patience) as usize).max(1);
            for some in numbers.chunks(chunk) {
                let chosen: Vec<&Cell> = some.iter().map(|&number| &cells[number]).collect();
                let found = look(pod, &chosen, patience, &mut self.ports.borrow_mut())?;
                for (&number, outcome) in some.iter().zip(found) {
                    outcomes[number] = Some(outcome);
                }
            }
        }
        let all: Option<Vec<Outcome>> = outcomes.into_iter().collect();
        all.context("a cell was not looked at")
    }
}

impl Drop for Twin {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Knocks several times for each cell, at all of them at once, and hears who opens.
fn look(pod: &Pod, cells: &[&Cell], patience: u32, ports: &mut u16) -> Result<Vec<Outcome>> {
    let mut knocks = Vec::new();
    for (number, cell) in cells.iter().enumerate() {
        for _ in 0..KNOCKS * patience {
            let socket = pod.open(Socket::of(cell.transport, cell.to))?;
            if cell.transport == Transport::Udp {
                // Datagrams between the same ports are one flow, which goes on where it went.
                *ports = if *ports > 60_000 { FIRST_PORT } else { *ports + 1 };
                socket.bind(SocketAddr::new(unspecified(cell.to), *ports))?;
            }
            let heard = socket.knock(cell.to).err().map(|failure| words(&failure));
            knocks.push(Knock { cell: number, socket, heard });
        }
    }
    let start = Instant::now();
    while knocks.iter().any(|knock| knock.heard.is_none()) && start.elapsed() < SILENCE * patience {
        for knock in &mut knocks {
            if knock.heard.is_none() {
                knock.heard = knock.look()?;
            }
        }
    }
    let mut outcomes = vec![Outcome::default(); cells.len()];
    for knock in knocks {
        let heard = knock.heard.unwrap_or_else(|| "silence".to_owned());
        outcomes[knock.cell].0.insert(heard);
    }
    Ok(outcomes)
}

/// A socket that waits for an answer.
struct Knock<'a> {
    /// Which of the cells it is for.
    cell: usize,
    socket: KernelSocket<'a>,
    /// Who answered and what source it saw, or an error.
    heard: Option<String>,
}

impl Knock<'_> {
    /// What it has heard by now.
    fn look(&self) -> Result<Option<String>> {
        match self.socket.fate()? {
            Fate::Waiting => Ok(None),
            Fate::Failed(errno) => Ok(Some(format!("{:?}", Errno::from_raw(errno)))),
            Fate::Answered => match self.socket.receive() {
                Ok(received) => {
                    let said = received.said;
                    Ok(Some(format!("{} sees {}", said.server, said.source.ip())))
                }
                // Connected, and the greeting is on its way.
                Err(failure) if failure.errno().is_some_and(|(_, no)| no == Errno::EAGAIN) => {
                    Ok(None)
                }
                Err(failure) => Ok(Some(words(&failure))),
            },
        }
    }
}

/// The error, whichever call it came from: a refusal at once and one a moment later are the same.
fn words(failure: &Failure) -> String {
    failure.errno().map_or_else(|| failure.to_string(), |(_, errno)| format!("{errno:?}"))
}

fn unspecified(to: SocketAddr) -> IpAddr {
    match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}
